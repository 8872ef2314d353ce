"""A store in the making: the hidden folder `.DIR.partial` beside it, which becomes DIR when it is whole.

images.npy      the images so far, behind a header that is written at the end
journal.jsonl   a line for each call of `append`, by which a killed preparation is gone on with: a `_Part`, and before it
                the SHA-256 of all images so far and of this text
"""

import hashlib
import io
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import numpy as np
import numpy.typing as npt
from filelock import Timeout
from pydantic import Field, ValidationError

from vitgan.data.labels import LARGEST_LABEL
from vitgan.data.names import listed
from vitgan.data.store import (
    DESCRIPTION,
    IMAGES,
    LABELS,
    Count,
    DatasetDescription,
    ImageStore,
    SkippedImage,
    images_header,
    labels_digest,
    store_bytes,
)
from vitgan.errors import UserError
from vitgan.files import lock_file, user_error
from vitgan.files.folders import MARKER, check_folder, install
from vitgan.schema import Config

JOURNAL, LOCK = "journal.jsonl", "lock"
PARTIAL_FILES = {IMAGES, LABELS, DESCRIPTION, JOURNAL, LOCK, MARKER, f".{MARKER}.part"}
"""All that a store in the making holds; nothing else is ever removed with it."""
STORE = "image store"
LISTED_SKIPPED, LISTED_DUPLICATES = 1000, 100
LONGEST_LINE = 1 << 24


