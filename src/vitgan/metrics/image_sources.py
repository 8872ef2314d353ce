"""Images to be measured, from wherever they lie: an array, an .npz, encoded files. None is resized or cropped."""

import os
import zipfile
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol

import numpy as np
import torch
from torch import Tensor

from vitgan.errors import UserError
from vitgan.files import regular_size, user_error

BATCH = 64


class ImageSource(Protocol):
    """Images in a fixed order."""

    def __len__(self) -> int: ...

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        ...

    def batches(self, indices: np.ndarray) -> Iterator[Tensor]:
        """The images at sorted indices (n,), in batches (b, C, H, W) uint8.

        Raises:
            UserError: One of them cannot be used.
        """
        ...


class ArrayImages:
    """Images in an array or memory map (N, C, H, W) uint8."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    @property
    def size(self) -> tuple[int, int]:
        return self.images.shape[2], self.images.shape[3]

    def batches(self, indices: np.ndarray) -> Iterator[Tensor]:
        for start in range(0, len(indices), BATCH):
            yield torch.from_numpy(self.images[indices[start : start + BATCH]])


class NpzImages:
    """Images in the first array of an .npz: uint8, (N, H, W, C) as is customary, (N, C, H, W) or (N, H, W).

    The array is read in passing, never as a whole: 50,000 images of 256×256 are 10 GB.

    Raises:
        UserError: The file holds no such array.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with user_error(f"{path} is no readable .npz with an array of images", Exception), self._opened() as opened:
            _, shape, fortran, dtype = opened
        if dtype != np.uint8 or fortran or len(shape) not in (3, 4):
            raise UserError(f"{path} holds {dtype} {shape}: expected uint8 images (N, H, W, 3) or (N, 3, H, W)")
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
        with damaged, self._opened() as (stream, *_):
            for start in range(0, len(self), BATCH):
                stop = min(start + BATCH, len(self))
                data = stream.read((stop - start) * image_bytes)
                if len(data) < (stop - start) * image_bytes:
                    raise EOFError(f"it ends before its {len(self):,} images do")
                wanted = indices[np.searchsorted(indices, start) : np.searchsorted(indices, stop)] - start
                if len(wanted):
                    images = np.frombuffer(data, np.uint8).reshape(-1, *self._shape[1:])[wanted]
                    yield torch.from_numpy(images.transpose(0, 3, 1, 2).copy() if self._channels_last else images)

    @contextmanager
    def _opened(self) -> Iterator[tuple[IO[bytes], tuple[int, ...], bool, np.dtype]]:
        """The first array as a stream that stands at its values; its shape, Fortran order and type.

        zipfile, zlib and numpy raise errors of many kinds over damaged files.
        """
        regular_size(self.path)
        with zipfile.ZipFile(self.path) as archive:
            member = next((name for name in archive.namelist() if name.endswith(".npy")), "an array .npy")
            with archive.open(member) as stream:
                version = np.lib.format.read_magic(stream)
                old = version == (1, 0)
                read = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
                yield stream, *read(stream)


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
