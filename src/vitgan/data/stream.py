"""Endless shuffled batches from a store: sharded, prefetched, and resumable at any image by a number."""

import queue
import threading
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType

import numpy as np

from vitgan.data.reader import ImageReader
from vitgan.data.store import ImageStore
from vitgan.errors import UserError

Batch = tuple[np.ndarray, np.ndarray | None]

PREFETCHED_BATCHES = 4


class ImageStream:
    """Batches as a pure function of the number of images seen.

    Position p of the endless sequence is element p mod N of epoch p // N's permutation (NumPy's PCG64 seeded by
    [seed, epoch]), so every image comes once per epoch; a batch may straddle two epochs. Rank r of a group of
    processes takes the r-th contiguous part of each global batch.

    Args:
        store: Where the images are.
        global_batch_size: Images per step over all processes.
        seed: Of the shuffling, >= 0.
        rank: This process's number.
        world_size: Number of processes.

    Raises:
        UserError: The batch cannot be divided evenly among the processes.
    """

    def __init__(
        self, store: ImageStore, global_batch_size: int, seed: int, rank: int = 0, world_size: int = 1
    ) -> None:
        if global_batch_size < 1 or global_batch_size % world_size:
            raise UserError(f"batch size {global_batch_size} must be a positive multiple of {world_size} processes")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} of {world_size} processes")
        self.store = store
        self.global_batch_size = global_batch_size
        self.seed = seed
        self.batch_size = global_batch_size // world_size
        self._offset = rank * self.batch_size
        self._reader = ImageReader(store)
        self._lock = threading.Lock()
        self._permutations: dict[int, np.ndarray] = {}

    def batch(self, images_seen: int) -> Batch:
        """The batch after `images_seen` images over all processes.

        Returns:
            Images (global_batch_size / world_size, C, H, W) uint8, freshly allocated, and their labels (n,) int64 or
            None.
        """
        indices = self.indices(images_seen)
        labels = None if self.store.labels is None else self.store.labels[indices]
        return self._reader.read(indices), labels

    def indices(self, images_seen: int) -> np.ndarray:
        """Positions in the store of the batch after `images_seen` images, (n,) int64."""
        positions = images_seen + self._offset + np.arange(self.batch_size)
        epochs, elements = np.divmod(positions, len(self.store))
        indices = np.empty(self.batch_size, np.int64)
        for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
            here = epochs == epoch
            indices[here] = self._permutation(epoch)[elements[here]]
        return indices

    def batches(self, images_seen: int = 0, prefetched: int = PREFETCHED_BATCHES) -> "PrefetchedBatches":
        """An endless iterator over the batches from `images_seen` on, read ahead by a thread; close it after use."""
        return PrefetchedBatches(self, images_seen, prefetched)

    def _permutation(self, epoch: int) -> np.ndarray:
        with self._lock:
            if epoch not in self._permutations:
                for old in [other for other in self._permutations if abs(other - epoch) > 1]:
                    del self._permutations[old]
                generator = np.random.Generator(np.random.PCG64([self.seed, epoch]))
                self._permutations[epoch] = generator.permutation(len(self.store))
            return self._permutations[epoch]


class PrefetchedBatches:
    """Batches read ahead by a background thread into a bounded queue.

    An error while reading is raised in the consumer, at the batch where it happened. Use it as a context manager, or
    call `close`.
    """

    def __init__(self, stream: ImageStream, images_seen: int, prefetched: int) -> None:
        self._queue: queue.Queue[Batch | BaseException] = queue.Queue(prefetched)
        self._closed = threading.Event()
        arguments = (stream, images_seen, self._queue, self._closed)
        self._thread = threading.Thread(target=_read_ahead, args=arguments, daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if self._closed.is_set():
            raise StopIteration
        result = self._queue.get()
        if isinstance(result, BaseException):
            self.close()
            raise result
        return result

    def close(self) -> None:
        """Ends the thread; iteration stops. May be called again."""
        self._closed.set()
        while self._thread.is_alive():
            with suppress(queue.Empty):  # the thread may be waiting for room
                self._queue.get(timeout=0.01)

    def __enter__(self) -> "PrefetchedBatches":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self._closed.set()


def _read_ahead(
    stream: ImageStream, images_seen: int, batches: "queue.Queue[Batch | BaseException]", closed: threading.Event
) -> None:
    while not closed.is_set():
        try:
            result: Batch | BaseException = stream.batch(images_seen)
        except BaseException as error:  # handed to the consumer
            result = error
        while not closed.is_set():
            try:
                batches.put(result, timeout=0.2)
                break
            except queue.Full:
                pass
        if isinstance(result, BaseException):
            return
        images_seen += stream.global_batch_size
