"""Images and sources that tests of vitgan.data share."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from vitgan.data.sources.source import Provenance, Source, UnreadableImage
from vitgan.data.store import ImageStore
from vitgan.data.writer import StoreWriter


def random_pixels(seed: int, height: int = 8, width: int = 8, channels: int = 3) -> np.ndarray:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encoded(pixels: np.ndarray, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def write_image(file: Path, seed: int, **options) -> np.ndarray:
    """A PNG of random pixels; returns them as a store has them, (3, H, W)."""
    pixels = random_pixels(seed, **options)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(encoded(pixels))
    return pixels.transpose(2, 0, 1)


def make_store(path: Path, count: int, *, labelled: bool = False, resolution: int = 4, channels: int = 1) -> ImageStore:
    """A store whose image i has the bytes of i in its first pixels, so that it can be told from all others."""
    images = np.zeros((count, channels, resolution, resolution), np.uint8)
    images.reshape(count, -1)[:, :8] = np.arange(count, dtype="<u8")[:, None].view(np.uint8)
    labels = np.arange(count) % 7 if labelled else None
    with StoreWriter(path, resolution=resolution, channels=channels, labelled=labelled) as writer:
        writer.append(images, labels)
        return writer.finish(source="test")


def image_numbers(images: np.ndarray) -> list[int]:
    """The number of each image of `make_store`."""
    first = np.ascontiguousarray(images.reshape(len(images), -1)[:, :8])
    return first.view("<u8").reshape(-1).tolist()


class PngSource(Source):
    """PNGs made on demand; some are unreadable, and at one item the process can be made to die."""

    provenance = Provenance("png")

    def __init__(self, count: int, damaged: frozenset[int] = frozenset(), dies_at: int | None = None) -> None:
        self.count, self.damaged, self.dies_at = count, damaged, dies_at
        self.labels = np.arange(count) % 5

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> bytes:
        if index == self.dies_at:
            os.kill(os.getpid(), 9)
        if index in self.damaged:
            raise UnreadableImage("damaged on purpose")
        return encoded(random_pixels(index))

    def name(self, index: int) -> str:
        return f"{index}.png"


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As on a full disk: no file can be written beyond `size` bytes."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
