"""Inception Score, streamed: exp of the mean divergence between an image's class probabilities and the average's.

Source: Salimans et al. 2016, "Improved Techniques for Training GANs".
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class ClassStatistics:
    """What the score needs of the logits seen so far, for each split.

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
