"""Which class each image is of: from class folders, or from values that a table gives. The one place that decides.

Where it is in doubt whether folders or values are classes, nothing is taken: the user is asked to say so.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from vitgan.data.names import Branches, find_branches, listed, natural_order
from vitgan.errors import UserError, escaped, one_line

NO_LABEL = -1
LEAST_NUMBER_LIMIT = 1000
LARGEST_LABEL = (1 << 20) - 1
MANY_CLASSES = 10  # from here on, a class for nearly every image is no class
WHOLE_NUMBER = re.compile(r"0|-?[1-9]\d{0,17}", re.ASCII)
SHORT_HEXADECIMAL, LONG_HEXADECIMAL = (re.compile(f"[0-9a-f]{count}", re.I | re.A) for count in ("{1,4}", "{12,}"))
BUCKET_SIZES = (1000, 10_000, 100_000)

# Folders that are all called so hold parts, sizes or days of the same kind of images as a rule.
DOUBTFUL_NAMES = {
    r"(part|batch|chunk|shard|folder|dir|images?|imgs?|img|set|subset|group|bucket|vol(ume)?|dis[ck]|split|fold|page|data"
    r"|archive|copy|section)[ _-]*\(?\d+\)?|\d{3}[a-z_]{5}": "numbered parts",
    r"(19|20)\d\d([-_. ]?(0?[1-9]|1[0-2])([-_. ]?\d\d)?)?": "years or dates",
    r"\d+x\d+(px)?|\d+px": "sizes",
}
# A folder that is called so holds something else than a class.
ROLES = {"images", "img", "imgs", "jpegimages", "leftimg8bit", "originals", "raw", "processed", "thumbnails", "thumbs"}
ROLES |= {"masks", "labels", "annotations", "gt", "gtfine", "gtcoarse", "groundtruth", "segmentationclass", "depth"}
ROLES |= {"segmentationobject", "unlabeled", "unlabelled"}


@dataclass(frozen=True)
class Labels:
    """What was decided."""

    numbers: list[int] | None
    """The class of each image, NO_LABEL for none, other numbers outside the classes for labels that are none of them."""
    names: list[str] | None
    """Name of each class, where known."""
    source: str
    """Where they come from, or why there are none, in words."""


def labels_of_folders(
    names: list[str], parts: Sequence[list[str]] = (), merged: bool = False, insist: bool = False
) -> Labels:
    """Class folders: those directly below the deepest folder that holds all images, in natural order.

    Args:
        names: The images' names, without folders of splits.
        parts: Such names in each of the data set's splits: a class has one number in all of them.
        merged: Whether `names` are those of all parts.
        insist: Take the folders for classes even if that is in doubt; images beside them have no label.

    Raises:
        UserError: It is in doubt; or there are no two class folders, and `insist`. The message says what, not what to
            do.
    """
    tree = find_branches(names)
    found = tree.folders
    every = [find_branches(part).folders for part in parts] if len(parts) > 1 else []
    only = next((folder for folder in tree.trunk if any(folder in other for other in every)), None)
    if len(found) < 2 and only:  # this split has images of one class, another split of several
        tree, found = Branches([], [only] * len(names), []), {only}
    elif len(found) < 2 and insist:
        raise UserError("there are no two class folders")
    elif len(found) < 2:
        return Labels(None, None, "none: the images lie in one folder")
    elif not insist:
        if reason := _no_classes(found, tree, names):
            return Labels(None, None, f"none: {reason}")
        if doubt := _doubt(found, tree, names) or (_different(every) if merged and every else None):
            raise UserError(doubt)
    ordered = sorted(found.union(*(one for one in every if one & found)), key=natural_order)
    number = {name: label for label, name in enumerate(ordered)} | {"": NO_LABEL}
    shown = [escaped(name) for name in ordered]
    return Labels([number[name] for name in tree.first], shown, f"class folders ({listed(found)})")


def _different(every: list[set[str]]) -> str | None:
    """Doubt about splits that are merged: they have not the same classes."""
    rest = [set().union(*every[:number], *every[number + 1 :]) for number in range(len(every))]
    alone = [one for one, other in zip(every, rest, strict=True) if one.isdisjoint(other)]
    return f"one split has other class folders than the rest ({listed(alone[0], 3) or 'none'})" if alone else None


def _no_classes(found: set[str], tree: Branches, names: list[str]) -> str | None:
    """Why these folders are surely no classes."""
    if len(found) == len(names):
        return "each image has a folder of its own"
    files = [(folder, _stem(name)) for folder, name in zip(tree.first, names, strict=True)]
    if all(re.fullmatch(r"0\d{3,}|\d{5,}", folder) for folder in found):
        numbers = [(int(folder), _last_number(stem)) for folder, stem in files if folder]
        for size in BUCKET_SIZES:
            if all(n is not None and folder in (n // size, n - n % size) for folder, n in numbers):
                return f"the folders {listed(found, 3)} count the images by {size:,}"
    if all(map(SHORT_HEXADECIMAL.fullmatch, found)) and all(
        LONG_HEXADECIMAL.fullmatch(stem.replace("-", "")) and stem.lower().startswith(folder.lower())
        for folder, stem in files
    ):
        return "the folders are the first letters of the files' names"
    return None


def _doubt(found: set[str], tree: Branches, names: list[str]) -> str | None:
    """What speaks against these folders being classes."""
    strays = [name for folder, name in zip(tree.first, names, strict=True) if not folder]
    if strays:
        lie = "image lies" if len(strays) == 1 else "images lie"
        return f"{len(strays):,} {lie} beside the folders {listed(found)}, the first is {one_line(strays[0])}"
    if roles := {name for name in found if re.sub("[ _-]", "", name.lower()) in ROLES}:
        return f"{listed(roles)} may be no class"
    for pattern, meaning in DOUBTFUL_NAMES.items():
        if all(re.fullmatch(pattern, name.lower()) for name in found):
            return f"the folders {listed(found, 3)} look like {meaning}, not classes"
    if all(name.isdecimal() for name in found) and _numbered_in_order(tree.first, names):
        return f"the folders {listed(found, 3)} look like parts of one numbered set, not classes"
    are_mixed = {name.isdecimal() for name in found} == {True, False}  # and not digits or letters by themselves
    if len(found) >= 8 and are_mixed and all(map(SHORT_HEXADECIMAL.fullmatch, found)):
        return f"the folders {listed(found, 3)} look like pieces of hashes, not classes"
    if len(found) > MANY_CLASSES and 2 * len(found) > len(names):
        return f"{len(found):,} folders hold {len(names):,} images"
    return _uneven(found, tree)


def _uneven(found: set[str], tree: Branches) -> str | None:
    """Doubt about the level: classes may lie one folder deeper."""
    below: dict[str, set[str]] = {name: set() for name in found}
    direct: set[str] = set()
    for folder, inner in zip(tree.first, tree.inner, strict=True):
        below[folder].update(inner[:1])
        if not inner:
            direct.add(folder)
    groups = {name for name in found - direct if len(below[name]) > 1}
    if groups and direct:
        return f"{listed(groups)} holds folders, and {listed(direct, 3)} holds images"
    if groups == found and len({frozenset(inner) for inner in below.values()}) == 1:
        return f"each of the folders {listed(found, 3)} holds the folders {listed(next(iter(below.values())), 3)}"
    return None


def _numbered_in_order(classes: list[str], names: list[str]) -> bool:
    """Whether the files' numbers go on from folder to folder."""
    numbers = defaultdict(list)
    for folder, name in zip(classes, names, strict=True):
        numbers[folder].append(_last_number(_stem(name)))
    if any(number is None for inside in numbers.values() for number in inside):
        return False
    ordered = [numbers[folder] for folder in sorted(numbers, key=natural_order)]
    return all(max(one) < min(other) for one, other in pairwise(ordered))


