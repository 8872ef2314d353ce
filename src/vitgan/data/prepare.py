"""Any source -> store: decoded in parallel, written in the source's order, resumable after a kill."""

import dataclasses
import hashlib
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL
from pydantic import BaseModel, ConfigDict, ValidationError

from vitgan.data.decode import Framing
from vitgan.data.description import SkippedImage
from vitgan.data.pool import Decoded, decode_in_order
from vitgan.data.sources.source import Source, printable
from vitgan.data.store import ImageStore, StoreWriter, partial_folder, refuse_existing, store_bytes
from vitgan.errors import UserError

LISTED_SKIPPED = 1000
CHECKPOINT_SECONDS = 2.0
FEW_IMAGES = 2000  # not worth the start of worker processes


@dataclass(frozen=True)
class Plan:
    """What a preparation will do, known before anything is written.

    Attributes:
        images: Images to read; the store holds at most as many.
        bytes: Size of the store if none of them is skipped.
        framing: Crop, resizing, channels.
    """

    images: int
    bytes: int
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
    resolution = resolution or source.provenance.resolution
    if resolution is None:
        raise UserError(f"{source.provenance.name} has no usual size: pass --resolution, e.g. --resolution 64")
    if max_images is not None and max_images < 1:
        raise UserError(f"--max-images {max_images} is out of range: pass at least 1")
    framing = Framing(
        resolution=resolution,
        channels=channels or source.provenance.channels,
        crop=crop or source.provenance.crop,
        padding=0 if crop else source.padding(resolution),
        background=background,
    )
    images = min(len(source), max_images or len(source))
    if images == 0:
        raise UserError(f"there is no image in {source.origin or source.provenance.name}{_first_refusal(source)}")
    return Plan(images, store_bytes(images, framing.channels, resolution, source.labelled), framing)


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
    destination = Path(destination)
    planned = plan(
        source, resolution=resolution, channels=channels, crop=crop, background=background, max_images=max_images
    )
    refuse_existing(destination, overwrite)
    if strict and source.refused:
        raise UserError(_refusal(source.origin, *source.refused[0]))
    require_room(destination, planned.bytes)
    with StoreWriter(
        destination,
        resolution=planned.framing.resolution,
        channels=planned.framing.channels,
        labelled=source.labelled,
        overwrite=overwrite,
        fingerprint=_fingerprint(source, planned, strict),
    ) as writer:
        record = _resume(writer, source, planned.images)
        if on_notice and writer.notice:
            on_notice(f"{destination}: {writer.notice}")
        indices = np.linspace(0, len(source), planned.images, endpoint=False).astype(np.int64)
        if workers is None:
            workers = 0 if source.in_memory or planned.images < FEW_IMAGES else available_processors()
        workers = max(workers, 1) if source.isolated else workers
        with closing(decode_in_order(source, planned.framing, indices[record.done :], workers)) as decoded:
            _write_all(writer, record, decoded, planned.images, strict, source.origin, on_progress)
        if writer.count == 0:
            first = record.skipped[0]
            raise UserError(f"none of the {planned.images} images is readable; the first, {first.name}: {first.reason}")
        return writer.finish(
            source=source.provenance.name,
            origin=printable(source.origin),
            split=printable(source.split) if source.split else None,
            split_from=source.split_from,
            framing=str(planned.framing),
            background=background,
            label_names=source.label_names,
            labels_from=source.labels_from,
            skipped=record.skipped,
            skipped_count=record.skipped_count,
            converted=dict(sorted(record.converted.items())),
            licence=source.provenance.licence,
            url=source.provenance.url,
        )


def available_processors() -> int:
    """How many processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def require_room(destination: Path, needed: int) -> None:
    """Raises a UserError unless `needed` more bytes fit beside `destination`, counting what is written already."""
    partial = partial_folder(destination)
    written = sum(file.lstat().st_size for file in partial.iterdir()) if partial.is_dir() else 0
    existing = next(folder for folder in partial.parents if folder.exists())
    free = shutil.disk_usage(existing).free + written
    if needed > free:
        raise UserError(
            f"{destination} needs {needed:,} bytes and the disk has {free:,} free: "
            "make room, choose another --out, or pass --max-images"
        )


class _Record(BaseModel):
    """What is known so far beyond the images; the writer's journal keeps it."""

    model_config = ConfigDict(extra="forbid")

    done: int = 0
    skipped: list[SkippedImage]
    skipped_count: int
    converted: Counter[str] = Counter()

    @classmethod
    def of_refused(cls, refused: list[tuple[str, str]]) -> "_Record":
        """The record before the first image."""
        listed = [SkippedImage(name=name, reason=reason) for name, reason in refused[:LISTED_SKIPPED]]
        return cls(skipped=listed, skipped_count=len(refused))

    def add(self, decoded: Decoded) -> None:
        self.done += len(decoded.images) + len(decoded.skipped)
        room = LISTED_SKIPPED - len(self.skipped)
        self.skipped += [SkippedImage(name=name, reason=reason) for name, reason in decoded.skipped[:room]]
        self.skipped_count += len(decoded.skipped)
        self.converted.update(decoded.converted)


def _resume(writer: StoreWriter, source: Source, total: int) -> _Record:
    """The record of the images that the writer has kept, if it accounts for every one of them."""
    fresh = _Record.of_refused(source.refused)
    if not writer.journal:
        return fresh
    try:
        record = _Record.model_validate(writer.journal)
    except ValidationError:
        record = None
    if record and record.done == writer.count + record.skipped_count - fresh.skipped_count <= total:
        return record
    writer.restart("its counts contradict each other")
    return fresh


def _write_all(
    writer: StoreWriter,
    record: _Record,
    decoded_parts: Generator[Decoded, None, None],
    total: int,
    strict: bool,
    origin: str,
    on_progress: Callable[[int, int], None] | None,
) -> None:
    saved = time.monotonic()
    for decoded in decoded_parts:
        if strict and decoded.skipped:
            raise UserError(_refusal(origin, *decoded.skipped[0]))
        if len(decoded.images):
            writer.append(decoded.images, decoded.labels, decoded.digests)
        record.add(decoded)
        if time.monotonic() - saved > CHECKPOINT_SECONDS:
            writer.checkpoint(record.model_dump(mode="json"))
            saved = time.monotonic()
        if on_progress:
            on_progress(record.done, total)


def _fingerprint(source: Source, planned: Plan, strict: bool) -> str:
    """Hex digest of all that the store's bytes depend on: the source, the options, and what decodes."""
    options = {"images": planned.images, "strict": strict, **dataclasses.asdict(planned.framing)}
    settings = {"source": source.fingerprint(), "refused": source.refused, "pillow": PIL.__version__, **options}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _refusal(origin: str, name: str, reason: str) -> str:
    advice = "mend or remove it, or leave out --strict to skip such images"
    return f"cannot read {printable(name)} in {origin}: {reason}: {advice}"


def _first_refusal(source: Source) -> str:
    if not source.refused:
        return ""
    name, reason = source.refused[0]
    return f"; {len(source.refused)} refused, the first, {printable(name)}: {reason}"
