"""What makes a preparation resumable after a kill: a journal, and the hashes that it vouches for.

images.npy     the images so far, behind a header that is written at the end
rows.bin       label and digest of each of them
journal.json   Journal
"""

import hashlib
from contextlib import suppress
from pathlib import Path

from pydantic import Field, model_validator

from vitgan.data.store import Count, Digest, SkippedImage, hash_blocks
from vitgan.errors import UserError
from vitgan.files import read_model, regular_size
from vitgan.schema import Config

JOURNAL = "journal.json"


class Journal(Config):
    """What is safe so far.

    Attributes:
        fingerprint: Of the source and the settings.
        count: Images written.
        done: Images of the source that were read: those written and those skipped.
        skipped: The first that were skipped; `skipped_count` counts all.
        converted: How many images needed what treatment.
        images: SHA-256 of the images written.
        rows: SHA-256 of their labels and digests.
        sha256: Of all of the above.
    """

    fingerprint: str
    count: Count = 0
    done: Count = 0
    skipped: tuple[SkippedImage, ...] = ()
    skipped_count: Count = 0
    converted: dict[str, Count] = Field(default_factory=dict)
    images: Digest
    rows: Digest
    sha256: str = ""

    @model_validator(mode="after")
    def _counts_agree(self) -> "Journal":
        if self.done != self.count + self.skipped_count:
            raise ValueError("its counts contradict each other")
        return self

    def signed(self) -> "Journal":
        """With the digest of all other fields."""
        content = self.model_dump_json(exclude={"sha256"})
        return self.model_copy(update={"sha256": hashlib.sha256(content.encode()).hexdigest()})


def read_journal(folder: Path, fingerprint: str) -> tuple[Journal | None, str]:
    """What a killed writer's journal vouches for, or why it is of no use."""
    if not (folder / JOURNAL).exists():
        return None, "it ended before anything was safe"
    try:
        journal = read_model(folder / JOURNAL, Journal, "preparation's journal")
    except UserError as error:
        return None, str(error)
    if journal != journal.signed():
        return None, f"{JOURNAL} is damaged"
    if journal.fingerprint != fingerprint or not fingerprint:
        return None, "the source or an option is another now"
    return journal, ""


class HashedFile:
    """A file that is appended to, and the SHA-256 of what it holds behind its header.

    Opens it behind its first `size` bytes; where it has fewer, the SHA-256 is of those.
    """

    def __init__(self, path: Path, header: bytes, size: int) -> None:
        path.touch()
        regular_size(path)
        self.file, self._sha256 = path.open("r+b"), hashlib.sha256()
        self.file.write(header)
        for _ in hash_blocks(self.file, self._sha256, size):
            pass
        self.file.truncate()

    def write(self, data: bytes) -> None:
        self.file.write(data)
        self._sha256.update(data)

    def digest(self) -> str:
        return self._sha256.hexdigest()

    def close(self) -> None:
        with suppress(OSError):  # a full disk was reported by the write itself
            self.file.close()
