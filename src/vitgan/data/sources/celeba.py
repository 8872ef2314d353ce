"""CelebA: 202,599 aligned faces of 178×218, with the official partition into train, valid and test."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from vitgan.data.sources.container import open_container
from vitgan.data.sources.source import Item, Provenance, Source
from vitgan.errors import UserError

# The crop of the full width is what most recent work uses at 64×64; earlier work cropped 148 (`--crop 148`).
PROVENANCE = Provenance(
    "celeba",
    licence="non-commercial research only, no redistribution (agreement on the home page)",
    url="https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
    resolution=64,
    crop=178,
)
Split = Literal["train", "valid", "test", "all"]
SPLIT_NUMBERS = {"train": "0", "valid": "1", "test": "2"}
PARTITION_FILES = ("list_eval_partition.txt", "list_eval_partition.csv")


class CelebA(Source):
    """The aligned and cropped images.

    Args:
        path: `img_align_celeba` or `img_align_celeba.zip`, or a folder that holds the images at any depth.
        split: "train" (162,770), "valid" (19,867), "test" (19,962), or "all".
        partition: The file that says which image is in which split, `list_eval_partition.txt` (or .csv); None to look
            for it in `path`, beside it, and in a folder `Eval` beside its folder, where the official download has it.

    Raises:
        UserError: Images or the partition file are missing or damaged.
    """

    provenance = PROVENANCE

    def __init__(self, path: str | Path, split: Split = "train", partition: str | Path | None = None) -> None:
        path = Path(path)
        self.origin = str(path)
        self.split = split
        self._container = open_container(path, lambda name: name.lower().endswith((".jpg", ".png")))
        self.refused = list(self._container.refused)
        files = {name.rsplit("/", 1)[-1]: index for index, name in enumerate(self._container.names)}
        if not files:
            raise UserError(f"no images under {path}: pass img_align_celeba or img_align_celeba.zip")
        self._partition: list[Path] = []
        if split == "all":
            self._indices = list(range(len(self._container.names)))
            return
        self._partition = [Path(partition) if partition else _find_partition(path)]
        members = _read_partition(self._partition[0], split)
        self._indices = [files[name] for name in members if name in files]
        self.refused += [(name, "in the partition file, but not there") for name in members if name not in files]
        if not self._indices:
            raise UserError(f"none of the images that the partition file lists for {split} is in {path}")

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Item:
        return Item(self.item_name(index), self._container.read(self._indices[index]))

    def item_name(self, index: int) -> str:
        return self._container.names[self._indices[index]]

    def files(self) -> Iterable[Path]:
        return [*self._container.files(), *self._partition]


def _find_partition(path: Path) -> Path:
    folders = (path, path.parent, path.parent / "Eval", path.parent.parent / "Eval")
    for folder in folders:
        for name in PARTITION_FILES:
            if (folder / name).is_file():
                return folder / name
    raise UserError(
        f"no list_eval_partition.txt in or beside {path}: pass it with --partition, or take all images with --split all"
    )


def _read_partition(file: Path, split: str) -> list[str]:
    """Names of a split's images: lines of "000001.jpg 0", or "000001.jpg,0" below a heading."""
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {file}: {error}") from error
    rows = [re.split(r"[,\s]+", line.strip()) for line in lines if line.strip()]
    if rows and rows[0][-1] == "partition":
        rows = rows[1:]
    if not rows or any(len(row) != 2 or row[1] not in SPLIT_NUMBERS.values() for row in rows):
        raise UserError(f"{file} is no partition file: expected lines such as '000001.jpg 0'")
    return [name for name, number in rows if number == SPLIT_NUMBERS[split]]
