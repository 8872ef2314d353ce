"""Random reads from a store's memory map, fast from a cold disk and bounded in resident memory."""

import mmap

import numpy as np

from vitgan.data.store import IMAGES, ImageStore

# A fault maps up to 64 KiB around it, so that an image may keep 128 KiB resident.
FAULT_AROUND_BYTES = 1 << 17
RESIDENT_BYTES = 1 << 28
ADVISES = hasattr(mmap, "MADV_WILLNEED")  # not on Windows


class ImageReader:
    """Reads images by index through a memory map of its own.

    A small store is fetched from the disk at once and stays mapped. Of a large one, each set of indices is announced
    to the kernel, which fetches them in parallel and reads nothing else ahead, as the next images are elsewhere; pages
    are let go now and then: they stay in the kernel's cache, but do not count as this process's memory.
    """

    def __init__(self, store: ImageStore) -> None:
        with (store.path / IMAGES).open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        shape = store.images.shape
        self._image_bytes = int(np.prod(shape[1:]))
        self._offset = store.images.offset
        self._images = np.frombuffer(self._map, np.uint8, len(store) * self._image_bytes, self._offset).reshape(shape)
        self._is_large = len(self._map) > RESIDENT_BYTES
        self._images_per_release = RESIDENT_BYTES // (FAULT_AROUND_BYTES + self._image_bytes)
        self._since_release = 0
        if ADVISES:
            self._map.madvise(mmap.MADV_RANDOM if self._is_large else mmap.MADV_WILLNEED)

    def read(self, indices: np.ndarray) -> np.ndarray:
        """(n,) positions -> (n, C, H, W) uint8, a new array."""
        if not (ADVISES and self._is_large):
            return self._images.take(indices, axis=0)
        for index in indices.tolist():
            start = self._offset + index * self._image_bytes
            page = start - start % mmap.PAGESIZE
            self._map.madvise(mmap.MADV_WILLNEED, page, start + self._image_bytes - page)
        images = self._images.take(indices, axis=0)
        self._since_release += len(indices)
        if self._since_release >= self._images_per_release:
            self._map.madvise(mmap.MADV_DONTNEED)
            self._since_release = 0
        return images
