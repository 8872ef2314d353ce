"""CelebA: 202,599 aligned faces of 178×218, with the official partition into train, valid and test."""

import os
import re
from collections import defaultdict
from collections.abc import Iterable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Literal

import numpy as np

from vitgan.data.decode import decode_unframed
from vitgan.data.names import is_image, listed
from vitgan.data.sources.container import Container, open_container
from vitgan.data.sources.folder import FileSource
from vitgan.data.sources.source import Provenance, UnreadableImage
from vitgan.data.splits import split_of
from vitgan.data.tables import assign, largest_table, read_pairs
from vitgan.errors import UserError, one_line
from vitgan.files import read_bytes, user_error

Split = Literal["train", "valid", "test", "all"]
SPLITS = {"0": "train", "1": "valid", "2": "test"}
LARGEST_PARTITION = largest_table(202_599)
HEIGHT_AND_WIDTH = (218, 178)
LOOKED_AT = 8
ALIGNED, IN_THE_WILD = "img_align_celeba", "img_celeba"
PARTITION_FILES = ("list_eval_partition.txt", "list_eval_partition.csv")
PARENTS = 4


class CelebA(FileSource):
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

    # The crop of the full width is what most recent work uses at 64×64; earlier work cropped 148 (crop=148).
    provenance = Provenance(
        "celeba",
        licence="non-commercial research only, no redistribution (agreement on the home page)",
        url="https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
        resolution=64,
        crop=178,
    )
    labels_from = "none: CelebA has attributes, not classes"

    def __init__(self, path: str | Path, split: Split = "train", partition: str | Path | None = None) -> None:
        path = Path(path)
        super().__init__(path, _open(path), _is_partition)
        self._indices = _choose_aligned(self._container, self._indices, path)
        self._check_size()
        self.split, self.split_from = split, "all"
        self._partition = Path(partition) if partition else None
        if split != "all":
            self._keep_split(split)

    def files(self) -> Iterable[Path]:
        return [*super().files(), *([self._partition] if self._partition else [])]

    def _keep_split(self, split: Split) -> None:
        inside = sorted(filter(_is_partition, self._container.names), key=lambda name: name.count("/"))
        if self._partition is None and not inside:
            self._partition = _find_partition((Path(self.origin), self._container.path))
        if self._partition is None and not inside:
            advice = 'pass it, or take all images with the split "all"'
            raise UserError(f"no {PARTITION_FILES[0]} in or beside {self.origin}: {advice}", "partition")
        file = one_line(str(self._partition or inside[0]))
        with _about_partition(f"no partition for {self.origin}"):
            if self._partition:
                data = read_bytes(self._partition, "partition", LARGEST_PARTITION)
            else:
                data = self._container.read_named(inside[0])
        with _about_partition(f"{file} is no partition file"):
            rows = read_pairs(data, file, LARGEST_PARTITION) or read_pairs(data, file, LARGEST_PARTITION, "partition")
            pairs = [(name, SPLITS.get(str(cell)) or split_of(str(cell))) for name, cell in rows or ()]
            if not pairs or not all(split for _, split in pairs):
                raise UserError("expected lines such as '000001.jpg 0'")
            splits, unknown = assign(pairs, self.names())
        self._indices = [index for index, of in zip(self._indices, splits, strict=True) if of == split]
        missing = {name for name, of in pairs if of == split}.intersection(unknown)
        self.refused += [(name, "in the partition file, but not there") for name in sorted(missing)]
        if not self._indices:
            raise UserError(f"none of the images that {file} lists for {split} is in {self.origin}")
        outside = splits.count(None)
        self.split_from = file + (f", in which {outside:,} images are not" if outside else "")

    def _check_size(self) -> None:
        """Refuses images of another size, as crops of them would not be the data set's."""
        for index in np.linspace(0, len(self) - 1, min(LOOKED_AT, len(self))).astype(int).tolist():
            with suppress(UnreadableImage):  # which is counted when it is its turn
                height, width = decode_unframed(self.read(index), 3, "#ffffff")[0].shape[1:]
                if (height, width) != HEIGHT_AND_WIDTH:
                    found = f"{self.name(index)} in {self.origin} has {width}×{height} pixels"
                    raise UserError(f"{found}, CelebA's aligned images have 178×218: pass {ALIGNED}")


def _about_partition(what: str) -> AbstractContextManager[None]:
    return user_error(what, UserError, UnreadableImage, advice="pass another", parameter="partition")


def _is_partition(name: str) -> bool:
    return name.rpartition("/")[2].lower() in PARTITION_FILES


def _open(path: Path) -> Container:
    """The images at `path`, or in the one zip of them that lies below."""

    def wanted(name: str) -> bool:
        return is_image(name) or _is_partition(name)

    container = open_container(path, wanted)
    if any(map(is_image, container.names)) or not path.is_dir():
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
    stems = {index: Path(container.names[index]).stem for folder in chosen for index in folders[folder]}
    stems = {index: stem for index, stem in stems.items() if re.fullmatch(r"\d{6}", stem)} or stems
    if len(set(stems.values())) < len(stems):
        raise UserError(f"{path} holds several sets of the images, in {listed(chosen)}: pass one of these folders")
    return sorted(stems)


def _kind_of(folders: list[str]) -> str:
    """What the innermost of these folders stands for that is called like a set of CelebA's images; "" if none is."""
    names = [folder.lower() for folder in reversed(folders)]
    kinds = (kind for name in names for kind in (ALIGNED, IN_THE_WILD) if name.startswith(kind))
    return next(kinds, "")


def _find_partition(places: tuple[Path, ...]) -> Path | None:
    """The nearest partition file in or above `places`, whether these are named from here, from the root or by a link."""
    forms = [form for place in places for form in (place.absolute(), place.resolve())]
    folders = [folder for form in dict.fromkeys(forms) for folder in [form, *form.parents][:PARENTS]]
    found = (folder / inner / name for folder in folders for name in PARTITION_FILES for inner in ("", "Eval", "eval"))
    return next(filter(os.path.isfile, found), None)  # which says no where a folder may not be entered
