"""Endless shuffled batches from a store: sharded, prefetched, and resumable at any image by a number."""

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache, partial

import numpy as np

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
            expected = f"a positive multiple of {world_size} processes"
            raise UserError(f"batch size {global_batch_size}: expected {expected}", "batch_size")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} of {world_size} processes")
        self.store, self.global_batch_size = store, global_batch_size
        self.batch_size = global_batch_size // world_size
        self._offset = rank * self.batch_size
        self._permutation = lru_cache(maxsize=2)(partial(_permutation, seed, len(store)))

    def batch(self, images_seen: int) -> Batch:
        """The batch after `images_seen` images over all processes.

        Returns:
            Images (global_batch_size / world_size, C, H, W) uint8, freshly allocated, and their labels (n,) int64 or
            None.
        """
        indices = self.indices(images_seen)
        labels = None if self.store.labels is None else self.store.labels[indices]
        return self.store.read(indices), labels

    def indices(self, images_seen: int) -> np.ndarray:
        """Positions in the store of the batch after `images_seen` images, (n,) int64."""
        positions = images_seen + self._offset + np.arange(self.batch_size)
        epochs, elements = np.divmod(positions, len(self.store))
        indices = np.empty(self.batch_size, np.int64)
        for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
            here = epochs == epoch
            indices[here] = self._permutation(epoch)[elements[here]]
        return indices

    def batches(self, images_seen: int = 0) -> Generator[Batch, None, None]:
        """The batches from `images_seen` on without end, read ahead by a thread; close it after use.

        An error while reading is raised at the batch where it happened.
        """
        pool = ThreadPoolExecutor(1, "read-ahead")
        waiting: deque[Future[Batch]] = deque()
        try:
            while True:
                while len(waiting) <= PREFETCHED_BATCHES:
                    waiting.append(pool.submit(self.batch, images_seen))
                    images_seen += self.global_batch_size
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _permutation(seed: int, count: int, epoch: int) -> np.ndarray:
    return np.random.Generator(np.random.PCG64([seed, epoch])).permutation(count)
