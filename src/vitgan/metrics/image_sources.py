"""Images to be measured, from wherever they lie: an array, an .npz, encoded files. None is resized or cropped."""

import os
import zipfile
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from vitgan.errors import UserError
from vitgan.files import regular_size, user_error

BATCH = 64


class ArrayImages:
    """Images in an array or memory map (N, C, H, W) uint8."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.images.shape[2], self.images.shape[3]

    def batches(self, indices: np.ndarray) -> Iterator[Tensor]:
        """The images at sorted indices (n,), in batches (b, C, H, W) uint8; a UserError if one cannot be used."""
        for start in range(0, len(indices), BATCH):
            yield torch.from_numpy(self.images[indices[start : start + BATCH]])


class NpzImages:
    """Images in an .npz: its one array of them, uint8 (N, H, W, C) as is customary, (N, C, H, W) or (N, H, W).

    Other arrays, labels say, may be beside it. It is read in passing, never as a whole: 50,000 images of 256×256 are 10 GB.

    Raises:
        UserError: The file holds no such array, or several.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with user_error(f"{path} is no readable .npz with an array of images", Exception):
            regular_size(path)
            with zipfile.ZipFile(path) as archive:
                names = [name for name in archive.namelist() if name.endswith(".npy")]
                headers = {name: _array_header(archive.open(name)) for name in names}
        found = [n for n, (s, f, t) in headers.items() if t == np.uint8 and len(s) in (3, 4) and not f]
        if len(found) != 1:
            every = [f"{n} {t} {s}{' in Fortran order' if f else ''}" for n, (s, f, t) in headers.items()]
            held = ", ".join(every) or "no array"
            raise UserError(f"{path} holds {held}: expected uint8 images in one array, (N, H, W, 3) or (N, 3, H, W)")
        self._name, (shape, *_) = found[0], headers[found[0]]
        self._shape = (*shape, 1) if len(shape) == 3 else shape
        self._channels_last = self._shape[3] in (1, 3)
        if not self._channels_last and self._shape[1] not in (1, 3):
            raise UserError(f"{path} holds {shape}: expected 1 or 3 channels, last or second")

    def __len__(self) -> int:
        return self._shape[0]

    @property
    def size(self) -> tuple[int, int]:
        first = 1 if self._channels_last else 2
        return self._shape[first], self._shape[first + 1]

    def batches(self, indices: np.ndarray) -> Iterator[Tensor]:
        image_bytes = int(np.prod(self._shape[1:], dtype=object))  # no overflow, whatever the header says
        damaged = user_error(f"{self.path} is damaged", Exception, advice="make it again")
        with damaged, zipfile.ZipFile(self.path) as archive, archive.open(self._name) as stream:
            _array_header(stream)
            for start in range(0, len(self), BATCH):
                stop = min(start + BATCH, len(self))
                data = stream.read((stop - start) * image_bytes)
                if len(data) < (stop - start) * image_bytes:
                    raise EOFError(f"it ends before its {len(self):,} images do")
                wanted = indices[np.searchsorted(indices, start) : np.searchsorted(indices, stop)] - start
                if len(wanted):
                    images = np.frombuffer(data, np.uint8).reshape(-1, *self._shape[1:])[wanted]
                    yield torch.from_numpy(images.transpose(0, 3, 1, 2).copy() if self._channels_last else images)


def _array_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, Fortran order and type of an array .npy, whose values come next in the stream.

    zipfile, zlib and numpy raise errors of many kinds over damaged files.
    """
    old = np.lib.format.read_magic(stream) == (1, 0)
    return (np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0)(stream)


class EncodedImages:
    """Encoded image files, decoded by a few threads ahead of their use.

    Args:
        names: The files' names, for error messages.
        read: Index -> the file's bytes.
        decode: (bytes, name) -> (C, H, W) uint8, or a UserError; is called from several threads.

    Raises:
        UserError: There are none, or the first is no image.
    """

    def __init__(
        self, names: list[str], read: Callable[[int], bytes], decode: Callable[[bytes, str], np.ndarray]
    ) -> None:
        if not names:
            raise UserError("no image was found there: expected files like .png or .jpg at any depth")
        self.names, self.read, self.decode = names, read, decode
        self._size = decode(read(0), names[0]).shape[1:]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def size(self) -> tuple[int, int]:
        return self._size[0], self._size[1]

    def batches(self, indices: np.ndarray) -> Iterator[Tensor]:
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            ahead: deque[list[Future[np.ndarray]]] = deque()
            for start in range(0, len(indices), BATCH):
                chunk = [int(index) for index in indices[start : start + BATCH]]
                ahead.append([pool.submit(self.decode, self.read(index), self.names[index]) for index in chunk])
                if len(ahead) > 2:
                    yield self._stacked(ahead.popleft())
            yield from map(self._stacked, ahead)

    def _stacked(self, decoded: list[Future[np.ndarray]]) -> Tensor:
        images = [future.result() for future in decoded]
        if other := next((image.shape[1:] for image in images if image.shape[1:] != self._size), None):
            sizes = " and ".join(f"{height}×{width}" for height, width in (self.size, other))
            raise UserError(f"the images have different sizes, {sizes}: make them one size, e.g. with `vitgan data`")
        return torch.from_numpy(np.stack(images))


ImageSource = ArrayImages | NpzImages | EncodedImages
"""Images in a fixed order; what `ArrayImages` says of `size` and `batches` holds for all."""
