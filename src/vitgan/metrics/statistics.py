"""Statistics of streams of features and of class logits, with constant memory."""

import torch
from torch import Tensor

BLOCK = 1024  # rows joined at once, so that the pass over the D² scatter is shared by many


class FeatureStatistics:
    """Count, mean and scatter of the features seen so far, in float64.

    Deviations are summed around the running mean and joined by the rule of Chan, Golub and LeVeque (1983), so that a
    large common offset costs no digits, as it would with sums of squares.

    Args:
        dimension: Number of features D.
    """

    def __init__(self, dimension: int) -> None:
        self._count = 0
        self._mean = torch.zeros(dimension, dtype=torch.float64)
        self._scatter = torch.zeros(dimension, dimension, dtype=torch.float64)
        self._waiting: list[Tensor] = []

    @classmethod
    def of(cls, count: int, mean: Tensor, scatter: Tensor) -> "FeatureStatistics":
        """From what another's attributes said."""
        statistics = cls(0)
        statistics._count, statistics._mean, statistics._scatter = count, mean, scatter
        return statistics

    def update(self, features: Tensor) -> None:
        """Adds features (B, D) of any float type."""
        self._waiting.append(features)
        if self._waiting_count >= BLOCK:
            self._settle()

    def joined(self, other: "FeatureStatistics") -> "FeatureStatistics":
        """Those of both streams together."""
        both = FeatureStatistics.of(self.count, self.mean.clone(), self.scatter + other.scatter)
        if other.count:
            both._join(other.count, other.mean)
        return both

    @property
    def count(self) -> int:
        """Features seen."""
        return self._count + self._waiting_count

    @property
    def mean(self) -> Tensor:
        """(D,) float64."""
        self._settle()
        return self._mean

    @property
    def scatter(self) -> Tensor:
        """(D, D) float64, the sum of outer products of deviations from the mean."""
        self._settle()
        return self._scatter

    @property
    def covariance(self) -> Tensor:
        """Unbiased covariance (D, D); needs two features at least."""
        return self.scatter / (self.count - 1)

    @property
    def _waiting_count(self) -> int:
        return sum(map(len, self._waiting))

    def _settle(self) -> None:
        """Adds the waiting rows."""
        if not self._waiting_count:
            return
        rows, self._waiting = torch.cat(self._waiting).double(), []
        mean = rows.mean(dim=0)
        rows -= mean
        self._scatter.addmm_(rows.T, rows)
        self._join(len(rows), mean)

    def _join(self, count: int, mean: Tensor) -> None:
        """Joins `count` features of this mean, whose scatter around it has been added already."""
        total = self._count + count
        step = mean - self._mean
        self._scatter.addr_(step, step, alpha=self._count * count / total)
        self._mean += step * (count / total)
        self._count = total


class ClassStatistics:
    """What the Inception Score needs of the logits seen so far, for each split.

    The score is exp of the mean divergence between an image's class probabilities and the average's (Salimans et al.
    2016, "Improved Techniques for Training GANs").

    Attributes:
        count: (splits,) float64.
        probability: (splits, K) float64, sums of class probabilities.
        negentropy: (splits,) float64, sums of Σ p log p.
    """

    def __init__(self, splits: int, classes: int) -> None:
        self.count = torch.zeros(splits, dtype=torch.float64)
        self.probability = torch.zeros(splits, classes, dtype=torch.float64)
        self.negentropy = torch.zeros(splits, dtype=torch.float64)

    def update(self, logits: Tensor, split: Tensor) -> None:
        """Adds logits (B, K), the i-th image's to the split `split[i]` (B,) int64."""
        log_probability = logits.double().log_softmax(dim=1)
        probability = log_probability.exp()
        self.count.index_add_(0, split, torch.ones(len(split), dtype=torch.float64))
        self.probability.index_add_(0, split, probability)
        self.negentropy.index_add_(0, split, (probability * log_probability).sum(dim=1))

    def score(self) -> tuple[float, float]:
        """Mean and population standard deviation of the score over splits; empty splits are left out."""
        used = self.count > 0
        count = self.count[used]
        average = self.probability[used] / count[:, None]
        scores = (self.negentropy[used] / count - torch.xlogy(average, average).sum(dim=1)).exp()
        return scores.mean().item(), scores.std(correction=0).item()
