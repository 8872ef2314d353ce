"""The image store: one memory-mapped uint8 array and its description.

DIR/images.npy     (N, C, H, W) uint8, plain NumPy format; of a latent store float16
DIR/labels.npy     (N,) int64, only where the source has labels
DIR/dataset.json   DatasetDescription
"""

import hashlib
import io
import json
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, Field, model_validator

from vitgan.data.labels import LARGEST_LABEL
from vitgan.errors import UserError, escaped
from vitgan.files.reading import read_array, read_model, user_error
from vitgan.frozen.vae_spec import VaeSpec
from vitgan.schema import Config

IMAGES, LABELS, DESCRIPTION = "images.npy", "labels.npy", "dataset.json"
BLOCK_BYTES = 1 << 22
MAPPED_BYTES = 1 << 28
"""A store of up to so many bytes is read through its map, five times as fast, and stays in memory."""

Count = Annotated[int, Field(ge=0)]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Line = Annotated[str, AfterValidator(escaped)]
"""Text without control characters, which would act on a terminal: they become escapes."""


class SkippedImage(Config):
    """An image that the source has and the store has not."""

    name: Line
    reason: Line


class DatasetDescription(Config):
    """What a store holds and how it came about: the content of `dataset.json`.

    Attributes:
        source: Name of the source: "cifar10", "folder", ...
        origin: File or folder that was read.
        split: Which part of the data set, where it has parts.
        split_from: Where that comes from, in words.
        resolution: Height and width in pixels.
        channels: 1 (grey) or 3 (RGB); those of latents.
        count: Number of images.
        framing: Crop, padding and resizing rule in words.
        background: Colour that transparent images were composited on, "#rrggbb".
        sha256: Hex digest of the images' bytes in order (the array, not the file's header).
        labels_sha256: Hex digest of the labels' bytes (little-endian int64); None without labels.
        label_names: Name of each label 0, 1, ...; None where there are no names.
        labels_from: Where labels come from, or why there are none, in words.
        skipped: The first skipped images with reasons; `skipped_count` counts all.
        converted: How many images needed what treatment ("alpha composited": 12, ...).
        duplicate_count: Images whose pixels equal an earlier image's, as stored.
        duplicates: The first of them as (index of the first copy, index of this one).
        licence: Terms of the data, in words.
        url: Where the data comes from.
        vae: What encoded the images, if they are latents (`vitgan.data.encode`); `origin` is then the store of the images.
        pixels_sha256: That store's `sha256`.
    """

    format_version: Literal[1] = 1
    source: Line
    origin: Line = ""
    split: Line | None = None
    split_from: Line = ""
    resolution: Annotated[int, Field(gt=0, le=4096)]
    channels: Annotated[int, Field(ge=1, le=128)]
    count: Annotated[int, Field(gt=0)]
    framing: Line = ""
    background: Line = "#ffffff"
    sha256: Digest
    labels_sha256: Digest | None = None
    label_names: Annotated[list[Line], Field(max_length=LARGEST_LABEL + 1)] | None = None
    labels_from: Line = ""
    skipped: list[SkippedImage] = Field(default_factory=list)
    skipped_count: Count = 0
    converted: dict[Line, Count] = Field(default_factory=dict)
    duplicate_count: Count = 0
    duplicates: list[tuple[Count, Count]] = Field(default_factory=list)
    licence: Line = ""
    url: Line = ""
    vae: VaeSpec | None = None
    pixels_sha256: Digest | None = None

    @model_validator(mode="after")
    def _channels_of_images_or_latents(self) -> Self:
        if (self.vae is None) != (self.pixels_sha256 is None):
            raise ValueError("vae and pixels_sha256 go together")
        if self.channels not in ((1, 3) if self.vae is None else (len(self.vae.scale),)):
            raise ValueError(f"{self.channels} channels are neither grey nor RGB, nor the VAE's")
        return self

    @property
    def dtype(self) -> np.dtype:
        """Of the images: uint8, or of latents float16."""
        return np.dtype(np.uint8 if self.vae is None else "<f2")

    @classmethod
    def read(cls, store: Path) -> "DatasetDescription":
        """Reads the description in the folder `store`; a UserError if there is none."""
        if not (store / DESCRIPTION).exists():
            raise UserError(f"there is no image store at {store} (no {DESCRIPTION}): prepare one with `vitgan data`")
        return read_model(store / DESCRIPTION, cls, "store")

    def write(self, store: Path) -> None:
        """Writes the description into the folder `store`, readable by people."""
        content = json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False)
        (store / DESCRIPTION).write_text(content + "\n", "utf-8")


