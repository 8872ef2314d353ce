"""What every source is: a fixed sequence of encoded or decoded images, with labels where it has them."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitgan.files import stamp


def printable(text: str) -> str:
    """The text on one line, with control characters and undecodable bytes as escapes: safe to show and to store."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


class UnreadableImage(Exception):
    """One image cannot be read; the message is the reason, in a few words."""


@dataclass(frozen=True)
class Item:
    """One image of a source.

    Attributes:
        name: Tells people which one it is, e.g. the file's name.
        image: Encoded bytes (JPEG, PNG, ...), or uint8 pixels as (H, W) or (H, W, 3).
        label: Its class, in a source that is labelled.
    """

    name: str
    image: bytes | np.ndarray
    label: int | None = None


@dataclass(frozen=True)
class Provenance:
    """Which data set it is, and what is customary with it.

    Attributes:
        name: As on the command line, e.g. "cifar10".
        licence: Terms of the data.
        url: Where it comes from.
        resolution: The size it is usually prepared at; None if there is no usual one.
        channels: 1 or 3.
        crop: Side of the customary centre crop before resizing; None for the largest square.
    """

    name: str
    licence: str = "not stated by the source"
    url: str = ""
    resolution: int | None = None
    channels: int = 3
    crop: int | None = None


class Source(ABC):
    """A sequence of items. Worker processes get copies (by pickle), so files are opened when first needed.

    Attributes:
        provenance: Which data set it is.
        origin: The file or folder it reads, for people.
        in_memory: True if reading an item costs next to nothing, so that worker processes would not help.
        isolated: True if reading damaged data can end the process, so that it is done in worker processes only.
        split: Which part of the data set is read, where it has parts.
        split_from: Where that comes from, in words.
        labelled: Whether items have labels.
        labels: The label of each item, -1 for an item without one, where they are known beforehand.
        label_names: Name of each label, where known.
        labels_from: Where labels come from, or why there are none, in words.
        refused: (name, reason) of entries that are images by name and yet no items, e.g. a link out of the folder.
    """

    provenance: Provenance
    origin: str = ""
    in_memory: bool = False
    isolated: bool = False
    split: str | None = None
    split_from: str = ""
    labelled: bool = False
    labels: Sequence[int] | np.ndarray | None = None
    label_names: list[str] | None = None
    labels_from: str = ""
    refused: list[tuple[str, str]] = []  # noqa: RUF012 (never mutated; sources that refuse entries assign their own)

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Item:
        """The item at `index`, always the same one.

        Raises:
            UnreadableImage: This item cannot be read; others may be.
        """

    @abstractmethod
    def item_name(self, index: int) -> str:
        """The item's name, without reading it."""

    def padding(self, resolution: int) -> int:
        """Pixels of black border on each side that bring this source's images to `resolution`; 0 to resize them."""
        return 0

    def files(self) -> Iterable[Path]:
        """Every file that images or labels are read from."""
        return ()

    def fingerprint(self) -> str:
        """Hex digest that differs for other items, another order or labels, and after any change of the files."""
        settings = (self.provenance.name, self.split, self.labelled, self.label_names, len(self))
        digest = hashlib.sha256(repr(settings).encode())
        for name in map(self.item_name, range(len(self))):
            digest.update(name.encode("utf-8", "surrogateescape") + b"\n")
        if self.labels is not None:
            digest.update(np.asarray(self.labels, np.int64).tobytes())
        for file in self.files():
            digest.update(f"{stamp(file)}\n".encode())
        return digest.hexdigest()
