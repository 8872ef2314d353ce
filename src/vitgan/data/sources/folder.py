"""Your own images: a folder, a zip or a tar of image files, at any nesting, with class folders or a label file."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from vitgan.data.sources.container import natural_order, open_container
from vitgan.data.sources.source import Item, Provenance, Source, UnreadableImage, printable
from vitgan.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
SUFFIXES += (".jp2", ".avif", ".heic", ".heif")  # the last two cannot be decoded, which is to be seen and counted
LABEL_FILE = "dataset.json"
SPLITS = {"train", "training", "test", "testing", "val", "valid", "validation", "eval", "dev"}

Labels = Literal["auto", "folders", "none"]


class ImageFolder(Source):
    """Image files in natural order of their names ("2.png" before "10.png").

    Files are chosen by suffix; hidden files and other suffixes are left out. Labels come from `dataset.json` at the
    top, if it is one as StyleGAN's dataset tool writes it (`{"labels": [["00000/img0.png", 6], ...]}`), else from
    class folders: the folders directly below the deepest folder that holds all images, in natural order.

    Args:
        path: The folder, zip or tar (also .tar.gz, .tar.bz2, .tar.xz).
        split: Read only the images below the folder of this name; "all" for all of them.
        labels: "auto" takes labels where there are at least two class folders, each image lies in one, and there are
            fewer of them than images; "folders" insists on class folders; "none" ignores labels.
        follow_links: Follow symbolic links to places outside the folder.

    Raises:
        UserError: Nothing there, no images, splits of which none is chosen, or no labels where they are asked for.
    """

    provenance = Provenance("folder")

    def __init__(
        self, path: str | Path, split: str | None = None, labels: Labels = "auto", follow_links: bool = False
    ) -> None:
        path = Path(path)
        if (path / LABEL_FILE).is_file() and (path / "images.npy").is_file():
            raise UserError(f"{path} is an image store already: train on it as it is")
        self.origin = str(path)
        self.split = split
        self._container = open_container(path, _wanted, follow_links=follow_links)
        self.refused = self._container.refused
        names = self._container.names
        self._indices = [index for index, name in enumerate(names) if name != LABEL_FILE]
        if not self._indices:
            raise UserError(f"no images under {path}{self._why_none()} (looked for {', '.join(SUFFIXES)})")
        self._choose_split()
        self._labels: list[int] | None = None
        if labels != "none" and LABEL_FILE in names and labels != "folders":
            self._read_label_file()
        if labels != "none" and self._labels is None:
            self._label_by_folder(insist=labels == "folders")
        self.labelled = self._labels is not None

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Item:
        image = self._container.read(self._indices[index])
        return Item(self.item_name(index), image, self._labels[index] if self._labels else None)

    def item_name(self, index: int) -> str:
        return self._container.names[self._indices[index]]

    def files(self) -> Iterable[Path]:
        return self._container.files()

    def _why_none(self) -> str:
        return f": {self.refused[0][0]}: {self.refused[0][1]}" if self.refused else ""

    def _folders(self) -> list[list[str]]:
        """The folders above each image, outermost first."""
        return [self.item_name(index).split("/")[:-1] for index in range(len(self))]

    def _choose_split(self) -> None:
        folders = self._folders()
        depth = _common_depth(folders)
        tops = {parts[depth] if len(parts) > depth else "" for parts in folders}
        if self.split in (None, "all"):
            if self.split is None and len(tops) > 1 and {top.lower() for top in tops} <= SPLITS:
                raise UserError(
                    f"{self.origin} holds the splits {', '.join(sorted(tops))}: choose one with --split, or --split all"
                )
            return
        if self.split in folders[0][:depth]:
            return
        if self.split not in tops:
            found = ", ".join(sorted(tops - {""}, key=natural_order)[:10]) or "no folders"
            raise UserError(f"{self.origin} has no folder {self.split!r} for --split: it has {found}")
        self._indices = [
            index
            for index, parts in zip(self._indices, folders, strict=True)
            if len(parts) > depth and parts[depth] == self.split
        ]

    def _label_by_folder(self, insist: bool) -> None:
        folders = self._folders()
        depth = _common_depth(folders)
        names = sorted({parts[depth] if len(parts) > depth else "" for parts in folders}, key=natural_order)
        if "" in names or len(names) < 2 or (len(names) == len(self) and not insist):
            if insist:
                raise UserError(f"{self.origin} has no class folders that hold all images: leave out --labels")
            return
        number = {name: label for label, name in enumerate(names)}
        self.label_names = [printable(name) for name in names]
        self._labels = [number[parts[depth]] for parts in folders]

    def _read_label_file(self) -> None:
        """Takes StyleGAN's labels; any other `dataset.json` is left alone."""
        try:
            content = json.loads(self._container.read_named(LABEL_FILE))
            pairs = content["labels"]
            known = {str(name).replace("\\", "/"): label for name, label in pairs}
        except (ValueError, TypeError, KeyError, RecursionError, UnreadableImage):
            return
        if not all(type(label) is int and label >= 0 for label in known.values()):
            raise UserError(f"{LABEL_FILE} in {self.origin} has labels that are not whole numbers: pass --labels none")
        missing = [name for name in map(self.item_name, range(len(self))) if name not in known]
        if missing:
            raise UserError(
                f"{LABEL_FILE} in {self.origin} has no label for {len(missing)} images, "
                f"the first {missing[0]}: pass --labels none"
            )
        self._labels = [known[self.item_name(index)] for index in range(len(self))]


def _wanted(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) or name == LABEL_FILE


def _common_depth(folders: list[list[str]]) -> int:
    """How many leading folders all images share."""
    first, last = min(folders), max(folders)
    depth = 0
    while depth < min(len(first), len(last)) and first[depth] == last[depth]:
        depth += 1
    return depth
