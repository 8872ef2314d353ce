"""The image store: one memory-mapped uint8 array and its description.

    DIR/images.npy     (N, C, H, W) uint8, plain NumPy format
    DIR/labels.npy     (N,) int64, only where the source has labels
    DIR/dataset.json   DatasetDescription

A store in the making is the hidden folder `.DIR.partial` beside it, which becomes DIR when it is whole. It holds a
journal, so that a preparation that was killed can go on.
"""

import hashlib
import io
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import Timeout
from pydantic import Field

from vitgan.data.description import FILE_NAME, LARGEST_LABEL, DatasetDescription, Digest
from vitgan.data.duplicates import find_duplicates, image_digests
from vitgan.errors import UserError
from vitgan.files import lock_file, read_array, read_model, regular_size, write_bytes
from vitgan.files.folders import MARKER, check_folder, install
from vitgan.schema import Config

IMAGES, LABELS = "images.npy", "labels.npy"
JOURNAL, DIGESTS, LOCK = "journal.json", "digests.bin", "lock"
PARTIAL_FILES = {
    IMAGES,
    LABELS,
    FILE_NAME,
    JOURNAL,
    f".{JOURNAL}.part",
    DIGESTS,
    LOCK,
    "labels.bin",
    MARKER,
    f".{MARKER}.part",
}
"""All that a store in the making holds; nothing else is ever removed with it."""
STORE = "image store"
BLOCK_BYTES = 1 << 22
LISTED_DUPLICATES = 100


