"""What makes a preparation resumable after a kill: a journal, and the hashes that it vouches for."""

import hashlib
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from vitgan.data.store import Count, SkippedImage, hash_blocks
from vitgan.errors import UserError
from vitgan.files import read_model, regular_size, write_bytes

JOURNAL = "journal.json"
LISTED_SKIPPED = 1000
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

    def skip(self, name: str, reason: str) -> None:
        """Counts an image that is of no use, and lists it if it is one of the first."""
        self.skipped_count += 1
        if len(self.skipped) < LISTED_SKIPPED:
            self.skipped.append(SkippedImage(name=name, reason=reason))

    def own_digest(self) -> str:
        """What `sha256` must be."""
        return hashlib.sha256(self.model_dump_json(exclude={"sha256"}).encode()).hexdigest()

    def write(self, folder: Path) -> None:
        """Writes it, whole or not at all."""
        self.sha256 = self.own_digest()
        write_bytes(folder / JOURNAL, self.model_dump_json().encode())

    @classmethod
    def read(cls, folder: Path, fingerprint: str) -> "Journal":
        """What a killed preparation left.

        Raises:
            UserError: It is of no use; the message says why.
        """
        if not (folder / JOURNAL).exists():
            raise UserError("it ended before anything was safe")
        journal = read_model(folder / JOURNAL, cls, "preparation's journal")
        if journal.sha256 != journal.own_digest():
            raise UserError(f"{JOURNAL} is damaged")
        if journal.fingerprint != fingerprint or not fingerprint:
            raise UserError("the source or an option is another now")
        return journal


class HashedFile:
    """A file that is appended to, and the SHA-256 of what it holds behind its header.

    Opens it behind its first `size` bytes.

    Raises:
        UserError: The SHA-256 of these is not `sha256`, or there are fewer.
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
        """Appends."""
        self.file.write(data)
        self._sha256.update(data)

    def flush(self) -> str:
        """Hands everything to the system, and returns the SHA-256, hexadecimal."""
        self.file.flush()
        return self._sha256.hexdigest()

    def close(self) -> None:
        """Closes it; may be called again."""
        with suppress(OSError):  # a full disk was reported by the write itself
            self.file.close()
