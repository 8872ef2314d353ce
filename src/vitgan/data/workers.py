"""Work in other processes: decoding on several processors, and safety where a library may end the process."""

import multiprocessing
import os
import signal
import tempfile
import threading
from collections import Counter, deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import connection
from typing import Any

import numpy as np

from vitgan.data.decode import Framing, decode
from vitgan.data.labels import NO_LABEL
from vitgan.data.sources.source import Source, UnreadableImage
from vitgan.errors import UserError, one_line

PART_BYTES = 1 << 21
LARGEST_PART = 256  # images
PARTS_AHEAD = 4  # per worker
LONGEST_TEMPORARY_FOLDER = 64  # of the 104 to 108 bytes of a socket's path, 32 are multiprocessing's


@dataclass(frozen=True)
class Decoded:
    """What became of a run of consecutive images: the arguments of `StoreWriter.append`."""

    images: np.ndarray
    labels: np.ndarray | None
    skipped: list[tuple[str, str]]
    converted: Counter[str]


def decode_in_order(
    source: Source, framing: Framing, indices: np.ndarray, workers: int
) -> Generator[Decoded, None, None]:
    """Decodes the images at `indices`.

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
        yield from (_decode_part(source, framing, part) for part in parts)
        return
    pool = start_processes(workers, source, framing)
    waiting: deque[Future[Decoded]] = deque()
    try:
        for part in parts:
            waiting.append(pool.submit(_decode_remembered, part))
            if len(waiting) == workers * PARTS_AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise UserError(
            "a decoding process died (out of memory, a damaged database, or a script without "
            "`if __name__ == '__main__'`): try fewer workers, or another copy of the data",
            "workers",
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _decode_part(source: Source, framing: Framing, indices: np.ndarray) -> Decoded:
    images = np.empty((len(indices), framing.channels, framing.resolution, framing.resolution), np.uint8)
    kept, skipped = [], []
    converted: Counter[str] = Counter()
    for index in indices.tolist():
        try:
            label = 0 if source.labels is None else int(source.labels[index])
            if label == NO_LABEL:
                raise UnreadableImage("it has no label")
            if not 0 <= label < source.classes:
                raise UnreadableImage(f"its label {label} is out of range: expected 0 to {source.classes - 1:,}")
            images[len(kept)], notes = decode(source.read(index), framing)
        except UnreadableImage as error:
            skipped.append((one_line(source.name(index)), one_line(str(error))))
            continue
        kept.append(index)
        converted.update(notes)
    labels = None if source.labels is None else source.labels[kept]
    return Decoded(images[: len(kept)], labels, skipped, converted)


def _decode_remembered(indices: np.ndarray) -> Decoded:
    source, framing = _remembered
    return _decode_part(source, framing, indices)


_remembered: tuple[Any, ...] = ()  # in a worker process: what it was started with


def start_processes(count: int, *remembered: Any) -> ProcessPoolExecutor:
    """A pool of processes that leave Ctrl-C to this one, end when it is killed, and have `remembered` in that variable."""
    # Not "fork": PyTorch and progress bars run threads, whose locks a forked process would inherit. The faster
    # "forkserver" listens at a path below the folder of temporary files, and a socket's path is short.
    serves = "forkserver" in multiprocessing.get_all_start_methods()
    short = len(os.fsencode(tempfile.gettempdir())) <= LONGEST_TEMPORARY_FOLDER
    context = multiprocessing.get_context("forkserver" if serves and short else "spawn")
    context.set_forkserver_preload(["__main__", __name__])
    return ProcessPoolExecutor(count, context, _start, remembered)


def run_isolated(function: Callable[..., Any], *arguments: Any) -> Any:
    """`function(*arguments)` in a process of its own.

    Raises:
        BrokenProcessPool: The process ended without a result: killed, out of memory, or aborted by a library.
        Exception: Whatever the function raises.
    """
    with start_processes(1) as pool:
        return pool.submit(function, *arguments).result()


def _start(*remembered: Any) -> None:
    global _remembered
    _remembered = remembered
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(parent: int) -> None:
    """A pool's processes otherwise outlive a killed parent."""
    connection.wait([parent])
    os._exit(1)
