"""All that the metrics need to know of a set of images, gathered in one pass with constant memory."""

from collections.abc import Callable, Iterable
from typing import Protocol, Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from vitgan.metrics.features import FeatureExtractor, rebatch
from vitgan.metrics.statistics import ClassStatistics, FeatureSample, FeatureStatistics, Purpose, groups


class ImageSummary:
    """Statistics of a stream of images; those of parts of a stream merge into those of the whole.

    Args:
        dimension: Number of features.
        classes: Number of class logits.
        splits: Splits of the Inception Score.
        kept: Features kept for the kernel distance and the manifolds.
        seed: Of all random assignments of images, by their place in the stream.

    Attributes:
        halves: Feature statistics of two random halves.
        classes: Class statistics for each split.
        sample: The kept features.
    """

    def __init__(self, dimension: int, classes: int, *, splits: int, kept: int, seed: int) -> None:
        self.seed = seed
        self.splits = splits
        self.halves = (FeatureStatistics(dimension), FeatureStatistics(dimension))
        self.classes = ClassStatistics.empty(splits, classes)
        self.sample = FeatureSample(kept, dimension, seed)

    def update(self, features: Tensor, logits: Tensor, position: int) -> None:
        """Adds images of the places position ... position + B - 1: features (B, D), logits (B, K)."""
        features, logits = features.cpu(), logits.cpu()
        half = torch.from_numpy(groups(self.seed, Purpose.HALF, position, len(features), 2))
        for index, statistics in enumerate(self.halves):
            statistics.update(features[half == index])
        split = groups(self.seed, Purpose.SPLIT, position, len(features), self.splits)
        self.classes.update(logits, torch.from_numpy(split))
        self.sample.update(features, position)

    def merge(self, other: "ImageSummary") -> None:
        """Adds what another process has seen, with equal arguments and other places of the stream."""
        for mine, others in zip(self.halves, other.halves, strict=True):
            mine.merge(others)
        self.classes.merge(other.classes)
        self.sample.merge(other.sample)

    @property
    def count(self) -> int:
        """Images seen."""
        return sum(half.count for half in self.halves)

    def whole(self) -> FeatureStatistics:
        """Feature statistics of both halves together."""
        whole = self.halves[0].copy()
        whole.merge(self.halves[1])
        return whole

    def state(self) -> dict[str, np.ndarray]:
        """Plain arrays that `restore` takes back, bit for bit."""
        arrays = {f"sample.{name}": array for name, array in self.sample.state().items()}
        for index, half in enumerate(self.halves):
            arrays[f"half{index}.count"] = np.array(half.count)
            arrays[f"half{index}.mean"] = half.mean.numpy()
            arrays[f"half{index}.scatter"] = half.scatter.numpy()
        for name in ("count", "probability", "negentropy"):
            arrays[f"classes.{name}"] = getattr(self.classes, name).numpy()
        return arrays

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Replaces the content by what `state` of a summary with equal arguments returned.

        Raises:
            KeyError, ValueError: It is not that.
        """
        expected = {name: array.shape for name, array in self.state().items() if not name.startswith("sample.")}
        if any(state[name].shape != shape for name, shape in expected.items()):
            raise ValueError("statistics of another shape")
        first, second = (
            FeatureStatistics.of(
                int(state[f"half{index}.count"]),
                torch.from_numpy(state[f"half{index}.mean"]),
                torch.from_numpy(state[f"half{index}.scatter"]),
            )
            for index in (0, 1)
        )
        self.halves = (first, second)
        for name in ("count", "probability", "negentropy"):
            setattr(self.classes, name, torch.from_numpy(state[f"classes.{name}"]))
        self.sample.restore({name[7:]: array for name, array in state.items() if name.startswith("sample.")})


def summarize(
    images: Iterable[Tensor],
    extractor: FeatureExtractor,
    *,
    splits: int,
    kept: int,
    seed: int,
    count: int,
    first_position: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> ImageSummary:
    """Extracts features and gathers their statistics.

    Args:
        images: Batches (b, C, H, W) uint8 of any sizes.
        extractor: Which features.
        splits: See ImageSummary.
        kept: See ImageSummary.
        seed: See ImageSummary.
        count: Images to take; what comes after is not read.
        first_position: Place of the first image in the whole stream, where several processes share one.
        on_progress: Called with (images done, count).

    Raises:
        ValueError: `images` holds fewer than `count`, or `count` is not positive.
    """
    summary: ImageSummary | None = None
    done = 0
    for batch in rebatch(images, extractor.batch_size, limit=count):
        features, logits = extractor(batch)
        if summary is None:
            summary = ImageSummary(features.shape[1], logits.shape[1], splits=splits, kept=kept, seed=seed)
        summary.update(features, logits, first_position + done)
        done += len(batch)
        if on_progress:
            on_progress(done, count)
    if summary is None or done < count:
        raise ValueError(f"{count} images were expected, {done} came")
    return summary


class Mergeable(Protocol):
    """Statistics of a part of a stream."""

    def merge(self, other: Self, /) -> None: ...


Statistics = TypeVar("Statistics", bound=Mergeable)


def merge_across_processes(statistics: Statistics) -> Statistics:
    """Those of all processes of the running torch.distributed group, on each of them; the same without a group.

    Args:
        statistics: An ImageSummary or TextureStatistics.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return statistics
    parts: list[Statistics | None] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, statistics)
    merged, *others = [part for part in parts if part is not None]
    for other in others:
        merged.merge(other)
    return merged
