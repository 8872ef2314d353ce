"""A store in the making: the hidden folder `.DIR.partial` beside it, which becomes DIR when it is whole.

images.npy, labels.npy   what there is so far, behind headers that are written at the end
progress                 what is known of it, by which a killed preparation is gone on with: its own SHA-256, and `_Progress`
"""

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import Timeout
from pydantic import Field, ValidationError

from vitgan.data.labels import LARGEST_LABEL
from vitgan.data.names import listed
from vitgan.data.store import (
    BLOCK_BYTES,
    DESCRIPTION,
    IMAGES,
    LABELS,
    Count,
    DatasetDescription,
    Digest,
    ImageStore,
    SkippedImage,
    array_header,
    store_bytes,
)
from vitgan.errors import UserError
from vitgan.files import lock_file, read_bytes, user_error
from vitgan.files.folders import MARKER, check_folder, install
from vitgan.schema import Config

PROGRESS, LOCK = "progress", "lock"
PARTIAL_FILES = {IMAGES, LABELS, DESCRIPTION, PROGRESS, f"{PROGRESS}.part", LOCK, MARKER, f".{MARKER}.part"}
"""All that a store in the making holds; nothing else is ever removed with it."""
STORE = "image store"
LISTED_SKIPPED, LISTED_DUPLICATES = 1000, 100


class _Progress(Config):
    """What was dealt with so far."""

    fingerprint: str
    count: Count = 0
    sha256: dict[str, Digest] = Field(default_factory=dict)
    """Of what is in each file of an array."""
    skipped_count: Count = 0
    skipped: list[SkippedImage] = Field(default_factory=list)
    converted: dict[str, Count] = Field(default_factory=dict)


class _GrowingArray:
    """A NumPy file to whose end items are written; `sha256` is that of its items."""

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
        self.shape, self.dtype = shape, np.dtype(dtype)
        self._item_bytes = int(np.prod(shape)) * self.dtype.itemsize
        if not path.is_file():  # to open a FIFO could wait for ever
            path.unlink(missing_ok=True)
        path.touch()
        self.file = path.open("r+b")

    def go_on(self, count: int, sha256: str | None) -> bool:
        """Keeps the first items, and removes what is behind them; whether their digest is this one."""
        self._write_header(0)
        left, self.sha256 = count * self._item_bytes, hashlib.sha256()
        while left > 0 and (block := self.file.read(min(left, BLOCK_BYTES))):
            self.sha256.update(block)
            left -= len(block)
        self.file.truncate()
        return left == 0 and self.sha256.hexdigest() == sha256

    def append(self, items: np.ndarray) -> None:
        data = items.astype(self.dtype, copy=False).tobytes()
        self.file.write(data)
        self.file.flush()
        self.sha256.update(data)

    def finish(self, count: int) -> None:
        self._write_header(count)
        self.file.close()

    def _write_header(self, count: int) -> None:
        self.file.seek(0)
        self.file.write(array_header((count, *self.shape), self.dtype))
        self.file.flush()


