"""CelebA: 202,599 aligned faces of 178×218, with the official partition into train, valid and test."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from contextlib import suppress
from errno import ENOENT
from pathlib import Path
from typing import Literal

import numpy as np

from vitgan.data.branches import listed
from vitgan.data.decode import decode_unframed
from vitgan.data.sources.container import Container, open_container
from vitgan.data.sources.source import Item, Provenance, Source, UnreadableImage, printable
from vitgan.data.splits import split_of
from vitgan.data.tables import assign, largest_table, read_pairs
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
SPLITS = {"0": "train", "1": "valid", "2": "test"}
LARGEST_PARTITION = largest_table(202_599)
HEIGHT_AND_WIDTH = (218, 178)
LOOKED_AT = 8
ALIGNED, IN_THE_WILD = "img_align_celeba", "img_celeba"
PARTITION_FILES = ("list_eval_partition.txt", "list_eval_partition.csv")
PARENTS = 4


class CelebA(Source):
    """The aligned and cropped images.

    Args:
        path: `img_align_celeba` or `img_align_celeba.zip`, or a folder or archive that holds either at any depth, as
            Google Drive, torchvision and Kaggle have it; JPEG or PNG. In-the-wild images beside them are left alone.
        split: "train" (162,770), "valid" (19,867), "test" (19,962), or "all".
        partition: The file that says which image is in which split, `list_eval_partition.txt` (or .csv); None to look
            for it in `path`, beside it and its parents, and in their folders `Eval`, where the download has it.

    Raises:
        UserError: Images or the partition file are missing or damaged, or there are several sets of images.
    """

    provenance = PROVENANCE
    labels_from = "none: CelebA has attributes, not classes"

    def __init__(self, path: str | Path, split: Split = "train", partition: str | Path | None = None) -> None:
        path = Path(path)
        self.origin = str(path)
        self.split = split
        self._partition: list[Path] = []
        self._container = _open(path)
        self.refused = [entry for entry in self._container.refused if not _is_partition(entry[0])]
        images = [index for index, name in enumerate(self._container.names) if _is_image(name)]
        if not images:
            why = f" ({': '.join(map(printable, self.refused[0]))})" if self.refused else ""
            raise UserError(f"no images under {path}{why}: pass {ALIGNED} or {ALIGNED}.zip")
        self._indices = _choose_aligned(self._container, images, path)
        _check_size(self._container, self._indices, path)
        if split == "all":
            self.split_from = "all"
            return
        file, pairs, splits, unknown = self._read_partition(path, partition)
        self._indices = [index for index, of in zip(self._indices, splits, strict=True) if of == split]
        missing = set(unknown)
        self.refused += [
            (name, "in the partition file, but not there") for name, of in pairs if of == split and name in missing
        ]
        if not self._indices:
            raise UserError(f"none of the images that {file} lists for {split} is in {path}")
        outside = splits.count(None)
        self.split_from = file + (f", in which {outside:,} images are not" if outside else "")

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Item:
        return Item(self.item_name(index), self._container.read(self._indices[index]))

    def item_name(self, index: int) -> str:
        return self._container.names[self._indices[index]]

    def files(self) -> Iterable[Path]:
        return [*self._container.files(), *self._partition]

    def _read_partition(
        self, path: Path, partition: str | Path | None
    ) -> tuple[str, list[tuple[str, str]], list[str | None], list[str]]:
        """The partition's file, its (name, split) pairs, the split of each image, and names that no image has."""
        inside = sorted(filter(_is_partition, self._container.names), key=lambda name: name.count("/"))
        found = Path(partition) if partition else None if inside else _find_partition((path, self._container.path))
        if not found and not inside:
            advice = "pass it with --partition, or take all images with --split all"
            raise UserError(f"no {PARTITION_FILES[0]} in or beside {path}: {advice}")
        self._partition = [found] if found else []
        file = printable(str(found or inside[0]))
        try:
            data = _read_start(found) if found else self._container.read_named(inside[0])
            pairs = [(name, _split(value)) for name, value in read_pairs(data, file, LARGEST_PARTITION) or ()]
            if not pairs or not all(split for _, split in pairs):
                raise UserError("expected lines such as '000001.jpg 0'")
            return file, pairs, *assign(pairs, [self._container.names[index] for index in self._indices])
        except (OSError, UnreadableImage) as error:
            raise UserError(f"cannot read the partition {file}: {getattr(error, 'strerror', error)}") from error
        except UserError as error:
            raise UserError(f"{file} is no partition file: {error}: pass another with --partition") from error