def _stem(name: str) -> str:
    return name.rpartition("/")[2].partition(".")[0]


def _last_number(stem: str) -> int | None:
    found = re.findall(r"\d{1,18}", stem)
    return int(found[-1]) if found else None


def labels_of_values(
    values: Sequence[Any], source: str, names: list[str] | None = None, insist: bool = False
) -> Labels:
    """Values of any kind as classes 0, 1, ...

    Whole numbers stand for themselves (also as 1.0 or "1"); 1, 2, ... without a 0 become 0, 1, ...; words become
    classes in natural order, and booleans in the order False, True; one-hot lists become the place of the one.
    None, not-a-number and -1 stand for "no label"; but where -1 and 1 are all, they are an attribute's no and yes.

    Args:
        values: One for each image.
        source: Where they come from, in words.
        names: Names of the classes 0, 1, ..., if the source has them; a number outside stays, to be refused with its
            image.
        insist: They are classes, however many and however large.

    Raises:
        UserError: They are no classes. The message says why, not what to do.
    """
    if len({len(value) for value in values if isinstance(value, list)}) > 1:
        raise UserError("labels are lists of several lengths")
    if names is None and all(type(value) in (int, type(None)) for value in values) and {*values} - {None} == {-1, 1}:
        values = [None if value is None else value == 1 for value in values]
    plain: list[Any] = [_plain(value) for value in values]
    kinds = {type(value) for value in plain if value is not None}
    if kinds == {str} and all(value is None or WHOLE_NUMBER.fullmatch(value) for value in plain):
        plain = [None if value in (None, "-1") else int(value) for value in plain]
        kinds = {int}
    present: set[Any] = set(plain) - {None}
    if not present:
        return Labels(None, None, f"none: {source} has no label for any image")
    if len(kinds) > 1:
        raise UserError(f"labels are of several kinds: {', '.join(sorted(kind.__name__ for kind in kinds))}")
    if names is None and not insist and len(present) > MANY_CLASSES and 2 * len(present) > len(plain):
        raise UserError(f"there are {len(present):,} different labels for {len(plain):,} images")
    if kinds == {int}:
        return _labels_of_numbers(plain, present, source, names, insist)
    ordered = sorted(present, key=natural_order) if kinds == {str} else sorted(present)
    number = {value: label for label, value in enumerate(ordered)} | {None: NO_LABEL}
    return Labels([number[value] for value in plain], [escaped(str(value)) for value in ordered], source)