class StoreWriter:
    """Writes a store image after image; the folder appears under its name only when it is whole.

    Use it as a context manager. Leaving the block without `finish` removes what was written, but where an error is the
    reason that is no UserError or is one of `finish`: then the work so far is kept for a writer with the same fingerprint.
    A kill leaves it, too.

    Args:
        path: The store's folder to be.
        resolution: Height and width in pixels.
        channels: 1 or 3, or a VAE's.
        dtype: Of the images: uint8, or float16 for latents.
        labelled: Whether images come with labels.
        overwrite: Replace a store that is already there.
        images: How many there will be at most: room for them is asked for first.
        fingerprint: Of source and settings; what a killed writer with an equal one left is taken up, if it is sound.
        on_notice: Called with a line that says what became of work that a killed writer left.

    Attributes:
        count: Images written so far.
        skipped_count: Images that were of no use; `skipped` lists the first of them.

    Raises:
        UserError: The folder exists, cannot be written, or is being written by another process; the disk is too small.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        resolution: int,
        channels: int,
        dtype: npt.DTypeLike = np.uint8,
        labelled: bool = False,
        overwrite: bool = False,
        images: int = 0,
        fingerprint: str = "",
        on_notice: Callable[[str], None] | None = None,
    ) -> None:
        self.path, self.labelled, self.overwrite = Path(path), labelled, overwrite
        self._fingerprint, self._is_finished = fingerprint, False
        self._partial = partial_folder(self.path)
        refuse_existing(self.path, overwrite)
        require_room(self.path, store_bytes(images, channels, resolution, labelled, dtype))
        with self._writing():
            self._partial.mkdir(parents=True, exist_ok=True)
            self._refuse_strange()
            self._lock = lock_file(self._partial / LOCK, timeout=0)
            try:
                self._lock.acquire()
            except Timeout as error:
                advice = "wait for it, or choose another folder"
                raise UserError(f"another process is preparing {path}: {advice}") from error
            is_left = any((self._partial / name).exists() for name in (IMAGES, PROGRESS))
            self._arrays = {IMAGES: _GrowingArray(self._partial / IMAGES, (channels, resolution, resolution), dtype)}
            if labelled:
                self._arrays[LABELS] = _GrowingArray(self._partial / LABELS, (), np.int64)
            else:
                (self._partial / LABELS).unlink(missing_ok=True)
            progress = self._take_up()
        self.count, self.skipped_count = progress.count, progress.skipped_count
        self.skipped, self._converted = list(progress.skipped), Counter(progress.converted)
        if on_notice and self.done:
            on_notice(f"{path}: goes on behind the {self.count:,} images that a killed preparation left")
        elif on_notice and is_left:
            why = "nothing was safe yet, the source or an option is another now, or it was altered"
            on_notice(f"{path}: starts again, as what a killed preparation left is of no use: {why}")

    @property
    def done(self) -> int:
        """Images of the source that were dealt with: written or skipped."""
        return self.count + self.skipped_count

    def append(
        self,
        images: np.ndarray,
        labels: np.ndarray | None = None,
        skipped: Iterable[tuple[str, str]] = (),
        converted: Mapping[str, int] | None = None,
    ) -> None:
        """Adds images at the end; they survive a kill of this process.

        Args:
            images: (n, C, H, W), of the store's type.
            labels: (n,) integers; required if the store is labelled, else left out.
            skipped: (name, reason) of images that were read with these and are of no use.
            converted: How many of these needed what treatment.

        Raises:
            UserError: The disk is full or broken, or a label is out of range.
        """
        array = self._arrays[IMAGES]
        if images.dtype != array.dtype or images.shape[1:] != array.shape:
            raise ValueError(f"expected {array.dtype} (n, *{array.shape})")
        if (labels is not None) != self.labelled or (labels is not None and len(labels) != len(images)):
            raise ValueError("expected one label for each image of a labelled store, and none otherwise")
        if labels is not None and len(labels) and not 0 <= labels.min() <= labels.max() <= LARGEST_LABEL:
            raise UserError(f"labels {labels.min()} to {labels.max()}: expected 0 to {LARGEST_LABEL:,}", "labels")
        with self._writing():
            array.append(images)
            if labels is not None:
                self._arrays[LABELS].append(labels)
            unused = [SkippedImage(name=name, reason=reason) for name, reason in skipped]
            self.count += len(images)
            self.skipped_count += len(unused)
            self.skipped += unused[: LISTED_SKIPPED - len(self.skipped)]
            self._converted.update(converted or {})
            self._write_progress()

    def finish(self, refused: Sequence[tuple[str, str]] = (), **description: Any) -> ImageStore:
        """Completes the store and moves it to its place.

        Args:
            refused: (name, reason) of what the source did not give; listed before what was skipped.
            description: The fields of DatasetDescription that the writer does not know by itself.

        Raises:
            UserError: The store is empty, its description too large to be read back, or the disk full or broken.
        """
        if self.count == 0:
            raise UserError(f"no image to write into {self.path}")
        with self._writing():
            for array in self._arrays.values():
                array.finish(self.count)
            self._describe(refused, **description)
            refuse_existing(self.path, self.overwrite)
            (self._partial / PROGRESS).unlink()
            self._lock.release()
            (self._partial / LOCK).unlink(missing_ok=True)
            install(self._partial, self.path, STORE)  # an old store goes only now
            self._is_finished = True
        return ImageStore.open(self.path)

    def _describe(self, refused: Sequence[tuple[str, str]], **description: Any) -> None:
        """Writes `dataset.json`."""
        skipped = [SkippedImage(name=name, reason=reason) for name, reason in refused[:LISTED_SKIPPED]]
        duplicates = find_duplicates(np.load(self._partial / IMAGES, mmap_mode="r"))
        DatasetDescription(
            resolution=self._arrays[IMAGES].shape[1],
            channels=self._arrays[IMAGES].shape[0],
            count=self.count,
            sha256=self._arrays[IMAGES].sha256.hexdigest(),
            labels_sha256=self._arrays[LABELS].sha256.hexdigest() if self.labelled else None,
            skipped=[*skipped, *self.skipped][:LISTED_SKIPPED],
            skipped_count=len(refused) + self.skipped_count,
            converted=dict(sorted(self._converted.items())),
            duplicate_count=len(duplicates),
            duplicates=duplicates[:LISTED_DUPLICATES],
            **description,
        ).write(self._partial)
        DatasetDescription.read(self._partial)  # what cannot be read back must not replace a store

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self._is_finished:
            return
        is_complete = self._arrays[IMAGES].file.closed  # only `finish` failed
        for array in self._arrays.values():
            with suppress(OSError):  # a full disk was reported by the write itself
                array.file.close()
        self._lock.release()
        if self.done and error is not None and (is_complete or not isinstance(error, UserError)):
            return
        with suppress(OSError):
            for name in PARTIAL_FILES:
                (self._partial / name).unlink(missing_ok=True)
            self._partial.rmdir()

    def _writing(self) -> AbstractContextManager[None]:
        return user_error(f"cannot write {self.path}", OSError, advice="choose another folder")

    def _refuse_strange(self) -> None:
        """Leaves alone what this version did not write: an older one may go on with it, or it is no work of vitgan's."""
        strange = sorted({file.name for file in self._partial.iterdir()} - PARTIAL_FILES)
        if strange or self._partial.is_symlink():
            reason = f"holds {listed(strange)}, which this version of vitgan does not write" if strange else "is a link"
            advice = "remove it if an older version left it, else move it or choose another folder"
            raise UserError(f"{self._partial} {reason}; nothing was changed: {advice}")

    def _take_up(self) -> _Progress:
        """What a killed writer left, or nothing if anything speaks against that; the arrays are then empty."""
        with suppress(UserError, ValidationError):
            digest, _, text = read_bytes(self._partial / PROGRESS, "progress").partition(b" ")
            progress = _Progress.model_validate_json(text)
            is_ours = self._fingerprint == progress.fingerprint != "" and digest == _digest(text)
            if is_ours and all(a.go_on(progress.count, progress.sha256.get(name)) for name, a in self._arrays.items()):
                return progress
        for array in self._arrays.values():
            array.go_on(0, None)
        return _Progress(fingerprint=self._fingerprint)

    def _write_progress(self) -> None:
        """Not forced to the disk: if a power cut leaves less of the arrays than of this, the digests will tell."""
        text = _Progress(
            fingerprint=self._fingerprint,
            count=self.count,
            sha256={name: array.sha256.hexdigest() for name, array in self._arrays.items()},
            skipped_count=self.skipped_count,
            skipped=self.skipped,
            converted=self._converted,
        ).model_dump_json()
        temporary = self._partial / f"{PROGRESS}.part"
        temporary.write_bytes(_digest(text.encode()) + b" " + text.encode())
        temporary.replace(self._partial / PROGRESS)


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest().encode()


