import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchmetrics.image.kid import KernelInceptionDistance

from vitgan.metrics.distances import kernel_distance, squared_discrepancy


class Identity(nn.Module):
    """Hands features through torchmetrics as if they were images."""

    def forward(self, features: Tensor) -> Tensor:
        return features


def two_sets(count: int = 60, dimension: int = 10) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(3)
    return (
        torch.from_numpy(rng.standard_normal((count, dimension)) + 0.4),
        torch.from_numpy(rng.standard_normal((count, dimension)) * 1.2),
    )


@pytest.mark.filterwarnings("ignore:Metric")  # torchmetrics keeps all features
def test_equals_torchmetrics() -> None:
    generated, real = two_sets()
    metric = KernelInceptionDistance(feature=Identity(), subsets=2, subset_size=len(real))
    metric.set_dtype(torch.float64)
    metric.update(real, real=True)
    metric.update(generated, real=False)
    expected, _ = metric.compute()
    mean, std = kernel_distance(generated, real, subsets=2, subset_size=len(real), seed=0)
    assert mean == pytest.approx(expected.item(), rel=1e-6)
    assert std == pytest.approx(0, abs=1e-12)


def test_definition_with_loops() -> None:
    x, y = (part[:7] for part in two_sets())

    def kernel(a: Tensor, b: Tensor) -> float:
        return (float(a @ b) / 10 + 1) ** 3

    within = sum(kernel(s[i], s[j]) for s in (x, y) for i in range(7) for j in range(7) if i != j) / 42
    between = sum(kernel(a, b) for a in x for b in y) / 49
    assert squared_discrepancy(x, y) == pytest.approx(within - 2 * between, rel=1e-10)


def test_subsets_scatter_around_the_whole() -> None:
    generated, real = two_sets(count=600)
    mean, std = kernel_distance(generated, real, subsets=200, subset_size=50, seed=1)
    assert std > 0
    assert abs(mean - squared_discrepancy(generated, real)) < 4 * std / 200**0.5


def test_seed_decides_and_small_sets_are_taken_whole() -> None:
    generated, real = two_sets()
    values = [kernel_distance(generated, real, subsets=3, subset_size=20, seed=seed)[0] for seed in (0, 0, 1)]
    assert values[0] == values[1] != values[2]
    whole = kernel_distance(generated, real, subsets=2, subset_size=5000, seed=0)[0]
    assert whole == pytest.approx(squared_discrepancy(generated, real), rel=1e-12)
