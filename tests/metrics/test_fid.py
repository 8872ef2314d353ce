import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

from vitgan.metrics.distances import Gaussian, extrapolated_distance, frechet_distance
from vitgan.metrics.statistics import FeatureStatistics


def rotation(dimension: int, seed: int) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(np.linalg.qr(rng.standard_normal((dimension, dimension)))[0])


def fitted(features: Tensor) -> Gaussian:
    statistics = FeatureStatistics(features.shape[1])
    statistics.update(features)
    return Gaussian.fitted(statistics)


class Identity(nn.Module):
    """Hands features through torchmetrics as if they were images."""

    num_features = 16

    def forward(self, features: Tensor) -> Tensor:
        return features


def torchmetrics_distance(generated: Tensor, real: Tensor) -> float:
    metric = FrechetInceptionDistance(feature=Identity(), input_img_size=(1, 1, 1))
    metric.set_dtype(torch.float64)
    metric.update(real, real=True)
    metric.update(generated, real=False)
    return metric.compute().item()


def test_closed_form_of_commuting_covariances() -> None:
    """With a common eigenbasis the distance is |Δμ|² + Σ (√a - √b)²."""
    rng = np.random.default_rng(0)
    a, b = torch.from_numpy(rng.uniform(0, 5, 30)), torch.from_numpy(rng.uniform(0, 5, 30))
    first, second = torch.from_numpy(rng.standard_normal(30)), torch.from_numpy(rng.standard_normal(30))
    basis = rotation(30, 1)
    expected = (first - second).square().sum() + (a.sqrt() - b.sqrt()).square().sum()
    distance = frechet_distance(Gaussian.of(first, basis * a @ basis.T), Gaussian.of(second, basis * b @ basis.T))
    assert distance == pytest.approx(expected.item(), rel=1e-12)


def test_closed_form_where_covariances_are_singular() -> None:
    a, b = torch.zeros(40).double(), torch.zeros(40).double()
    a[:12], b[8:25] = torch.linspace(1, 9, 12), torch.linspace(2, 1e-3, 17)
    basis, zero = rotation(40, 2), torch.zeros(40)
    distance = frechet_distance(Gaussian.of(zero, basis * a @ basis.T), Gaussian.of(zero, basis * b @ basis.T))
    assert distance == pytest.approx((a.sqrt() - b.sqrt()).square().sum().item(), rel=1e-10)


def test_closed_form_where_one_covariance_has_rank_one() -> None:
    """As that of equal images has by rounding; on some of these the decomposition of MKL does not converge."""
    size, zero = 400, torch.zeros(400)
    other = Gaussian.of(zero, torch.eye(size))
    for seed in range(60):
        rng = np.random.default_rng(seed)
        step = torch.from_numpy(1e-6 * rng.standard_normal(size) * (rng.random(size) < 0.07))
        distance = frechet_distance(Gaussian.of(zero, torch.outer(step, step)), other)
        assert distance == pytest.approx((step.norm() - 1).item() ** 2 + size - 1, rel=1e-12)


def test_two_dimensions_that_do_not_commute() -> None:
    """For 2×2 matrices tr √M = √(tr M + 2 √det M), here with M = Σ₁ Σ₂."""
    one = torch.tensor([[2.0, 1.0], [1.0, 3.0]]).double()
    two = torch.tensor([[1.0, -0.5], [-0.5, 4.0]]).double()
    product = one @ two
    root_trace = (product.trace() + 2 * torch.linalg.det(product).sqrt()).sqrt()
    expected = 4 + one.trace() + two.trace() - 2 * root_trace
    distance = frechet_distance(Gaussian.of(torch.tensor([2.0, 0]), one), Gaussian.of(torch.zeros(2), two))
    assert distance == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("count", [400, 10])  # fewer samples than features: singular covariances
def test_equals_torchmetrics(count: int) -> None:
    rng = np.random.default_rng(count)
    real = torch.from_numpy(rng.standard_normal((count, 16)) @ rng.standard_normal((16, 16)))
    generated = torch.from_numpy(rng.standard_normal((count, 16)) @ rng.standard_normal((16, 16)) + 0.3)
    distance = frechet_distance(fitted(generated), fitted(real))
    assert distance == pytest.approx(torchmetrics_distance(generated, real), rel=1e-6)


def test_nothing_is_at_no_distance_from_itself() -> None:
    rng = np.random.default_rng(0)
    gaussian = fitted(torch.from_numpy(rng.standard_normal((20, 50))))
    assert frechet_distance(gaussian, gaussian) == pytest.approx(0, abs=1e-11)


def test_extrapolation_removes_what_falls_with_one_over_n() -> None:
    def biased(count: int) -> float:
        return 3.0 + 700 / count

    assert extrapolated_distance(biased(1000), [biased(500)] * 4) == pytest.approx(3.0, rel=1e-12)