def _is_image(name: str) -> bool:
    return name.lower().endswith((".jpg", ".jpeg", ".png"))


def _is_partition(name: str) -> bool:
    return name.rpartition("/")[2].lower() in PARTITION_FILES


def _read_start(file: Path) -> bytes:
    """As much of a file as a partition may have, and one byte more if there is more."""
    if not file.is_file():
        raise FileNotFoundError(ENOENT, "there is no such file")
    with file.open("rb") as opened:
        return opened.read(LARGEST_PARTITION + 1)


def _split(value: object) -> str:
    """The split that a cell of the partition stands for; "" for none."""
    return SPLITS.get(str(value)) or split_of(str(value)) or ""


def _open(path: Path) -> Container:
    """The images at `path`, or in the one zip of them that lies below."""

    def wanted(name: str) -> bool:
        return _is_image(name) or _is_partition(name)

    container = open_container(path, wanted)
    if any(map(_is_image, container.names)) or not path.is_dir():
        return container
    zips = sorted(path.rglob(f"{ALIGNED}*.zip"))
    if len(zips) > 1:
        raise UserError(f"{path} holds {listed(str(file.relative_to(path)) for file in zips)}: pass one of them")
    return open_container(zips[0], wanted) if zips else container


def _choose_aligned(container: Container, images: list[int], path: Path) -> list[int]:
    """The aligned images: those in a folder img_align_celeba*, else those that are not in img_celeba*."""
    folders: dict[str, list[int]] = defaultdict(list)
    for index in images:
        folders[container.names[index].rpartition("/")[0]].append(index)
    kinds = {folder: _kind_of([container.path.absolute().name, *folder.split("/")]) for folder in folders}
    best = ALIGNED if ALIGNED in kinds.values() else ""
    chosen = [folder for folder, kind in kinds.items() if kind == best]
    if not chosen:
        raise UserError(f"{path} holds the images in the wild, not the aligned ones: pass {ALIGNED} or {ALIGNED}.zip")
    indices = sorted(index for folder in chosen for index in folders[folder])
    official = [index for index in indices if re.fullmatch(r"\d{6}", Path(container.names[index]).stem)]
    stems = Counter(Path(container.names[index]).stem for index in official or indices)
    if max(stems.values()) > 1:
        raise UserError(f"{path} holds several sets of the images, in {listed(chosen)}: pass one of these folders")
    return official or indices


def _kind_of(folders: list[str]) -> str:
    """What the innermost of these folders stands for that is called like a set of CelebA's images; "" if none is."""
    names = [folder.lower() for folder in reversed(folders)]
    kinds = (kind for name in names for kind in (ALIGNED, IN_THE_WILD) if name.startswith(kind))
    return next(kinds, "")


def _check_size(container: Container, indices: list[int], path: Path) -> None:
    """Refuses images of another size, as crops of them would not be the data set's."""
    for place in np.linspace(0, len(indices) - 1, min(LOOKED_AT, len(indices))).astype(int).tolist():
        with suppress(UnreadableImage):  # which is counted when it is its turn
            height, width = decode_unframed(container.read(indices[place]), 3, "#ffffff").shape[1:]
            if (height, width) != HEIGHT_AND_WIDTH:
                name = printable(container.names[indices[place]])
                raise UserError(
                    f"{name} in {path} has {width}×{height} pixels, CelebA's aligned images have 178×218: "
                    f"pass {ALIGNED}, or prepare other images with `vitgan data folder`"
                )


def _find_partition(places: tuple[Path, ...]) -> Path | None:
    """The nearest partition file in or above `places`, whether these are named from here, from the root or by a link."""
    forms = [form for place in places for form in (place.absolute(), place.resolve())]
    for form in dict.fromkeys(forms):
        for folder in [form, *form.parents][:PARENTS]:
            for name in PARTITION_FILES:
                for file in (folder / name, folder / "Eval" / name, folder / "eval" / name):
                    with suppress(OSError):  # a folder that may not be entered
                        if file.is_file():
                            return file
    return None