class ImageStore:
    """A prepared data set, read-only; nothing is decoded, and no image is loaded before it is indexed.

    Attributes:
        path: The store's folder.
        description: What it holds.
        images: (N, C, H, W) uint8 memory map.
        labels: (N,) int64 array, or None.
    """

    def __init__(
        self, path: Path, description: DatasetDescription, images: np.memmap, labels: np.ndarray | None
    ) -> None:
        self.path = path
        self.description = description
        self.images = images
        self.labels = labels

    @classmethod
    def open(cls, path: str | Path) -> "ImageStore":
        """Opens a store without reading its images, which `verify` does; the labels are checked.

        Raises:
            UserError: There is no store at `path`, or its files are damaged or contradict each other.
        """
        path = Path(path)
        description = DatasetDescription.read(path)
        count, size = description.count, description.resolution
        try:
            images = read_array(path / IMAGES, np.uint8, (count, description.channels, size, size))
            labels = None
            if description.labels_sha256:
                labels = np.array(read_array(path / LABELS, np.int64, (count,)))
                _check_labels(path, labels, description.labels_sha256)
            elif (path / LABELS).exists():
                raise UserError(f"{path} has {LABELS}, of which {FILE_NAME} knows nothing")
        except UserError as error:
            raise UserError(f"{error}: prepare the store again") from error
        return cls(path, description, images, labels)

    def __len__(self) -> int:
        return self.description.count

    @property
    def resolution(self) -> int:
        """Height and width in pixels."""
        return self.description.resolution

    @property
    def channels(self) -> int:
        """1 (grey) or 3 (RGB)."""
        return self.description.channels

    @property
    def label_count(self) -> int:
        """Number of classes: of the names, or the largest label plus one if that is more; 0 without labels."""
        if self.labels is None:
            return 0
        return max(len(self.description.label_names or ()), int(self.labels.max()) + 1)

    def verify(self, on_progress: Callable[[int, int], None] | None = None) -> None:
        """Reads every byte and compares it with the checksums in `dataset.json`.

        Args:
            on_progress: Called with (images read, images in all).

        Raises:
            UserError: The images are not what was prepared, or cannot be read.
        """
        image_bytes = self.channels * self.resolution**2
        digest = hashlib.sha256()
        try:
            with (self.path / IMAGES).open("rb") as file:
                file.seek(self.images.offset)
                for done in _hash_blocks(file, digest, len(self) * image_bytes):
                    if on_progress:
                        on_progress(done // image_bytes, len(self))
        except OSError as error:
            raise UserError(f"cannot read {self.path / IMAGES}: {error.strerror or error}") from error
        if digest.hexdigest() != self.description.sha256:
            raise UserError(f"the images of {self.path} were altered (SHA-256 differs): prepare the store again")


class Journal(Config):
    """What a writer's `journal.json` vouches for."""

    fingerprint: str
    count: int = Field(ge=0)
    images: Digest
    labels: Digest
    digests: Digest
    """SHA-256 of what the three files hold of these `count` images."""
    record: dict[str, Any]
    """The caller's."""
    sha256: str = ""
    """Of all of the above."""

    def signed(self) -> "Journal":
        """With the digest of all other fields."""
        content = self.model_dump_json(exclude={"sha256"})
        return self.model_copy(update={"sha256": hashlib.sha256(content.encode()).hexdigest()})


class StoreWriter:
    """Writes a store image after image; the folder appears under its name only when it is whole.

    Use it as a context manager. Leaving the block without `finish` removes what was written, unless `checkpoint` was
    called and the reason is not a UserError: then the work so far is kept for a writer with the same fingerprint.

    Args:
        path: The store's folder to be.
        resolution: Height and width in pixels.
        channels: 1 or 3.
        labelled: Whether images come with labels.
        overwrite: Replace a store that is already there.
        fingerprint: Identifies source and settings; work left by a killed writer with an equal one is taken up, if
            every byte of it is as it was written.

    Attributes:
        count: Images written so far.
        journal: What the last `checkpoint` was given; empty at a fresh start.
        notice: What became of work that a killed writer left, in words; empty if there was none.

    Raises:
        UserError: The folder exists, cannot be written, or is being written by another process.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        resolution: int,
        channels: int,
        labelled: bool = False,
        overwrite: bool = False,
        fingerprint: str = "",
    ) -> None:
        self.path = Path(path)
        self.resolution, self.channels, self.labelled = resolution, channels, labelled
        self.overwrite, self.fingerprint = overwrite, fingerprint
        self.count = 0
        self.journal: dict[str, Any] = {}
        self.notice = ""
        self._parts: list[_Part] = []
        self._partial = partial_folder(self.path)
        refuse_existing(self.path, overwrite)
        try:
            self._partial.mkdir(parents=True, exist_ok=True)
            if self._partial.is_symlink() or {file.name for file in self._partial.iterdir()} - PARTIAL_FILES:
                raise UserError(f"{self._partial} is no work of vitgan's: move it away, or choose another --out")
            self._lock = lock_file(self._partial / LOCK, timeout=0)
            self._lock.acquire()
            useless = self._take_up()
            if useless:
                self.restart(useless)
        except Timeout as error:
            raise UserError(f"another process is preparing {path}: wait for it, or choose another --out") from error
        except OSError as error:
            raise UserError(f"cannot write {error.filename or path}: {error.strerror}: choose another --out") from error

    def append(self, images: np.ndarray, labels: np.ndarray | None = None, digests: np.ndarray | None = None) -> None:
        """Adds images at the end.

        Args:
            images: (n, C, H, W) uint8.
            labels: (n,) integers; required if the store is labelled, else left out.
            digests: `image_digests(images)`, if the caller has them already.

        Raises:
            UserError: The disk is full or broken.
        """
        if images.dtype != np.uint8 or images.shape[1:] != (self.channels, self.resolution, self.resolution):
            raise ValueError(f"expected uint8 (n, {self.channels}, {self.resolution}, {self.resolution})")
        if (labels is not None) != self.labelled or (labels is not None and len(labels) != len(images)):
            raise ValueError("expected one label for each image of a labelled store, and none otherwise")
        if labels is not None and len(labels) and not 0 <= labels.min() <= labels.max() <= LARGEST_LABEL:
            raise UserError(f"labels {labels.min()} to {labels.max()}: expected 0 to {LARGEST_LABEL:,}")
        try:
            self._images.write(np.ascontiguousarray(images).tobytes())
            if labels is not None:
                self._labels.write(np.asarray(labels, "<i8").tobytes())
            self._digests.write((image_digests(images) if digests is None else digests).tobytes())
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror}") from error
        self.count += len(images)

    def checkpoint(self, journal: dict[str, Any]) -> None:
        """Makes the images so far, and `journal` (JSON values), survive a kill of this process."""
        for part in self._parts:
            part.file.flush()
        images, labels, digests = (part.sha256.hexdigest() for part in self._parts)
        shared = {"fingerprint": self.fingerprint, "count": self.count, "record": journal}
        state = Journal(**shared, images=images, labels=labels, digests=digests).signed()
        write_bytes(self._partial / JOURNAL, state.model_dump_json().encode())
        self.journal = journal

    def restart(self, reason: str) -> None:
        """Drops what a killed writer left.

        Args:
            reason: Why it is of no use.

        Raises:
            UserError: The files cannot be written.
        """
        self.count, self.journal = 0, {}
        self.notice = f"starts again, as what a killed preparation left in {self._partial} is of no use: {reason}"
        try:
            (self._partial / JOURNAL).unlink(missing_ok=True)
            self._open(0)
        except OSError as error:
            raise UserError(f"cannot write {error.filename or self.path}: {error.strerror}") from error

    def finish(self, **description: Any) -> ImageStore:
        """Completes the store and moves it to its place.

        Args:
            description: The fields of DatasetDescription that the writer does not know by itself.

        Raises:
            UserError: The store is empty, or the disk is full or broken.
        """
        if self.count == 0:
            raise UserError(f"no image to write into {self.path}")
        try:
            self._write_whole(description)
            self._lock.release()
            (self._partial / LOCK).unlink(missing_ok=True)
            self._move_into_place()
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror or error}") from error
        return ImageStore.open(self.path)

    def discard(self) -> None:
        """Removes everything written so far."""
        self._close_files()
        self._lock.release()
        with suppress(OSError):
            for name in PARTIAL_FILES:
                (self._partial / name).unlink(missing_ok=True)
            self._partial.rmdir()

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self._images.file.closed:
            return
        if self.journal and error is not None and not isinstance(error, UserError):
            self._close_files()
            self._lock.release()
        else:
            self.discard()

    def _take_up(self) -> str:
        """Goes on behind the images of a killed writer, or says why that cannot be; "" if there are none."""
        if not any((self._partial / name).exists() for name in (IMAGES, JOURNAL)):
            self._open(0)
            return ""
        if not (self._partial / JOURNAL).exists():
            return "it ended before anything was safe"
        try:
            kept = read_model(self._partial / JOURNAL, Journal, "preparation's journal")
        except UserError as error:
            return str(error)
        if kept != kept.signed():
            return f"{JOURNAL} is damaged"
        if kept.fingerprint != self.fingerprint or not self.fingerprint:
            return "the source or an option is another now"
        self._open(kept.count)
        found = [part.sha256.hexdigest() for part in self._parts]
        if found != [kept.images, kept.labels, kept.digests]:
            return "its images were altered"
        self.count, self.journal = kept.count, kept.record
        self.notice = f"goes on behind the {kept.count:,} images that a killed preparation left"
        return ""

    def _open(self, count: int) -> None:
        """Opens the files for appending behind `count` images."""
        self._close_files()
        image_bytes, header = self.channels * self.resolution**2, _header(0, self.channels, self.resolution)
        self._images = _Part(self._partial / IMAGES, header, count * image_bytes)
        self._labels = _Part(self._partial / "labels.bin", b"", count * 8 * self.labelled)
        self._digests = _Part(self._partial / DIGESTS, b"", count * 8)
        self._parts = [self._images, self._labels, self._digests]

    def _write_whole(self, description: dict[str, Any]) -> None:
        self._images.file.seek(0)
        self._images.file.write(_header(self.count, self.channels, self.resolution))
        for part in self._parts:
            part.file.close()
        labels_sha256 = None
        if self.labelled:
            labels = np.fromfile(self._partial / "labels.bin", "<i8").astype(np.int64)
            np.save(self._partial / LABELS, labels)
            labels_sha256 = _labels_digest(labels)
        duplicates = find_duplicates(np.fromfile(self._partial / DIGESTS, np.uint64))
        DatasetDescription(
            resolution=self.resolution,
            channels=self.channels,  # pyright: ignore[reportArgumentType]
            count=self.count,
            sha256=self._images.sha256.hexdigest(),
            labels_sha256=labels_sha256,
            duplicate_count=len(duplicates),
            duplicates=duplicates[:LISTED_DUPLICATES],
            **description,
        ).write(self._partial)
        for name in ("labels.bin", DIGESTS, JOURNAL):
            (self._partial / name).unlink(missing_ok=True)

    def _move_into_place(self) -> None:
        """An old store goes only after the new one is complete."""
        refuse_existing(self.path, self.overwrite)
        install(self._partial, self.path, STORE)

    def _close_files(self) -> None:
        for part in self._parts:
            with suppress(OSError):  # a full disk was reported by the write itself
                part.file.close()


class _Part:
    """A file of a store in the making, and the SHA-256 of what it holds behind its header.

    Opens it for appending behind its first `size` bytes; where it has fewer, the SHA-256 is of those.
    """

    def __init__(self, path: Path, header: bytes, size: int) -> None:
        path.touch()
        regular_size(path)
        self.file, self.sha256 = path.open("r+b"), hashlib.sha256()
        self.file.write(header)
        for _ in _hash_blocks(self.file, self.sha256, size):
            pass
        self.file.truncate()

    def write(self, data: bytes) -> None:
        self.file.write(data)
        self.sha256.update(data)


def partial_folder(path: Path) -> Path:
    """Where the store `path` is written before it is whole."""
    path = Path(os.path.abspath(path))  # noqa: PTH100 - "." and ".." have no name
    return path.with_name(f".{path.name}.partial")


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raises a UserError unless a store may be written at `path`; only unaltered ones are overwritten."""
    if os.path.lexists(path) and not (path.is_dir() and not any(path.iterdir())) and not overwrite:
        raise UserError(f"{path} exists already: choose another --out, or pass --overwrite to replace it")
    check_folder(path, STORE)


def store_bytes(count: int, channels: int, resolution: int, labelled: bool) -> int:
    """Size of `images.npy` and `labels.npy` together."""
    header = len(_header(count, channels, resolution))
    return header + count * channels * resolution**2 + (header + count * 8 if labelled else 0)


def _header(count: int, channels: int, resolution: int) -> bytes:
    """NumPy's own header, whose padding leaves room for any count: its length does not depend on it."""
    buffer = io.BytesIO()
    shape = (count, channels, resolution, resolution)
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def _hash_blocks(file: BinaryIO, digest: "hashlib._Hash", size: int) -> Iterator[int]:
    """Feeds the next `size` bytes to `digest`; yields how many are done."""
    done = 0
    while done < size and (block := file.read(min(BLOCK_BYTES, size - done))):
        digest.update(block)
        done += len(block)
        yield done


def _labels_digest(labels: np.ndarray) -> str:
    return hashlib.sha256(labels.astype("<i8").tobytes()).hexdigest()


def _check_labels(path: Path, labels: np.ndarray, sha256: str) -> None:
    if _labels_digest(labels) != sha256:
        raise UserError(f"the labels of {path} were altered (SHA-256 differs)")
    if not 0 <= labels.min() <= labels.max() <= LARGEST_LABEL:
        raise UserError(f"{path / LABELS} has labels {labels.min()} to {labels.max()}, expected 0 to {LARGEST_LABEL:,}")
