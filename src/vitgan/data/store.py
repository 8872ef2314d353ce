"""The image store: one memory-mapped uint8 array and its description.

    DIR/images.npy     (N, C, H, W) uint8, plain NumPy format
    DIR/labels.npy     (N,) int64, only where the source has labels
    DIR/dataset.json   DatasetDescription

A store in the making is the hidden folder `.DIR.partial` beside it, which becomes DIR when it is whole. It holds a
journal, so that a preparation that was killed can go on.
"""

import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from filelock import Timeout

from vitgan.data.description import FILE_NAME, DatasetDescription
from vitgan.data.duplicates import find_duplicates, image_digests
from vitgan.errors import UserError
from vitgan.files import lock_file
from vitgan.folders import MARKER, check_folder, install

IMAGES, LABELS = "images.npy", "labels.npy"
JOURNAL, DIGESTS, LOCK = "journal.json", "digests.bin", "lock"
PARTIAL_FILES = {IMAGES, LABELS, FILE_NAME, JOURNAL, f"{JOURNAL}.new", DIGESTS, LOCK, "labels.bin", MARKER, f".{MARKER}.part"}
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
        """Opens a store in time independent of the images' number; `verify` checks the content.

        Raises:
            UserError: There is no store at `path`, or its files contradict each other.
        """
        path = Path(path)
        description = DatasetDescription.read(path)
        images = _read_array(path / IMAGES, mmap_mode="r")
        expected = (description.count, description.channels, description.resolution, description.resolution)
        if not isinstance(images, np.memmap) or images.dtype != np.uint8 or images.shape != expected:
            found = f"{images.dtype} {images.shape}"
            raise UserError(
                f"{path / IMAGES} holds {found}, but {FILE_NAME} says uint8 {expected}: prepare the store again"
            )
        labels = _read_array(path / LABELS) if description.labels_sha256 else None
        if labels is not None and (labels.dtype != np.int64 or labels.shape != (description.count,)):
            found = f"{labels.dtype} {labels.shape}"
            raise UserError(
                f"{path / LABELS} holds {found}, but {FILE_NAME} says int64 ({description.count},): prepare it again"
            )
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
            UserError: Images or labels are not what was prepared.
        """
        image_bytes = self.channels * self.resolution**2
        with (self.path / IMAGES).open("rb") as file:
            file.seek(self.images.offset)
            digest = hashlib.sha256()
            for done in _hash_blocks(file, digest, len(self) * image_bytes):
                if on_progress:
                    on_progress(done // image_bytes, len(self))
        if digest.hexdigest() != self.description.sha256:
            raise UserError(f"the images of {self.path} were altered (SHA-256 differs): prepare the store again")
        if self.labels is not None and _labels_digest(self.labels) != self.description.labels_sha256:
            raise UserError(f"the labels of {self.path} were altered (SHA-256 differs): prepare the store again")


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
        fingerprint: Identifies source and settings; work left by a killed writer with an equal one is taken up.

    Attributes:
        count: Images written so far.
        journal: What the last `checkpoint` was given; empty at a fresh start.

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
        self._partial = partial_folder(self.path)
        self._hash = hashlib.sha256()
        refuse_existing(self.path, overwrite)
        try:
            self._partial.mkdir(parents=True, exist_ok=True)
            if self._partial.is_symlink() or {file.name for file in self._partial.iterdir()} - PARTIAL_FILES:
                raise UserError(f"{self._partial} is no work of vitgan's: move it away, or choose another --out")
            self._lock = lock_file(self._partial / LOCK, timeout=0)
            self._lock.acquire()
            self._open_files()
        except Timeout as error:
            raise UserError(f"another process is preparing {path}: wait for it, or choose another --out") from error
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror}: choose another --out") from error

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
        pixels = np.ascontiguousarray(images).tobytes()
        try:
            self._images.write(pixels)
            if labels is not None:
                self._labels.write(np.asarray(labels, "<i8").tobytes())
            self._digests.write((image_digests(images) if digests is None else digests).tobytes())
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror}") from error
        self._hash.update(pixels)
        self.count += len(images)

    def checkpoint(self, journal: dict[str, Any]) -> None:
        """Makes the images so far, and `journal` (JSON values), survive a kill of this process."""
        for file in (self._images, self._labels, self._digests):
            file.flush()
        state = {"fingerprint": self.fingerprint, "count": self.count, "journal": journal}
        temporary = self._partial / (JOURNAL + ".new")
        temporary.write_text(json.dumps(state), "utf-8")
        temporary.replace(self._partial / JOURNAL)
        self.journal = journal

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
        if self._images.closed:
            return
        if self.journal and error is not None and not isinstance(error, UserError):
            self._close_files()
            self._lock.release()
        else:
            self.discard()

    def _open_files(self) -> None:
        header = _header(0, self.channels, self.resolution)
        image_bytes = self.channels * self.resolution**2
        state = self._resumable_state()
        if state:
            self.count, self.journal = state["count"], state["journal"]
        else:
            (self._partial / JOURNAL).unlink(missing_ok=True)
        self._images = _open_truncated(self._partial / IMAGES, len(header) + self.count * image_bytes)
        self._labels = _open_truncated(self._partial / "labels.bin", self.count * 8)
        self._digests = _open_truncated(self._partial / DIGESTS, self.count * 8)
        self._images.write(header)
        for _ in _hash_blocks(self._images, self._hash, self.count * image_bytes):
            pass

    def _resumable_state(self) -> dict[str, Any] | None:
        """The journal of a killed writer of the same images, if what it vouches for is there."""
        try:
            state = json.loads((self._partial / JOURNAL).read_text("utf-8"))
            written = (self._partial / IMAGES).stat().st_size, (self._partial / DIGESTS).stat().st_size
        except (OSError, ValueError):
            return None
        if not self.fingerprint or state["fingerprint"] != self.fingerprint:
            return None
        needed = len(_header(0, self.channels, self.resolution)) + state["count"] * self.channels * self.resolution**2
        return state if written[0] >= needed and written[1] >= 8 * state["count"] else None

    def _write_whole(self, description: dict[str, Any]) -> None:
        self._images.seek(0)
        self._images.write(_header(self.count, self.channels, self.resolution))
        for file in (self._images, self._labels, self._digests):
            file.flush()
        self._close_files()
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
            sha256=self._hash.hexdigest(),
            labels_sha256=labels_sha256,
            duplicate_count=len(duplicates),
            duplicates=duplicates[:LISTED_DUPLICATES],
            **description,
        ).write(self._partial)
        for name in ("labels.bin", DIGESTS, JOURNAL, JOURNAL + ".new"):
            (self._partial / name).unlink(missing_ok=True)

    def _move_into_place(self) -> None:
        """An old store goes only after the new one is complete."""
        refuse_existing(self.path, self.overwrite)
        install(self._partial, self.path, STORE)

    def _close_files(self) -> None:
        for file in (self._images, self._labels, self._digests):
            with suppress(OSError):  # a full disk was reported by the write itself
                file.close()


def partial_folder(path: Path) -> Path:
    """Where the store `path` is written before it is whole."""
    path = Path(os.path.abspath(path))  # noqa: PTH100 - "." and ".." have no name
    return path.with_name(f".{path.name}.partial")


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raises a UserError unless a store may be written at `path`; only unaltered stores are overwritten (`vitgan.folders`)."""
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


def _open_truncated(file: Path, size: int) -> BinaryIO:
    """Opens for reading and writing, with what lies behind `size` bytes cut off; the position is the start."""
    file.touch()
    handle = file.open("r+b")
    handle.truncate(size)
    handle.seek(0 if file.name == IMAGES else size)
    return handle


def _hash_blocks(file: BinaryIO, digest: "hashlib._Hash", size: int) -> Iterator[int]:
    """Feeds the next `size` bytes to `digest`; yields how many are done."""
    done = 0
    while done < size and (block := file.read(min(BLOCK_BYTES, size - done))):
        digest.update(block)
        done += len(block)
        yield done


def _labels_digest(labels: np.ndarray) -> str:
    return hashlib.sha256(labels.astype("<i8").tobytes()).hexdigest()


def _read_array(file: Path, mmap_mode: Literal["r"] | None = None) -> np.ndarray:
    try:
        return np.load(file, mmap_mode=mmap_mode, allow_pickle=False)
    except FileNotFoundError as error:
        raise UserError(f"{file} is missing: prepare the store again") from error
    except (OSError, ValueError, EOFError, OverflowError, SyntaxError) as error:
        raise UserError(f"{file} is damaged ({' '.join(str(error).split())}): prepare the store again") from error
