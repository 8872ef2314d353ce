"""Any source -> store: decoded in parallel, written in the source's order, resumable after a kill."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL

from vitgan.data.decode import Framing
from vitgan.data.sources.source import Source
from vitgan.data.store import ImageStore, store_bytes
from vitgan.data.workers import decode_in_order
from vitgan.data.writer import StoreWriter
from vitgan.errors import UserError, one_line

FEW_IMAGES = 2000  # not worth the start of worker processes


@dataclass(frozen=True)
class Plan:
    """What a preparation will do, known before anything is written."""

    images: int
    """Images to read; the store holds at most as many."""
    bytes: int
    """Size of the store if none of them is skipped."""
    framing: Framing


def plan(
    source: Source,
    *,
    resolution: int | None = None,
    channels: int | None = None,
    crop: int | None = None,
    background: str = "#ffffff",
    max_images: int | None = None,
) -> Plan:
    """Settles what is left to the source: see `prepare` for the arguments.

    Raises:
        UserError: A value is out of range, or the source has no usual resolution and none is given.
    """
    usual = source.provenance
    resolution = usual.resolution if resolution is None else resolution
    if resolution is None:
        raise UserError(f"{usual.name} has no usual size: choose a resolution, e.g. 64", "resolution")
    if max_images is not None and max_images < 1:
        raise UserError(f"max_images {max_images} is out of range: pass at least 1", "max_images")
    framing = Framing(
        resolution=resolution,
        channels=usual.channels if channels is None else channels,  # an explicit 0 is refused, not replaced
        crop=usual.crop if crop is None else crop,
        padding=usual.border if resolution == usual.resolution and crop is None else 0,
        background=background,
    )
    images = min(len(source), max_images or len(source))
    if images == 0:
        count = len(source.refused)
        why = f"; {count} refused, the first, {': '.join(map(one_line, source.refused[0]))}" if count else ""
        raise UserError(f"there is no image in {source.origin or usual.name}{why}")
    return Plan(images, store_bytes(images, framing.channels, resolution, source.labels is not None), framing)


def prepare(
    source: Source,
    destination: str | Path,
    *,
    resolution: int | None = None,
    channels: int | None = None,
    crop: int | None = None,
    background: str = "#ffffff",
    strict: bool = False,
    workers: int | None = None,
    max_images: int | None = None,
    overwrite: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
    on_notice: Callable[[str], None] | None = None,
) -> ImageStore:
    """Decodes, crops and resizes a source's images into a store.

    The result does not depend on `workers`. If the process is killed, the same call goes on where it was; if the source,
    an option or what was written has changed since, it starts again. With worker processes a script needs the usual
    `if __name__ == "__main__":`.

    Args:
        source: Where the images come from.
        destination: The store's folder to be.
        resolution: Height and width in pixels; None for the source's usual size.
        channels: 1 or 3; None for the source's own.
        crop: Side of the centre crop in pixels before resizing; None for the source's customary one.
        background: Colour under transparent images.
        strict: Refuse at the first unreadable image instead of skipping it.
        workers: Decoding processes; None for as many as there are processors, if it pays; 0 to decode in this
            process (one is used all the same for a format that can end it).
        max_images: Read only so many, evenly spaced over the source's order.
        overwrite: Replace a store that is at `destination`.
        on_progress: Called with (images read, images in all).
        on_notice: Called with a line that says whether what a killed call left is gone on with.

    Raises:
        UserError: Nothing to read, nothing readable, too little room on the disk, `destination` exists or cannot be
            written, or an unreadable image with `strict`.
    """
    planned = plan(
        source, resolution=resolution, channels=channels, crop=crop, background=background, max_images=max_images
    )
    if strict:
        _refuse_first(source.origin, source.refused)
    with StoreWriter(
        destination,
        resolution=planned.framing.resolution,
        channels=planned.framing.channels,
        labelled=source.labels is not None,
        overwrite=overwrite,
        images=planned.images,
        fingerprint=_fingerprint(source, planned, strict),
        on_notice=on_notice,
    ) as writer:
        _write_images(writer, source, planned, strict, workers, on_progress)
        if writer.count == 0:
            first = writer.skipped[0]
            raise UserError(f"none of the {planned.images} images is readable; the first, {first.name}: {first.reason}")
        return writer.finish(
            refused=source.refused,
            source=source.provenance.name,
            origin=source.origin,
            split=source.split,
            split_from=source.split_from,
            framing=str(planned.framing),
            background=background,
            label_names=source.label_names,
            labels_from=source.labels_from,
            licence=source.provenance.licence,
            url=source.provenance.url,
        )


def _write_images(
    writer: StoreWriter,
    source: Source,
    planned: Plan,
    strict: bool,
    workers: int | None,
    on_progress: Callable[[int, int], None] | None,
) -> None:
    indices = np.linspace(0, len(source), planned.images, endpoint=False).astype(np.int64)[writer.done :]
    if workers is None:
        processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        workers = 0 if source.in_memory or planned.images < FEW_IMAGES else processors
    workers = max(workers, 1) if source.isolated else workers
    with closing(decode_in_order(source, planned.framing, indices, workers)) as parts:
        for part in parts:
            if strict:
                _refuse_first(source.origin, part.skipped)
            writer.append(**vars(part))
            if on_progress:
                on_progress(writer.done, planned.images)


def _fingerprint(source: Source, planned: Plan, strict: bool) -> str:
    """Hex digest of all that the store's bytes depend on: the source, the options, and what decodes."""
    options = {"images": planned.images, "strict": strict, **dataclasses.asdict(planned.framing)}
    settings = {"source": source.fingerprint(), "refused": source.refused, "pillow": PIL.__version__, **options}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _refuse_first(origin: str, unreadable: list[tuple[str, str]]) -> None:
    """Raises a UserError if there is an unreadable image."""
    if unreadable:
        name, reason = unreadable[0]
        advice = "mend or remove it, or do without strict to skip such images"
        raise UserError(f"cannot read {name} in {origin}: {reason}: {advice}", "strict")
