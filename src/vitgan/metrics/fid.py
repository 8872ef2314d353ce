"""Fréchet distance between Gaussians (FID, where the features are Inception's), and its value for endless samples."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vitgan.metrics.statistics import FeatureStatistics


@dataclass(frozen=True)
class Gaussian:
    """A normal distribution with its covariance factored once, for any number of distances.

    Attributes:
        mean: (D,) float64.
        trace: Of the covariance.
        factor: (D, r) float64 with covariance = factor · factorᵀ and r its numerical rank.
    """

    mean: Tensor
    trace: Tensor
    factor: Tensor

    @classmethod
    def of(cls, mean: Tensor, covariance: Tensor) -> "Gaussian":
        """Factors by symmetric eigendecomposition; eigenvalues that are rounding noise are dropped.

        Args:
            mean: (D,).
            covariance: (D, D), symmetric positive semi-definite; may be rank-deficient.
        """
        covariance = covariance.double()
        values, vectors = torch.linalg.eigh(covariance)
        noise = values[-1].clamp_min(0) * len(values) * torch.finfo(torch.float64).eps
        kept = values > noise
        return cls(mean.double(), covariance.trace(), vectors[:, kept] * values[kept].sqrt())

    @classmethod
    def fitted(cls, statistics: FeatureStatistics) -> "Gaussian":
        return cls.of(statistics.mean, statistics.covariance)


def frechet_distance(first: Gaussian, second: Gaussian) -> float:
    """|μ₁ - μ₂|² + tr Σ₁ + tr Σ₂ - 2 tr (Σ₁ Σ₂)^½, the squared 2-Wasserstein distance.

    With Σ = L Lᵀ the last trace is the sum of the singular values of L₁ᵀ L₂: unlike a root of the product Σ₁ Σ₂ it
    stays real, and it keeps full precision where covariances are singular (fewer samples than features).
    """
    overlap = torch.linalg.svdvals(first.factor.T @ second.factor).sum()
    distance = (first.mean - second.mean).square().sum() + first.trace + second.trace - 2 * overlap
    return distance.item()


def extrapolated_distance(whole: float, halves: list[float]) -> float:
    """Fréchet distance as it would be for infinitely many samples on both sides, estimated from two sizes.

    With n samples the distance is too large by nearly c/n. The line through its values at n/2 (mean of `halves`) and n
    (`whole`) over 1/n meets 0 at 2·whole - halves. It is not the FID-infinity of Chong & Forsyth (2020, "Effectively
    Unbiased FID"), who fit a line to many sizes of the generated side alone, against all real images.
    """
    return 2 * whole - sum(halves) / len(halves)
