"""A store in the making: the hidden folder `.DIR.partial` beside it, which becomes DIR when it is whole.

images.npy     the images so far, behind a header that is written at the end
rows.bin       label and digest of each of them
journal.json   Journal, by which a killed preparation is gone on with
"""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import Timeout
from pydantic import BaseModel, ConfigDict

from vitgan.data.labels import LARGEST_LABEL, NO_LABEL
from vitgan.data.names import listed
from vitgan.data.store import (
    DESCRIPTION,
    IMAGES,
    LABELS,
    Count,
    DatasetDescription,
    ImageStore,
    SkippedImage,
    hash_blocks,
    images_header,
    labels_digest,
)
from vitgan.errors import UserError
from vitgan.files import lock_file, read_model, regular_size, user_error, write_bytes
from vitgan.files.folders import MARKER, check_folder, install

ROWS, JOURNAL, LOCK = "rows.bin", "journal.json", "lock"
PARTIAL_FILES = {IMAGES, LABELS, DESCRIPTION, ROWS, JOURNAL, LOCK, MARKER, f".{JOURNAL}.part", f".{MARKER}.part"}
"""All that a store in the making holds; nothing else is ever removed with it."""
STORE = "image store"
ROW = np.dtype([("label", "<i8"), ("digest", "<u8")])
LISTED_SKIPPED, LISTED_DUPLICATES = 1000, 100
OF_NOTHING = hashlib.sha256().hexdigest()


class Journal(BaseModel):
    """What is known so far of a store in the making.

    Attributes:
        fingerprint: Of the source and the settings.
        count: Images written.
        skipped: The first that were skipped; `skipped_count` counts all.
        converted: How many images needed what treatment.
        images: SHA-256 of the images written.
        rows: SHA-256 of their labels and digests.
        sha256: Of all of the above.
    """

    model_config = ConfigDict(extra="forbid")

    fingerprint: str
    count: Count = 0
    skipped: list[SkippedImage] = []
    skipped_count: Count = 0
    converted: dict[str, Count] = {}
    images: str = OF_NOTHING
    rows: str = OF_NOTHING
    sha256: str = ""

    @property
    def done(self) -> int:
        """Images of the source that were dealt with: written or skipped."""
        return self.count + self.skipped_count

    def own_digest(self) -> str:
        """What `sha256` must be."""
        return hashlib.sha256(self.model_dump_json(exclude={"sha256"}).encode()).hexdigest()


