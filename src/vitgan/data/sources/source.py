"""What every source is: a fixed sequence of images, each with a name, and labels where there are any."""

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitgan.data.labels import LARGEST_LABEL, Labels
from vitgan.files.reading import stamp


class UnreadableImage(Exception):
    """One image cannot be read; the message is the reason, in a few words."""


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
        border: Pixels of black border on each side that bring its images to `resolution`.
    """

    name: str
    licence: str = "not stated by the source"
    url: str = ""
    resolution: int | None = None
    channels: int = 3
    crop: int | None = None
    border: int = 0


class Source(ABC):
    """Images in a fixed order. Worker processes get copies (by pickle), so files are opened when first needed.

    Attributes:
        provenance: Which data set it is.
        origin: The file or folder it reads, for people.
        in_memory: True if reading an image costs next to nothing, so that worker processes would not help.
        isolated: True if reading damaged data can end the process, so that it is done in worker processes only.
        split: Which part of the data set is read, where it has parts.
        split_from: Where that comes from, in words.
        labels: (n,) int64, the class of each image, -1 for one without; None if there are no labels. An image whose
            label is outside the classes is skipped.
        label_names: Name of each label, where known.
        labels_from: Where labels come from, or why there are none, in words.
        refused: (name, reason) of what is an image by name and yet not read, e.g. a link out of the folder.
    """

    provenance: Provenance
    origin: str = ""
    in_memory: bool = False
    isolated: bool = False
    split: str | None = None
    split_from: str = ""
    labels: np.ndarray | None = None
    label_names: list[str] | None = None
    labels_from: str = ""
    refused: list[tuple[str, str]] = []  # noqa: RUF012 (never mutated; sources that refuse something assign their own)

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def name(self, index: int) -> str:
        """Tells people which image it is, without reading it."""

    @abstractmethod
    def read(self, index: int) -> bytes | np.ndarray:
        """The image at `index`: encoded bytes (JPEG, PNG, ...), or uint8 pixels as (H, W) or (H, W, 3).

        Raises:
            UnreadableImage: This image cannot be read; others may be.
        """

    def files(self) -> Iterable[Path]:
        """Every file that images or labels are read from."""
        return ()

    @property
    def classes(self) -> int:
        """How many classes there can be: a label is one of 0, 1, ... below it."""
        return len(self.label_names) if self.label_names else LARGEST_LABEL + 1

    def take_labels(self, decided: Labels) -> None:
        """Sets `labels`, `label_names` and `labels_from`."""
        self.labels = None if decided.numbers is None else np.array(decided.numbers, np.int64)
        self.label_names, self.labels_from = decided.names, decided.source

    def fingerprint(self) -> str:
        """Hex digest that differs for other images, another order or labels, and after any change of the files."""
        settings = (self.provenance.name, self.split, self.label_names, len(self))
        digest = hashlib.sha256(repr(settings).encode())
        if self.labels is not None:
            digest.update(self.labels.tobytes())
        for index in range(len(self)):
            digest.update(f"{self.name(index)!a}\n".encode())
        for file in self.files():  # abspath takes "." and ".." out of a name, and leaves links as they are
            digest.update(f"{os.path.abspath(file)} {stamp(file)}\n".encode("utf-8", "surrogateescape"))  # noqa: PTH100 - links stay links
        return digest.hexdigest()
