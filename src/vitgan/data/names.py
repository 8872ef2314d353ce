"""Names of images with "/": their order, lists of them, and the folders that tell them apart."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from vitgan.errors import one_line

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm")
IMAGE_SUFFIXES += (".pbm", ".jp2", ".avif", ".heic", ".heif")  # the last two are not decoded, but seen and counted


def is_image(name: str) -> bool:
    """Whether a file is an image by its name."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def natural_order(name: str) -> tuple[list[str | int], str]:
    """Sorting key under which "image2" comes before "image10"; the folders of a path are compared one by one."""
    parts: list[str | int] = []
    for folder in name.split("/"):
        pieces = re.split(r"(\d+)", folder, flags=re.ASCII)
        parts += [int(piece) if index % 2 else piece for index, piece in enumerate(pieces)] + [-1]
    return parts, name


def listed(names: Iterable[str], longest: int = 10) -> str:
    """Names for a message, in natural order."""
    ordered = sorted(names, key=natural_order)
    more = f" and {len(ordered) - longest} more" if len(ordered) > longest else ""
    return ", ".join(map(one_line, ordered[:longest])) + more


@dataclass(frozen=True)
class Branches:
    """Where images lie below the deepest folder that holds all of them but strays."""

    trunk: list[str]
    """The folders that lead there."""
    first: list[str]
    """The next folder on the way to each image; "" for an image that lies beside such folders."""
    inner: list[list[str]]
    """The folders between that one and the image."""

    @property
    def folders(self) -> set[str]:
        """The folders that tell images apart."""
        return set(self.first) - {""}


def find_branches(names: list[str]) -> Branches:
    """Sorts images by the folders in their names."""
    above = [name.rpartition("/")[0] for name in names]
    folders = {path: path.split("/") if path else [] for path in set(above)}
    trunk: list[str] = []
    inside = [path for path, parts in folders.items() if parts]
    while len({folders[path][len(trunk)] for path in inside}) == 1:
        trunk.append(folders[inside[0]][len(trunk)])
        inside = [path for path in inside if len(folders[path]) > len(trunk)]
    depth = len(trunk)
    first = dict.fromkeys(folders, "") | {path: folders[path][depth] for path in inside}
    inner = {path: folders[path][depth + 1 :] for path in folders}
    return Branches(trunk, [first[path] for path in above], [inner[path] for path in above])
