"""Where images lie: the first folders that tell them apart."""

from collections.abc import Iterable
from dataclasses import dataclass

from vitgan.data.sources.container import natural_order
from vitgan.data.sources.source import printable


@dataclass(frozen=True)
class Branches:
    """Images below the deepest folder that holds all of them but strays.

    Attributes:
        trunk: The folders that lead there.
        first: The next folder on the way to each image; "" for an image that lies beside such folders.
        inner: The folders between that one and the image.
    """

    trunk: list[str]
    first: list[str]
    inner: list[list[str]]

    @property
    def folders(self) -> set[str]:
        """The folders that tell images apart."""
        return set(self.first) - {""}


def find_branches(names: list[str]) -> Branches:
    """Finds them from the images' names, with "/"."""
    folders = [name.split("/")[:-1] for name in names]
    trunk: list[str] = []
    inside = [index for index, parts in enumerate(folders) if parts]
    while len({folders[index][len(trunk)] for index in inside}) == 1:
        trunk.append(folders[inside[0]][len(trunk)])
        inside = [index for index in inside if len(folders[index]) > len(trunk)]
    depth = len(trunk)
    first, inner = [""] * len(names), [[] for _ in names]
    for index in inside:
        first[index], inner[index] = folders[index][depth], folders[index][depth + 1 :]
    return Branches(trunk, first, inner)


def listed(names: Iterable[str], longest: int = 10) -> str:
    """Names for a message, in natural order."""
    ordered = sorted(names, key=natural_order)
    more = f" and {len(ordered) - longest} more" if len(ordered) > longest else ""
    return ", ".join(printable(name) for name in ordered[:longest]) + more
