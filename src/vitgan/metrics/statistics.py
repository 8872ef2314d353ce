"""Mean and covariance of a stream of features: float64, constant memory, mergeable."""

import torch
from torch import Tensor

BLOCK = 1024  # rows joined at once, so that the pass over the D² scatter is shared by many


class FeatureStatistics:
    """Count, mean and scatter of the features seen so far.

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
        self._waiting_count = 0

    @classmethod
    def of(cls, count: int, mean: Tensor, scatter: Tensor) -> "FeatureStatistics":
        """From what another's attributes said."""
        statistics = cls(len(mean))
        statistics._count, statistics._mean, statistics._scatter = count, mean, scatter
        return statistics

    def update(self, features: Tensor) -> None:
        """Adds features (B, D) of any float type."""
        self._waiting.append(features)
        self._waiting_count += len(features)
        if self._waiting_count >= BLOCK:
            self._settle()

    def merge(self, other: "FeatureStatistics") -> None:
        """Adds what another stream has seen."""
        self._settle()
        if other.count:
            self._scatter += other.scatter
            self._join(other.count, other.mean)

    def copy(self) -> "FeatureStatistics":
        return FeatureStatistics.of(self.count, self.mean.clone(), self.scatter.clone())

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

    def _settle(self) -> None:
        """Adds the waiting rows."""
        if not self._waiting_count:
            return
        rows = torch.cat(self._waiting).double()
        self._waiting, self._waiting_count = [], 0
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
