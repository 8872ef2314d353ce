"""Metrics that need more than a pile of images: classes (intra-class FID), or the generator itself (path length)."""

import dataclasses
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext

from torch import Tensor

from vitgan.data.store import ImageStore
from vitgan.errors import UserError
from vitgan.metrics import FeatureExtractor, Protocol
from vitgan.metrics.by_class import class_distances
from vitgan.metrics.path_length import STEP, path_length
from vitgan.metrics.reference import with_flips
from vitgan.runs.sources import Classes, Measured, classes_of_store, near_pairs

OnProgress = Callable[[int, int], None]
Progress = Callable[[str], AbstractContextManager[OnProgress]]


def silent(title: str) -> AbstractContextManager[OnProgress]:
    """A `Progress` that shows nothing."""
    return nullcontext(lambda done, total: None)


@dataclasses.dataclass(frozen=True)
class Others:
    """What `measure_others` found.

    Attributes:
        values: By the keys of `vitgan.metrics.METRICS`.
        classes: Name of a class -> its distance.
        notes: What a reader of the values must know.
    """

    values: dict[str, float] = dataclasses.field(default_factory=dict)
    classes: dict[str, float] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)


def check_others(
    classes: Classes | None, store: ImageStore, protocol: Protocol, generator: bool, source: str = "what is measured"
) -> None:
    """Refuses, before any work, what the protocol asks for and the two sides do not have.

    Args:
        classes: Of what is measured.
        store: The reference.
        protocol: Says whether classes are compared, and whether the path length is measured.
        generator: Whether a generator is measured.
        source: What is measured, for messages.

    Raises:
        UserError: If a path length of no model is asked for, or a distance by class of sides without the same classes, or
            a class has too few images.
    """
    if protocol.path_pairs and not generator:
        raise UserError("the path length is a generator's: measure a model, or leave path_pairs out", "path_pairs")
    if not protocol.class_images:
        return
    real = classes_of_store(store, protocol, protocol.choose(len(store), protocol.reference_images))
    if classes is None or real is None:
        without = source if classes is None else "the store"
        raise UserError(f"{without} has no classes to compare one by one: leave class_images out", "class_images")
    names = zip(classes.names or (), real.names or (), strict=False)  # a class that nobody has images of is none
    if max(classes.known) >= real.count or any(a != b for a, b in names):
        raise UserError(
            f"{source} has other classes than the store, or in another order: pass the store that the model was trained on",
            "data",
        )
    for index in sorted({*real.known, *classes.known}):  # of all: else the mean would be over some alone
        made = classes.available[index] if index in classes.known else 0
        for side, there, least in (
            ("the store", real.available[index], protocol.least_store_images),
            (source, made, protocol.class_images),
        ):
            if there < least:
                raise UserError(
                    f"class {real.name(index)} has {there:,} images in {side}, {least:,} are needed: pass more, or choose "
                    "another protocol",
                    "class_images",
                )


def measure_others(
    measured: Measured,
    store: ImageStore,
    protocol: Protocol,
    extractor: FeatureExtractor,
    batch_size: int | None = None,
    progress: Progress = silent,
) -> Others:
    """The distance by class and the path length, if the protocol asks for them.

    `check_others` has found nothing to refuse.
    """
    others = Others()
    if protocol.class_images and measured.classes is not None:
        with progress("Classes") as on_progress:
            _by_class(others, measured.classes, store, protocol, extractor, on_progress)
    if protocol.path_pairs and measured.generator is not None:
        pairs = near_pairs(measured.generator, protocol.path_pairs, protocol.seed, STEP, batch_size)
        with progress("Path length") as on_progress:
            others.values["path_length"] = path_length(
                pairs, extractor, count=protocol.path_pairs, on_progress=on_progress
            )
        others.notes.append("the path length is by these features, not by LPIPS: papers' are others")
    return others


def _by_class(
    others: Others,
    generated: Classes,
    store: ImageStore,
    protocol: Protocol,
    extractor: FeatureExtractor,
    on_progress: OnProgress,
) -> None:
    indices = protocol.choose(len(store), protocol.reference_images)
    real = classes_of_store(store, protocol, indices)
    assert real is not None

    def real_images(index: int) -> Iterable[Tensor]:
        images = real.images(index)
        return with_flips(images) if protocol.reference_flips else images

    found = class_distances(generated.images, real_images, generated.known, extractor, on_progress)
    others.values["class_distance"] = sum(found.values()) / len(found)
    others.classes.update({real.name(index): distance for index, distance in found.items()})
    fewest = min(real.available[index] for index in found)
    others.notes.append(
        f"by class: {protocol.class_images:,} images against {fewest:,} or more; so few make the distance too large, so "
        "compare it only at the same numbers"
    )
