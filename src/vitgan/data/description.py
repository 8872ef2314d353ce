"""What a store says about itself: the content of `dataset.json`."""

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vitgan.commands import command
from vitgan.errors import UserError
from vitgan.files import one_line

FILE_NAME = "dataset.json"

Count = Annotated[int, Field(ge=0)]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class SkippedImage(BaseModel):
    """An image that the source has and the store has not."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    reason: str


class DatasetDescription(BaseModel):
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

    model_config = ConfigDict(extra="forbid", frozen=True)

    format_version: Literal[1] = 1
    source: str
    origin: str = ""
    split: str | None = None
    split_from: str = ""
    resolution: Annotated[int, Field(gt=0)]
    channels: Literal[1, 3]
    count: Annotated[int, Field(gt=0)]
    framing: str = ""
    background: str = "#ffffff"
    sha256: Digest
    labels_sha256: Digest | None = None
    label_names: list[str] | None = None
    labels_from: str = ""
    skipped: list[SkippedImage] = []
    skipped_count: Count = 0
    converted: dict[str, Count] = {}
    duplicate_count: Count = 0
    duplicates: list[tuple[Count, Count]] = []
    licence: str = ""
    url: str = ""

    @classmethod
    def read(cls, store: Path) -> "DatasetDescription":
        """Reads the description in the folder `store`.

        Raises:
            UserError: The folder is missing or is no store.
        """
        file = store / FILE_NAME
        try:
            return cls.model_validate_json(file.read_bytes())
        except (FileNotFoundError, NotADirectoryError) as error:
            if not store.exists():
                message = f"there is no image store at {store}: prepare one with `{command('data', 'SOURCE', '--out', store)}`"
            else:
                message = f"{store} is not an image store (no {FILE_NAME}): prepare one with `vitgan data`"
            raise UserError(message) from error
        except OSError as error:
            raise UserError(f"cannot read {file}: {error.strerror}") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "file"
            raise UserError(one_line(f"{file} is not a store's description: {where}: {first['msg']}")) from error

    def write(self, store: Path) -> None:
        """Writes the description into the folder `store`, readable by people."""
        content = json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False)
        (store / FILE_NAME).write_text(content + "\n", "utf-8")
