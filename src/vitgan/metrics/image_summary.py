"""All that the metrics need to know of a set of images, gathered in one pass with constant memory.

Random decisions about an image depend on its place in the stream alone: they are the same whatever batches it comes in.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor

from vitgan.metrics.features import FeatureExtractor, rebatch
from vitgan.metrics.statistics import ClassStatistics, FeatureStatistics


class Purpose(IntEnum):
    """Decisions that must not depend on one another."""

    HALF = 0
    SPLIT = 1
    SAMPLE = 2


@dataclass(frozen=True)
class ImageSummary:
    """Statistics of images.

    Attributes:
        halves: Feature statistics of two random halves.
        classes: Class statistics for each split.
        features: (n, D) float32, of a uniform sample of the images, in their order.
    """

    halves: tuple[FeatureStatistics, FeatureStatistics]
    classes: ClassStatistics
    features: Tensor

    @property
    def count(self) -> int:
        """Images seen."""
        return sum(half.count for half in self.halves)

    def whole(self) -> FeatureStatistics:
        """Feature statistics of both halves together."""
        return self.halves[0].joined(self.halves[1])

    def tensors(self) -> dict[str, Tensor]:
        """What `of_tensors` makes the same summary of, bit for bit."""
        found = {f"classes.{name}": tensor for name, tensor in vars(self.classes).items()}
        for index, half in enumerate(self.halves):
            found[f"{index}.count"] = torch.tensor(half.count)
            found |= {f"{index}.mean": half.mean, f"{index}.scatter": half.scatter}
        return found | {"features": self.features}

    @classmethod
    def of_tensors(cls, tensors: dict[str, Tensor]) -> "ImageSummary":
        """From what `tensors` gave.

        Raises:
            KeyError: If something is missing.
        """
        first, second = (
            FeatureStatistics.of(int(tensors[f"{index}.count"]), tensors[f"{index}.mean"], tensors[f"{index}.scatter"])
            for index in (0, 1)
        )
        classes = ClassStatistics(0, 0)
        for name in vars(classes):
            setattr(classes, name, tensors[f"classes.{name}"])
        return cls((first, second), classes, tensors["features"])


def summarize(
    images: Iterable[Tensor],
    extractor: FeatureExtractor,
    *,
    splits: int,
    kept: int,
    seed: int,
    count: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> ImageSummary:
    """Extracts features and gathers their statistics.

    Args:
        images: Batches (b, C, H, W) uint8 of any sizes.
        extractor: Which features.
        splits: Splits of the Inception Score.
        kept: Features kept for the kernel distance and the manifolds.
        seed: Of all random decisions.
        count: Images to take; what comes after is not read.
        on_progress: Called with (images done, count).

    Raises:
        ValueError: `images` holds fewer than `count`.
    """
    half, split = groups(seed, Purpose.HALF, count, 2), groups(seed, Purpose.SPLIT, count, splits)
    in_sample = torch.zeros(count, dtype=torch.bool)
    in_sample[priorities(seed, Purpose.SAMPLE, count).argsort()[:kept].copy()] = True
    halves = FeatureStatistics(extractor.dimension), FeatureStatistics(extractor.dimension)
    classes, sample, done = None, [], 0
    for batch in rebatch(images, extractor.batch_size, limit=count):
        features, logits = (values.cpu() for values in extractor(batch))
        here = slice(done, done + len(batch))
        for index, statistics in enumerate(halves):
            statistics.update(features[half[here] == index])
        classes = classes or ClassStatistics(splits, logits.shape[1])
        classes.update(logits, split[here])
        sample.append(features[in_sample[here]])
        done += len(batch)
        if on_progress:
            on_progress(done, count)
    if classes is None or done < count:
        raise ValueError(f"{count} images were expected, {done} came")
    return ImageSummary(halves, classes, torch.cat(sample))


def priorities(seed: int, purpose: Purpose, count: int) -> np.ndarray:
    """A uniform number in [0, 1) for each place: (count,) float64."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, int(purpose))))).random(count)


def groups(seed: int, purpose: Purpose, count: int, number: int) -> Tensor:
    """Which of `number` equally large random groups each place belongs to: (count,) int64.

    Every run of `number` places is dealt out at random, one place to each group. (By turns would be simpler, and wrong for
    streams that go through the classes by turns.)
    """
    drawn = priorities(seed, purpose, -(-count // number) * number).reshape(-1, number)
    return torch.from_numpy(drawn.argsort(axis=1).argsort(axis=1).flatten()[:count])