def partial_folder(path: Path) -> Path:
    """Where the store `path` is written before it is whole."""
    path = Path(os.path.abspath(path))  # noqa: PTH100 - "." and ".." have no name
    return path.with_name(f".{path.name}.partial")


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Refuses to write a store at `path` unless it is free, or an unaltered store that may be overwritten."""
    if os.path.lexists(path) and not (path.is_dir() and not any(path.iterdir())) and not overwrite:
        raise UserError(f"{path} exists already: choose another folder, or overwrite it", "overwrite")
    check_folder(path, STORE)


def require_room(destination: Path, needed: int) -> None:
    """Raises a UserError unless `needed` more bytes fit beside `destination`, counting what is written already."""
    partial = partial_folder(destination)
    written = sum(file.lstat().st_size for file in partial.iterdir()) if partial.is_dir() else 0
    existing = next(folder for folder in partial.parents if folder.exists())
    free = shutil.disk_usage(existing).free + written
    if needed > free:
        advice = "make room, choose another folder, or prepare fewer images"
        raise UserError(f"{destination} needs {needed:,} bytes, the disk has {free:,} free: {advice}", "max_images")


def find_duplicates(images: np.ndarray) -> list[tuple[int, int]]:
    """(n, C, H, W) -> (index of the first copy, index of a later copy), ordered by the later one.

    Images of the same 8 bytes of BLAKE2 are taken for equal, which is wrong by a chance of 2^-64 for each two.
    """
    digests = b"".join(hashlib.blake2b(image.tobytes(), digest_size=8).digest() for image in np.asarray(images))
    _, first, inverse = np.unique(np.frombuffer(digests, np.uint64), return_index=True, return_inverse=True)
    original = first[inverse.reshape(-1)]
    later = np.flatnonzero(original != np.arange(len(images)))
    return [(int(original[index]), int(index)) for index in later]
