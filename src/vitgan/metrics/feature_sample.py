"""A uniform sample of bounded size from a stream of features, for the figures that need features themselves."""

import numpy as np
import torch
from torch import Tensor

from vitgan.metrics.position import Purpose, priorities


class FeatureSample:
    """Keeps the `size` features whose places in the stream drew the smallest random numbers.

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