class _Part(Config):
    """What was written together, and what was skipped with it."""

    count: Count
    labels: list[Annotated[int, Field(ge=0, le=LARGEST_LABEL)]] | None
    skipped: list[SkippedImage]
    converted: dict[str, Count]


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
        fingerprint: Of source and settings; what a killed writer with an equal one left is taken up, as far as it is sound.
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
        self.count = self.skipped_count = 0
        self.skipped: list[SkippedImage] = []
        self._converted: Counter[str] = Counter()
        self._digests, self._labels = bytearray(), bytearray()
        self._sha256 = hashlib.sha256()
        self._shape, self._dtype = (channels, resolution, resolution), np.dtype(dtype)
        self._is_finished = False
        self._partial = partial_folder(self.path)
        refuse_existing(self.path, overwrite)
        require_room(self.path, store_bytes(images, channels, resolution, labelled, self._dtype))
        with self._writing():
            self._partial.mkdir(parents=True, exist_ok=True)
            self._refuse_strange()
            self._lock = lock_file(self._partial / LOCK, timeout=0)
            try:
                self._lock.acquire()
            except Timeout as error:
                advice = "wait for it, or choose another folder"
                raise UserError(f"another process is preparing {path}: {advice}") from error
            notice = self._take_up(fingerprint)
        if on_notice and notice:
            on_notice(f"{path}: {notice}")

    @property
    def done(self) -> int:
        """Images of the source that were dealt with: written or skipped."""
        return self.count + self.skipped_count

    @property
    def _image_bytes(self) -> int:
        return int(np.prod(self._shape)) * self._dtype.itemsize

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
        if images.dtype != self._dtype or images.shape[1:] != self._shape:
            raise ValueError(f"expected {self._dtype} (n, *{self._shape})")
        if (labels is not None) != self.labelled or (labels is not None and len(labels) != len(images)):
            raise ValueError("expected one label for each image of a labelled store, and none otherwise")
        if labels is not None and len(labels) and not 0 <= labels.min() <= labels.max() <= LARGEST_LABEL:
            raise UserError(f"labels {labels.min()} to {labels.max()}: expected 0 to {LARGEST_LABEL:,}")
        part = _Part(
            count=len(images),
            labels=None if labels is None else labels.tolist(),
            skipped=[SkippedImage(name=name, reason=reason) for name, reason in skipped],
            converted=dict(converted or {}),
        )
        data, text = images.tobytes(), part.model_dump_json().encode()
        sha256 = self._sha256_with(data)
        with self._writing():
            self._images.write(data)
            self._images.flush()  # before the line that vouches for them
            self._journal.write(_signed(text, sha256))
            self._journal.flush()
        self._count_in(part, data, sha256)

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
            self._images.seek(0)
            self._images.write(images_header(self.count, *self._shape[:2], self._dtype))
            self._images.flush()
            self._close_files()
            self._describe(refused, **description)
            refuse_existing(self.path, self.overwrite)
            (self._partial / JOURNAL).unlink()
            self._lock.release()
            (self._partial / LOCK).unlink(missing_ok=True)
            install(self._partial, self.path, STORE)  # an old store goes only now
            self._is_finished = True
        return ImageStore.open(self.path)

    def _describe(self, refused: Sequence[tuple[str, str]], **description: Any) -> None:
        """Writes the labels and `dataset.json`."""
        if self.labelled:
            labels, buffer = np.frombuffer(self._labels, np.int64), io.BytesIO()
            np.save(buffer, labels)  # into a file it would say nothing of a full disk
            (self._partial / LABELS).write_bytes(buffer.getvalue())
            description["labels_sha256"] = labels_digest(labels)
        skipped = [SkippedImage(name=name, reason=reason) for name, reason in refused[:LISTED_SKIPPED]]
        duplicates = find_duplicates(np.frombuffer(self._digests, np.uint64))
        DatasetDescription(
            resolution=self._shape[1],
            channels=self._shape[0],
            count=self.count,
            sha256=self._sha256.hexdigest(),
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
        is_complete = self._images.closed  # only `finish` failed
        self._close_files()
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

    def _take_up(self, fingerprint: str) -> str:
        """Opens the files behind what a killed writer left, as far as nothing speaks against it; says what became of it."""
        is_left = any((self._partial / name).exists() for name in (IMAGES, JOURNAL))
        self._images, self._journal = self._open(IMAGES), self._open(JOURNAL)
        header = images_header(0, *self._shape[:2], self._dtype)
        first = _signed(json.dumps(fingerprint).encode(), self._sha256)
        self._images.write(header)
        sound = 0
        if self._journal.readline(LONGEST_LINE) == first and fingerprint:
            sound = len(first)
            while self._read_part():
                sound = self._journal.tell()
        self._images.seek(len(header) + self.count * self._image_bytes)
        self._journal.seek(sound)
        for file in (self._images, self._journal):
            file.truncate()
        if not sound:
            self._journal.write(first)
        if self.done:
            return f"goes on behind the {self.count:,} images that a killed preparation left"
        why = "nothing was safe yet, the source or an option is another now, or it was altered"
        left = f"starts again, as what a killed preparation left in {self._partial} is of no use: {why}"
        return left if is_left else ""

    def _open(self, name: str) -> BinaryIO:
        file = self._partial / name
        if not file.is_file():  # to open a FIFO could wait for ever
            file.unlink(missing_ok=True)
        file.touch()
        return file.open("r+b")

    def _read_part(self) -> bool:
        """Counts in the journal's next line, if it and its images are as they were written."""
        line = self._journal.readline(LONGEST_LINE)
        text = line.rstrip(b"\n").partition(b" ")[2]
        try:
            part = _Part.model_validate_json(text)
        except ValidationError:
            return False
        left = os.fstat(self._images.fileno()).st_size - self._images.tell()
        labels = part.count if self.labelled else 0
        if part.count * self._image_bytes > left or len(part.labels or ()) != labels:
            return False
        data = self._images.read(part.count * self._image_bytes)
        sha256 = self._sha256_with(data)
        if line != _signed(text, sha256):
            return False
        self._count_in(part, data, sha256)
        return True

    def _sha256_with(self, data: bytes) -> "hashlib._Hash":
        sha256 = self._sha256.copy()
        sha256.update(data)
        return sha256

    def _count_in(self, part: _Part, data: bytes, sha256: "hashlib._Hash") -> None:
        self._sha256 = sha256
        self.count += part.count
        self.skipped_count += len(part.skipped)
        self.skipped += part.skipped[: LISTED_SKIPPED - len(self.skipped)]
        self._converted.update(part.converted)
        self._digests += image_digests(data, self._image_bytes)
        self._labels += np.array(part.labels or (), np.int64).tobytes()

    def _close_files(self) -> None:
        for file in (self._images, self._journal):
            with suppress(OSError):  # a full disk was reported by the write itself
                file.close()


def _signed(text: bytes, images: "hashlib._Hash") -> bytes:
    """A line of the journal."""
    return f"{hashlib.sha256(images.digest() + text).hexdigest()} ".encode() + text + b"\n"


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


def image_digests(data: bytes, image_bytes: int) -> bytes:
    """8 bytes for each image, equal for equal images and (but for chance 2^-64) only for those."""
    starts = range(0, len(data), image_bytes)
    return b"".join(hashlib.blake2b(data[i : i + image_bytes], digest_size=8).digest() for i in starts)


def find_duplicates(digests: np.ndarray) -> list[tuple[int, int]]:
    """(n,) digests -> (index of the first copy, index of a later copy), ordered by the later one."""
    _, first, inverse = np.unique(digests, return_index=True, return_inverse=True)
    original = first[inverse.reshape(-1)]
    later = np.flatnonzero(original != np.arange(len(digests)))
    return [(int(original[index]), int(index)) for index in later]