class StoreWriter:
    """Writes a store image after image; the folder appears under its name only when it is whole.

    Use it as a context manager. Leaving the block without `finish` removes what was written, unless `checkpoint` was
    called, and the reason is not a UserError or is one of `finish`: then the work so far is kept for a writer with the
    same fingerprint.

    Args:
        path: The store's folder to be.
        resolution: Height and width in pixels.
        channels: 1 or 3.
        labelled: Whether images come with labels.
        overwrite: Replace a store that is already there.
        fingerprint: Identifies source and settings; work left by a killed writer with an equal one is taken up, if
            every byte of it is as it was written.

    Attributes:
        journal: What is written and skipped so far.
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
        self.path, self.labelled, self.overwrite = Path(path), labelled, overwrite
        self.notice = ""
        self._shape = (channels, resolution, resolution)
        self._is_kept = self._is_finished = False
        self._partial = partial_folder(self.path)
        refuse_existing(self.path, overwrite)
        with self._writing():
            self._partial.mkdir(parents=True, exist_ok=True)
            self._refuse_strange()
            self._lock = lock_file(self._partial / LOCK, timeout=0)
            try:
                self._lock.acquire()
            except Timeout as error:
                advice = "wait for it, or choose another folder"
                raise UserError(f"another process is preparing {path}: {advice}") from error
            self._take_up(fingerprint)

    def append(
        self,
        images: np.ndarray,
        labels: np.ndarray | None = None,
        digests: np.ndarray | None = None,
        skipped: Iterable[tuple[str, str]] = (),
        converted: Mapping[str, int] | None = None,
    ) -> None:
        """Adds images at the end.

        Args:
            images: (n, C, H, W) uint8.
            labels: (n,) integers; required if the store is labelled, else left out.
            digests: `image_digests(images)`, if the caller has them already.
            skipped: (name, reason) of images that were read with these and are of no use.
            converted: How many of these needed what treatment.

        Raises:
            UserError: The disk is full or broken, or a label is out of range.
        """
        if images.dtype != np.uint8 or images.shape[1:] != self._shape:
            raise ValueError(f"expected uint8 (n, *{self._shape})")
        if (labels is not None) != self.labelled or (labels is not None and len(labels) != len(images)):
            raise ValueError("expected one label for each image of a labelled store, and none otherwise")
        if labels is not None and len(labels) and not 0 <= labels.min() <= labels.max() <= LARGEST_LABEL:
            raise UserError(f"labels {labels.min()} to {labels.max()}: expected 0 to {LARGEST_LABEL:,}")
        rows = np.empty(len(images), ROW)
        rows["label"] = NO_LABEL if labels is None else labels
        rows["digest"] = image_digests(images) if digests is None else digests
        with self._writing():
            self._images.write(np.ascontiguousarray(images).tobytes())
            self._rows.write(rows.tobytes())
        journal, entries = self.journal, [SkippedImage(name=name, reason=reason) for name, reason in skipped]
        journal.count += len(images)
        journal.skipped_count += len(entries)
        journal.skipped += entries[: LISTED_SKIPPED - len(journal.skipped)]
        journal.converted = dict(Counter(journal.converted) + Counter(converted))

    def checkpoint(self) -> None:
        """Makes the images so far survive a kill of this process."""
        with self._writing():
            self.journal.images, self.journal.rows = self._images.flush(), self._rows.flush()
            self.journal.sha256 = self.journal.own_digest()
            write_bytes(self._partial / JOURNAL, self.journal.model_dump_json().encode())
        self._is_kept = True

    def finish(self, refused: Sequence[tuple[str, str]] = (), **description: Any) -> ImageStore:
        """Completes the store and moves it to its place.

        Args:
            refused: (name, reason) of what the source did not give; listed before what was skipped.
            description: The fields of DatasetDescription that the writer does not know by itself.

        Raises:
            UserError: The store is empty, its description too large to be read back, or the disk full or broken.
        """
        if self.journal.count == 0:
            raise UserError(f"no image to write into {self.path}")
        with self._writing():
            self._images.file.seek(0)
            self._images.file.write(images_header(self.journal.count, *self._shape[:2]))
            sha256 = self._images.flush()
            self._rows.flush()
            self._close_files()
            self._describe(refused, sha256=sha256, **description)
            refuse_existing(self.path, self.overwrite)
            for name in (ROWS, JOURNAL):
                (self._partial / name).unlink(missing_ok=True)
            self._lock.release()
            (self._partial / LOCK).unlink(missing_ok=True)
            install(self._partial, self.path, STORE)  # an old store goes only now
            self._is_finished = True
        return ImageStore.open(self.path)

    def _describe(self, refused: Sequence[tuple[str, str]], **description: Any) -> None:
        """Writes the labels and `dataset.json`."""
        journal, rows = self.journal, np.fromfile(self._partial / ROWS, ROW)
        if len(rows) != journal.count:
            raise UserError(f"{self._partial / ROWS} has {len(rows):,} of {journal.count:,} rows: prepare again")
        if self.labelled:
            labels = rows["label"].astype(np.int64)
            np.save(self._partial / LABELS, labels)
            description["labels_sha256"] = labels_digest(labels)
        skipped = [SkippedImage(name=name, reason=reason) for name, reason in refused[:LISTED_SKIPPED]]
        duplicates = find_duplicates(rows["digest"])
        DatasetDescription(
            resolution=self._shape[1],
            channels=self._shape[0],  # pyright: ignore[reportArgumentType]
            count=journal.count,
            skipped=[*skipped, *journal.skipped][:LISTED_SKIPPED],
            skipped_count=len(refused) + journal.skipped_count,
            converted=dict(sorted(journal.converted.items())),
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
        is_complete = self._images.file.closed  # only `finish` failed
        self._close_files()
        self._lock.release()
        if self._is_kept and error is not None and (is_complete or not isinstance(error, UserError)):
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

    def _take_up(self, fingerprint: str) -> None:
        """Goes on behind the images of a killed writer, if nothing speaks against it; else starts anew."""
        if any((self._partial / name).exists() for name in (IMAGES, JOURNAL)):
            try:
                self._open(_read_journal(self._partial / JOURNAL, fingerprint))
                self.notice = f"goes on behind the {self.journal.count:,} images that a killed preparation left"
                self._is_kept = True
                return
            except UserError as error:
                what = f"what a killed preparation left in {self._partial}"
                self.notice = f"starts again, as {what} is of no use: {error}"
        (self._partial / JOURNAL).unlink(missing_ok=True)
        self._open(Journal(fingerprint=fingerprint))

    def _open(self, journal: Journal) -> None:
        """Opens the files for appending behind the journal's images."""
        self.journal = journal
        header = images_header(0, *self._shape[:2])
        image_bytes = int(np.prod(self._shape))
        self._rows = _HashedFile(self._partial / ROWS, b"", journal.count * ROW.itemsize, journal.rows)
        self._images = _HashedFile(self._partial / IMAGES, header, journal.count * image_bytes, journal.images)

    def _close_files(self) -> None:
        self._images.close()
        self._rows.close()


