"""Distances between two sets of features: Fréchet's (FID, where they are Inception's) and the kernel distance (KID)."""

from dataclasses import dataclass

import numpy as np
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
        # torch's eigh (MKL) does not converge on some of rank 1, as equal images have by rounding; numpy's does.
        values, vectors = map(torch.from_numpy, np.linalg.eigh(covariance.numpy()))
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


def kernel_distance(
    generated: Tensor, real: Tensor, *, subsets: int, subset_size: int, seed: int
) -> tuple[float, float]:
    """Mean and standard deviation, over random subsets, of the squared maximum mean discrepancy.

    Unbiased (Bińkowski et al. 2018, "Demystifying MMD GANs").

    Args:
        generated: Features (N, D).
        real: Features (M, D).
        subsets: How many pairs of subsets are drawn.
        subset_size: Images in each, without replacement; no more than N or M are taken.
        seed: Of the drawing.

    Returns:
        Mean and population standard deviation over subsets.
    """
    size = min(subset_size, len(generated), len(real))
    rng = np.random.default_rng(seed)
    values = np.empty(subsets)
    for index in range(subsets):
        x = generated[torch.from_numpy(rng.choice(len(generated), size, replace=False))]
        y = real[torch.from_numpy(rng.choice(len(real), size, replace=False))]
        values[index] = squared_discrepancy(x.double(), y.double())
    return float(values.mean()), float(values.std())


def squared_discrepancy(x: Tensor, y: Tensor) -> float:
    """Unbiased squared MMD of (n, D) and (m, D) under the kernel (a·b / D + 1)³; may be negative."""

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1).pow_(3)

    def mean_off_diagonal(a: Tensor) -> Tensor:
        values = kernel(a, a)
        return (values.sum() - values.trace()) / (len(a) * (len(a) - 1))

    return (mean_off_diagonal(x) + mean_off_diagonal(y) - 2 * kernel(x, y).mean()).item()
