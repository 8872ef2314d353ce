"""What a store says about itself: the content of `dataset.json`."""

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from vitgan.commands import command
from vitgan.data.labels import LARGEST_CLASS_COUNT
from vitgan.data.sources.source import printable
from vitgan.errors import UserError
from vitgan.files import read_model
from vitgan.schema import Config

FILE_NAME = "dataset.json"
LARGEST_LABEL = LARGEST_CLASS_COUNT - 1

Count = Annotated[int, Field(ge=0)]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Line = Annotated[str, AfterValidator(printable)]
"""Text without control characters, which would act on a terminal: they become escapes."""


class SkippedImage(Config):
    """An image that the source has and the store has not."""

    name: Line
    reason: Line


class DatasetDescription(Config):
    """What a store holds and how it came about.

    Attributes:
        source: Name of the source: "cifar10", "folder", ...
        origin: File or folder that was read.
        split: Which part of the data set, where it has parts.
        split_from: Where that comes from, in words.
        resolution: Height and width in pixels.
        channels: 1 (grey) or 3 (RGB).
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
    """

    format_version: Literal[1] = 1
    source: Line
    origin: Line = ""
    split: Line | None = None
    split_from: Line = ""
    resolution: Annotated[int, Field(gt=0, le=4096)]
    channels: Literal[1, 3]
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

    @classmethod
    def read(cls, store: Path) -> "DatasetDescription":
        """Reads the description in the folder `store`.

        Raises:
            UserError: The folder is missing or is no store.
        """
        if not store.exists():
            raise UserError(
                f"there is no image store at {store}: prepare one with `{command('data', 'SOURCE', '--out', store)}`"
            )
        if not (store / FILE_NAME).exists():
            raise UserError(f"{store} is not an image store (no {FILE_NAME}): prepare one with `vitgan data`")
        return read_model(store / FILE_NAME, cls, "store")

    def write(self, store: Path) -> None:
        """Writes the description into the folder `store`, readable by people."""
        content = json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False)
        (store / FILE_NAME).write_text(content + "\n", "utf-8")