class _HashedFile:
    """A file that is appended to behind its first `size` bytes, whose SHA-256 must be `sha256`; the header counts for none.

    Raises:
        UserError: It is another, or there are fewer bytes.
    """

    def __init__(self, path: Path, header: bytes, size: int, sha256: str) -> None:
        path.touch()
        regular_size(path)
        self.file, self._sha256 = path.open("r+b"), hashlib.sha256()
        self.file.write(header)
        found = sum(hash_blocks(self.file, self._sha256, size))
        if found != size or self._sha256.hexdigest() != sha256:
            self.file.close()
            raise UserError(f"{path.name} was altered")
        self.file.truncate()

    def write(self, data: bytes) -> None:
        self.file.write(data)
        self._sha256.update(data)

    def flush(self) -> str:
        """Hands everything to the system, and returns the SHA-256, hexadecimal."""
        self.file.flush()
        return self._sha256.hexdigest()

    def close(self) -> None:
        with suppress(OSError):  # a full disk was reported by the write itself
            self.file.close()


def _read_journal(file: Path, fingerprint: str) -> Journal:
    """What a killed preparation left; a UserError says why it is of no use."""
    if not file.exists():
        raise UserError("it ended before anything was safe")
    journal = read_model(file, Journal, "preparation's journal")
    if journal.sha256 != journal.own_digest():
        raise UserError(f"{file.name} is damaged")
    if journal.fingerprint != fingerprint or not fingerprint:
        raise UserError("the source or an option is another now")
    return journal


def partial_folder(path: Path) -> Path:
    """Where the store `path` is written before it is whole."""
    path = Path(os.path.abspath(path))  # noqa: PTH100 - "." and ".." have no name
    return path.with_name(f".{path.name}.partial")


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Refuses to write a store at `path` unless it is free, or an unaltered store that may be overwritten."""
    if os.path.lexists(path) and not (path.is_dir() and not any(path.iterdir())) and not overwrite:
        raise UserError(f"{path} exists already: choose another folder, or overwrite it", "overwrite")
    check_folder(path, STORE)


def image_digests(images: np.ndarray) -> np.ndarray:
    """(n, C, H, W) uint8 images -> (n,) uint64, equal for equal images and (but for chance 2^-64) only for those."""
    digests = [hashlib.blake2b(image.tobytes(), digest_size=8).digest() for image in images]
    return np.frombuffer(b"".join(digests), np.uint64)


def find_duplicates(digests: np.ndarray) -> list[tuple[int, int]]:
    """(n,) digests -> (index of the first copy, index of a later copy), ordered by the later one."""
    _, first, inverse = np.unique(digests, return_index=True, return_inverse=True)
    original = first[inverse.reshape(-1)]
    later = np.flatnonzero(original != np.arange(len(digests)))
    return [(int(original[index]), int(index)) for index in later]
