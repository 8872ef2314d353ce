import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchmetrics.image.inception import InceptionScore

from vitgan.metrics.statistics import ClassStatistics


class Identity(nn.Module):
    """Hands logits through torchmetrics as if they were images."""

    def forward(self, logits: Tensor) -> Tensor:
        return logits


def some_logits(count: int = 120, classes: int = 9) -> Tensor:
    rng = np.random.default_rng(5)
    return torch.from_numpy(2 * rng.standard_normal((count, classes)))


def collected(logits: Tensor, split: Tensor, splits: int) -> ClassStatistics:
    statistics = ClassStatistics(splits, logits.shape[1])
    statistics.update(logits, split)
    return statistics


@pytest.mark.filterwarnings("ignore:Metric")  # torchmetrics keeps all features
def test_equals_torchmetrics(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, splits = some_logits(), 4
    split = torch.from_numpy(np.random.default_rng(0).permutation(np.arange(120) % splits))
    mean, std = collected(logits, split, splits).score()

    # torchmetrics shuffles and then cuts into runs: give it our splits as runs, and leave them there.
    monkeypatch.setattr(torch, "randperm", torch.arange)
    metric = InceptionScore(feature=Identity(), splits=splits)
    metric.update(logits[split.argsort(stable=True)])
    expected_mean, expected_std = metric.compute()
    assert mean == pytest.approx(expected_mean.item(), rel=1e-6)
    assert std * (splits / (splits - 1)) ** 0.5 == pytest.approx(expected_std.item(), rel=1e-6)


def test_extremes() -> None:
    certain = 1e4 * torch.eye(6)
    everything = torch.zeros(6, dtype=torch.int64)
    assert collected(certain, everything, 1).score()[0] == pytest.approx(6)
    assert collected(certain[:1].repeat(6, 1), everything, 1).score()[0] == pytest.approx(1)
    assert collected(torch.zeros(6, 6), everything, 1).score()[0] == pytest.approx(1)


def test_an_empty_split_does_not_count() -> None:
    logits = some_logits(10)
    one = collected(logits, torch.zeros(10, dtype=torch.int64), 1)
    of_two = collected(logits, torch.ones(10, dtype=torch.int64), 2)
    assert of_two.score() == pytest.approx(one.score())
