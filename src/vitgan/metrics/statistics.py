"""Statistics of a stream of images, with constant memory: those of its parts merge into those of the whole.

Random decisions about an image depend on its place in the stream alone: they are the same whatever batches or processes
it comes in.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor

BLOCK = 1024  # rows joined at once, so that the pass over the D² scatter is shared by many


class Purpose(IntEnum):
    """Decisions that must not depend on one another."""

    HALF = 0
    SPLIT = 1
    SAMPLE = 2


def priorities(seed: int, purpose: Purpose, start: int, count: int) -> np.ndarray:
    """Uniform numbers in [0, 1) for the places start ... start + count - 1: (count,) float64."""
    bits = np.random.PCG64(np.random.SeedSequence((seed, int(purpose))))
    bits.advance(start)  # one draw a place
    return np.random.Generator(bits).random(count)


def groups(seed: int, purpose: Purpose, start: int, count: int, number: int) -> np.ndarray:
    """Which of `number` equally large random groups each place belongs to: (count,) int64.

    Every run of `number` places, counted from 0, is dealt out at random, one place to each group. (By turns would be
    simpler, and wrong for streams that go through the classes by turns.)
    """
    first, last = start // number, -(-(start + count) // number)
    drawn = priorities(seed, purpose, first * number, (last - first) * number)
    ranks = drawn.reshape(-1, number).argsort(axis=1).argsort(axis=1).reshape(-1)
    skipped = start - first * number
    return ranks[skipped : skipped + count]


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


@dataclass
class ClassStatistics:
    """What the Inception Score needs of the logits seen so far, for each split.

    The score is exp of the mean divergence between an image's class probabilities and the average's (Salimans et al.
    2016, "Improved Techniques for Training GANs").

    Attributes:
        count: (splits,) float64.
        probability: (splits, K) float64, sums of class probabilities.
        negentropy: (splits,) float64, sums of Σ p log p.
    """

    count: Tensor
    probability: Tensor
    negentropy: Tensor

    @classmethod
    def empty(cls, splits: int, classes: int) -> "ClassStatistics":
        zeros = torch.zeros(splits, dtype=torch.float64)
        return cls(zeros, torch.zeros(splits, classes, dtype=torch.float64), zeros.clone())

    def update(self, logits: Tensor, split: Tensor) -> None:
        """Adds logits (B, K), the i-th image's to the split `split[i]` (B,) int64."""
        log_probability = logits.double().log_softmax(dim=1)
        probability = log_probability.exp()
        self.count.index_add_(0, split, torch.ones(len(split), dtype=torch.float64))
        self.probability.index_add_(0, split, probability)
        self.negentropy.index_add_(0, split, (probability * log_probability).sum(dim=1))

    def merge(self, other: "ClassStatistics") -> None:
        """Adds what another stream has seen."""
        self.count += other.count
        self.probability += other.probability
        self.negentropy += other.negentropy

    def score(self) -> tuple[float, float]:
        """Mean and population standard deviation of the score over splits; empty splits are left out."""
        used = self.count > 0
        count = self.count[used]
        average = self.probability[used] / count[:, None]
        scores = (self.negentropy[used] / count - torch.xlogy(average, average).sum(dim=1)).exp()
        return scores.mean().item(), scores.std(correction=0).item()


class FeatureSample:
    """A uniform sample: the `size` features whose places in the stream drew the smallest random numbers.

    Which ones these are depends on the seed and the places alone, so samples of parts of a stream merge into the
    sample of the whole.

    Args:
        size: Features kept at most.
        dimension: Of a feature.
        seed: Of the drawing.
    """

    def __init__(self, size: int, dimension: int, seed: int) -> None:
        self.size = size
        self.seed = seed
        self._positions = np.empty(0, np.int64)
        self._priorities = np.empty(0)
        self._features = torch.empty(0, dimension)
        self._waiting: list[tuple[np.ndarray, np.ndarray, Tensor]] = []
        self._waiting_count = 0

    def update(self, features: Tensor, position: int) -> None:
        """Offers features (B, D) float32 of the places position ... position + B - 1."""
        drawn = priorities(self.seed, Purpose.SAMPLE, position, len(features))
        self._offer(np.arange(position, position + len(features)), drawn, features)

    def merge(self, other: "FeatureSample") -> None:
        """Offers what another sample, with the same size and seed, has kept."""
        positions, features = other.kept()
        self._offer(positions, other._priorities, features)

    def kept(self) -> tuple[np.ndarray, Tensor]:
        """The sample in the stream's order: places (n,) int64 and features (n, D) float32."""
        self._settle()
        return self._positions, self._features

    def _offer(self, positions: np.ndarray, drawn: np.ndarray, features: Tensor) -> None:
        threshold = self._priorities.max() if len(self._priorities) == self.size else np.inf
        better = np.flatnonzero(drawn < threshold)
        if len(better) == 0:
            return
        self._waiting.append((positions[better], drawn[better], features[torch.from_numpy(better)]))
        self._waiting_count += len(better)
        if self._waiting_count >= max(self.size // 4, 1024):
            self._settle()

    def _settle(self) -> None:
        """Joins what is waiting with what is kept, and drops the rest."""
        if not self._waiting:
            return
        positions = np.concatenate([self._positions, *(entry[0] for entry in self._waiting)])
        drawn = np.concatenate([self._priorities, *(entry[1] for entry in self._waiting)])
        features = torch.cat([self._features, *(entry[2] for entry in self._waiting)])
        self._waiting, self._waiting_count = [], 0
        best = np.argsort(drawn)[: self.size]
        best = best[np.argsort(positions[best])]
        self._positions, self._priorities = positions[best], drawn[best]
        self._features = features[torch.from_numpy(best)]

    def state(self) -> dict[str, np.ndarray]:
        """Arrays that `restore` takes back."""
        positions, features = self.kept()
        return {"positions": positions, "priorities": self._priorities, "features": features.numpy()}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Replaces the content by what `state` returned."""
        self._waiting, self._waiting_count = [], 0
        self._positions, self._priorities = state["positions"], state["priorities"]
        self._features = torch.from_numpy(state["features"])
