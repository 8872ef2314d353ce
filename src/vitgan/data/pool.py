"""Decoding in worker processes, with results in the source's order."""

import itertools
from collections import Counter, deque
from collections.abc import Generator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import numpy as np

from vitgan.data.decode import Framing, decode
from vitgan.data.description import LARGEST_LABEL
from vitgan.data.duplicates import image_digests
from vitgan.data.isolation import start_processes
from vitgan.data.sources.source import Source, UnreadableImage, printable
from vitgan.errors import UserError

PART_BYTES = 1 << 21
LARGEST_PART = 256  # images
PARTS_AHEAD = 4  # per worker


@dataclass(frozen=True)
class Decoded:
    """A run of consecutive items.

    Attributes:
        images: (n, C, H, W) uint8, those that could be read.
        labels: (n,) int64, or None if the source is not labelled.
        digests: (n,) uint64, see `image_digests`.
        skipped: (name, reason) of the others.
        converted: How many images needed what treatment.
    """

    images: np.ndarray
    labels: np.ndarray | None
    digests: np.ndarray
    skipped: list[tuple[str, str]]
    converted: Counter[str]


def decode_in_order(
    source: Source, framing: Framing, indices: np.ndarray, workers: int
) -> Generator[Decoded, None, None]:
    """Decodes the items at `indices`.

    Args:
        source: Is copied into every worker.
        framing: Size and crop.
        indices: (n,) positions in the source; results come in their order, in parts.
        workers: Number of processes; 0 decodes in this one.

    Raises:
        UserError: A worker died, e.g. because memory ran out.
    """
    length = int(np.clip(PART_BYTES // (framing.channels * framing.resolution**2), 1, LARGEST_PART))
    parts = (indices[start : start + length] for start in range(0, len(indices), length))
    if workers == 0:
        yield from (decode_part(source, framing, part) for part in parts)
        return
    pool = start_processes(workers, _start_worker, source, framing)
    try:
        waiting: deque[Future[Decoded]] = deque()
        for part in itertools.chain(parts, itertools.repeat(None)):
            if part is not None:
                waiting.append(pool.submit(_decode_in_worker, part))
            elif not waiting:
                return
            if part is None or len(waiting) >= workers * PARTS_AHEAD:
                yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise UserError(
            "a decoding process died (out of memory, a damaged database, or a script without "
            "`if __name__ == '__main__'`): try fewer --workers, or another copy of the data"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def decode_part(source: Source, framing: Framing, indices: np.ndarray) -> Decoded:
    """Reads and decodes the items at `indices`, keeping the reasons of those that cannot be."""
    images, labels, skipped = [], [], []
    converted: Counter[str] = Counter()
    for index in indices.tolist():
        try:
            item = source[index]
            if source.labelled and not (isinstance(item.label, int) and 0 <= item.label <= LARGEST_LABEL):
                raise UnreadableImage(f"its label is {item.label}")
            image, notes = decode(item.image, framing)
        except UnreadableImage as error:
            skipped.append((printable(source.item_name(index)), printable(str(error))))
            continue
        images.append(image)
        labels.append(item.label)
        converted.update(notes)
    size = (framing.channels, framing.resolution, framing.resolution)
    stacked = np.stack(images) if images else np.empty((0, *size), np.uint8)
    stacked_labels = np.array(labels, np.int64) if source.labelled else None
    return Decoded(stacked, stacked_labels, image_digests(stacked), skipped, converted)


_work: tuple[Source, Framing] | None = None  # in a worker process: what it was started with


def _start_worker(source: Source, framing: Framing) -> None:
    global _work
    _work = (source, framing)


def _decode_in_worker(indices: np.ndarray) -> Decoded:
    assert _work is not None
    return decode_part(*_work, indices)