class ImageStore:
    """A prepared data set, read-only; nothing is decoded, and no image is loaded before it is indexed.

    Attributes:
        path: The store's folder.
        description: What it holds.
        images: (N, C, H, W) uint8 memory map; of latents float16.
        labels: (N,) int64 array, or None.
    """

    def __init__(
        self, path: Path, description: DatasetDescription, images: np.memmap, labels: np.ndarray | None
    ) -> None:
        self.path, self.description, self.images, self.labels = path, description, images, labels
        self._file, self._lock = (path / IMAGES).open("rb", buffering=0), threading.Lock()

    @classmethod
    def open(cls, path: str | Path) -> "ImageStore":
        """Opens a store without reading its images, which `verify` does; the labels are checked.

        Raises:
            UserError: There is no store at `path`, or its files are damaged or contradict each other.
        """
        path = Path(path)
        description = DatasetDescription.read(path)
        count, size = description.count, description.resolution
        with user_error(f"{path} is no sound store", UserError, advice="prepare it again"):
            images = read_array(path / IMAGES, description.dtype, (count, description.channels, size, size))
            labels = np.array(read_array(path / LABELS, np.int64, (count,))) if description.labels_sha256 else None
            if labels is None and (path / LABELS).exists():
                raise UserError(f"{path} has {LABELS}, of which {DESCRIPTION} knows nothing")
            if labels is not None and labels_digest(labels) != description.labels_sha256:
                raise UserError(f"the labels of {path} were altered (SHA-256 differs)")
            if labels is not None and not 0 <= labels.min() <= labels.max() <= LARGEST_LABEL:
                found = f"{labels.min()} to {labels.max()}"
                raise UserError(f"{path / LABELS} has labels {found}, expected 0 to {LARGEST_LABEL:,}")
        return cls(path, description, images, labels)

    def __len__(self) -> int:
        return self.description.count

    @property
    def resolution(self) -> int:
        """Height and width in pixels."""
        return self.description.resolution

    @property
    def channels(self) -> int:
        """1 (grey) or 3 (RGB); those of latents."""
        return self.description.channels

    @property
    def image_size(self) -> int:
        """Height and width of the images in pixels, those that latents are decoded to."""
        return self.resolution * (self.vae.factor if self.vae else 1)

    @property
    def vae(self) -> VaeSpec | None:
        """What encoded the images, if they are latents."""
        return self.description.vae

    @property
    def label_count(self) -> int:
        """Number of classes: of the names, or the largest label plus one if that is more; 0 without labels."""
        if self.labels is None:
            return 0
        return max(len(self.description.label_names or ()), int(self.labels.max()) + 1)

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Images at random places: fast from a cold disk, and in little memory however large the store is.

        Those of a large store are announced to the kernel, which fetches them in parallel, and then read from the file:
        what is mapped would count as this process's memory.

        Args:
            indices: (n,) positions.

        Returns:
            (n, C, H, W), a new array of the type of `images`.

        Raises:
            UserError: The file was cut off since the store was opened, or cannot be read.
        """
        if self.images.nbytes <= MAPPED_BYTES:
            return np.asarray(self.images).take(indices, axis=0)
        images = np.empty((len(indices), *self.images.shape[1:]), self.images.dtype)
        rows = images.view(np.uint8).reshape(len(indices), -1)
        starts = (self.images.offset + indices.astype(np.int64) * rows.shape[1]).tolist()
        found = 0
        with self._lock, user_error(f"cannot read {self.path / IMAGES}", OSError):
            with suppress(OSError, AttributeError):  # a file system may not know it, Windows and macOS do not
                for start in starts:
                    os.posix_fadvise(self._file.fileno(), start, rows.shape[1], os.POSIX_FADV_WILLNEED)
            for row, start in zip(rows, starts, strict=True):
                self._file.seek(start)
                found += self._file.readinto(row.data) or 0
        if found != images.nbytes:
            raise UserError(f"{self.path / IMAGES} was cut off while it was read: prepare the store again")
        return images

    def verify(self, on_progress: Callable[[int, int], None] | None = None) -> None:
        """Reads every byte and compares it with the checksums in `dataset.json`.

        Args:
            on_progress: Called with (images read, images in all).

        Raises:
            UserError: The images are not what was prepared, or cannot be read.
        """
        image_bytes, digest, done = self.images.nbytes // len(self), hashlib.sha256(), 0
        with user_error(f"cannot read {self.path / IMAGES}", OSError), (self.path / IMAGES).open("rb") as file:
            file.seek(self.images.offset)
            while block := file.read(BLOCK_BYTES):
                digest.update(block)
                done += len(block)
                if on_progress:
                    on_progress(done // image_bytes, len(self))
        if digest.hexdigest() != self.description.sha256:
            raise UserError(f"the images of {self.path} were altered (SHA-256 differs): prepare the store again")


def store_bytes(count: int, channels: int, resolution: int, labelled: bool, dtype: npt.DTypeLike = np.uint8) -> int:
    """Size of `images.npy` and `labels.npy` together."""
    header, values = len(array_header((count,), np.int64)), count * channels * resolution**2
    return header + values * np.dtype(dtype).itemsize + (header + count * 8 if labelled else 0)


def array_header(shape: tuple[int, ...], dtype: npt.DTypeLike) -> bytes:
    """What a NumPy file begins with, of the same length for any first dimension."""
    buffer = io.BytesIO()
    header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue()


def labels_digest(labels: np.ndarray) -> str:
    """SHA-256 of labels as little-endian int64, hexadecimal."""
    return hashlib.sha256(labels.astype("<i8").tobytes()).hexdigest()