def _labels_of_numbers(
    plain: list[Any], present: set[int], source: str, names: list[str] | None, insist: bool
) -> Labels:
    if names is not None:
        if present.isdisjoint(range(len(names))):
            return Labels(None, None, f"none: {source} has no label for any image")
        found = [NO_LABEL if value is None else min(max(value, -(1 << 63)), (1 << 63) - 1) for value in plain]
        shared = Counter(names)  # ImageNet has two kinds of crane
        own = [name if shared[name] == 1 else f"{name} ({number})" for number, name in enumerate(names)]
        return Labels(found, [escaped(name) for name in own], source)
    if min(present) < 0:
        raise UserError(f"the label {min(present)} is negative")
    limit = LARGEST_LABEL if insist else min(max(LEAST_NUMBER_LIMIT, len(plain)), LARGEST_LABEL)
    if max(present) > limit:
        raise UserError(f"the label {max(present)} is too large: {len(plain):,} images may have labels up to {limit:,}")
    shift = int(present == set(range(1, len(present) + 1)))
    found = [NO_LABEL if value is None else value - shift for value in plain]
    return Labels(found, [str(value) for value in sorted(present)] if shift else None, source)


def _plain(value: Any) -> Any:
    """A label as an int, str or bool; None for none."""
    if isinstance(value, list):
        if len(value) < 2 or any(entry not in (0, 1) for entry in value) or sum(value) != 1:
            raise UserError("a list of numbers is a label only if one of them is 1 and all others are 0")
        return value.index(1)
    if isinstance(value, bytes):  # as some writers of tables store words
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, float):
        if value != value or value == -1:
            return None
        if not value.is_integer():
            raise UserError(f"the label {value:g} is no whole number")
        return int(value)
    if value is None or (type(value) is int and value == -1):
        return None
    if not isinstance(value, int | str):
        raise UserError(f"a label is of the kind {type(value).__name__}")
    return value
