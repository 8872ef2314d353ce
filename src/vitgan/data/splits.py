"""Which part of a data set an image belongs to, by the names of folders and files. The one place that decides.

A split is never guessed: where there are several, or where it is in doubt whether a folder is one, the user is asked.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sized
from dataclasses import dataclass, field

from vitgan.data.names import find_branches, listed, natural_order
from vitgan.errors import UserError, one_line

WORDS = {
    "train": ("train", "training", "trn"),
    "valid": ("val", "valid", "validation", "validate", "dev"),
    "test": ("test", "testing", "tst", "eval", "evaluation", "holdout"),
    "trainval": ("trainval",),
    "extra": ("extra", "unlabeled", "unlabelled", "unsupervised", "pred", "predict", "prediction"),
}
SPLIT_OF_WORD = {word: split for split, words in WORDS.items() for word in words}
WORD = re.compile(rf"({'|'.join(SPLIT_OF_WORD)})(?:sets?|data|splits?|images?|imgs?|[abxy])?")
# Beside a split's word these say nothing of what is in the folder.
NEUTRAL = re.compile(r"sets?|data|dataset|splits?|images?|imgs?|pics?|pictures?|part|partial|[a-z]|\d+")


@dataclass(frozen=True)
class Split:
    """What was decided."""

    name: str | None
    """None if the data set has no splits."""
    source: str
    """Where the name comes from, in words."""
    kept: list[int]
    """The positions of the split's images."""
    names: list[str]
    """Their names, without the folders of splits."""
    parts: dict[str, list[str]] = field(default_factory=dict)
    """Such names of every split that there is."""


def choose_split(names: list[str], wanted: str | None = None, all_are_classes: bool = False) -> Split:
    """The images of one split.

    Args:
        names: The images' names, with "/".
        wanted: A split's name in any form, or a folder's; "all" for all images; None if there is nothing to choose.
        all_are_classes: No folder is a split on the ground of its name alone.

    Raises:
        UserError: There are several splits or it is in doubt whether there are, or none is as wanted.
    """
    found: dict[str, list[int]] = defaultdict(list)
    parts: dict[str, list[str]] = defaultdict(list)
    places = _find_parts(names)
    for index, (part, rest) in enumerate(places):
        found[part].append(index)
        parts[part].append(rest)
    folders = set(found) - {""}
    if wanted == "all":
        source = f"all, in the folders {listed(folders)}" if folders else "all"
        return Split("all", source, list(range(len(names))), [rest for _, rest in places], parts)
    if not folders:
        return _choose_by_folder(names, wanted, all_are_classes)
    part = choose_part(found, wanted)
    return Split(wanted or split_of(part), f"the folder {one_line(part)}", found[part], parts[part], parts)


def _choose_by_folder(names: list[str], wanted: str | None, all_are_classes: bool) -> Split:
    """Where no folders are splits by their names: any folder may be named as one."""
    branches, every = find_branches(names), list(range(len(names)))
    if wanted is None:
        may_be = [] if all_are_classes else [one for one in branches.folders if split_of(one) and _is_plain(one)]
        if may_be:
            advice = f'choose the split {may_be[0]} for its images, or "all" if it is a class'
            raise UserError(f"has the folder {listed(may_be)}, which may be a split or a class: {advice}", "split")
        return Split(None, "none: no folder is called so", every, names)
    kept = every if wanted in branches.trunk else [index for index in every if branches.first[index] == wanted]
    if not kept:
        there = listed(branches.folders) or "no folders"
        raise UserError(f"has no folder {wanted!r} for the split: it has {there}", "split")
    return Split(wanted, f"the folder {one_line(wanted)}", kept, [names[index] for index in kept])


def _find_parts(names: list[str]) -> list[tuple[str, str]]:
    """The folder that stands for each image's split, at whatever depth ("" for none), and the name without it."""
    inside: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for folders in {name.rpartition("/")[0] for name in names} - {""}:
        path = tuple(folders.split("/"))
        for depth, folder in enumerate(path):
            inside[path[:depth]].add(folder)
    levels = {above for above, folders in inside.items() if len(folders) > 1 and are_splits(folders)}
    above = ()
    while len(inside[above]) == 1:  # all images lie in this one folder: it may be the only split
        if are_splits(inside[above]) and not any(len(inside[level]) > 1 for level in levels):
            levels = {above}
        above += tuple(inside[above])
    return [_part_of(name.split("/"), levels) for name in names]


def _part_of(path: list[str], levels: set[tuple[str, ...]]) -> tuple[str, str]:
    for depth, part in enumerate(path[:-1]):
        if tuple(path[:depth]) in levels:
            end = depth + 1
            while end < len(path) - 1 and path[end] == part:  # Kaggle's training_set/training_set
                end += 1
            return part, "/".join(path[:depth] + path[end:])
    return "", "/".join(path)


def are_splits(folders: Collection[str]) -> bool:
    """Whether folders that lie side by side are splits by their names, and not "bullet_train" and "test_tube"."""
    known = [name for name in folders if split_of(name)]
    sure = [name for name in known if _is_plain(name) or any(_are_pair(name, other) for other in known)]
    if len(known) == len(folders):
        return bool(sure)
    return len({split_of(name) for name in sure} - {"extra"}) > 1


def split_of(name: str) -> str | None:
    """The split that a name stands for: "train" for "Train", "training_set", "seg_train", "train2017", "trainA"."""
    return _read(name)[0]


def _is_plain(name: str) -> bool:
    return all(NEUTRAL.fullmatch(word) for word in _read(name)[1])


def _are_pair(one: str, other: str) -> bool:
    return split_of(one) != split_of(other) and _read(one)[1] == _read(other)[1]


def _read(name: str) -> tuple[str | None, tuple[str, ...]]:
    """The split that a name stands for, and its other words."""
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", name)]
    matches = [WORD.fullmatch(word) for word in words]
    splits = [SPLIT_OF_WORD[match[1]] for match in matches if match]
    rest = tuple(word for word, match in zip(words, matches, strict=True) if not match)
    if splits == ["train", "valid"]:
        return "trainval", rest
    return (splits[0] if len(splits) == 1 else None), rest


def choose_part(found: Mapping[str, Sized], wanted: str | None) -> str:
    """The part that is meant by "train": the one of this name, else the one that stands for it.

    Args:
        found: What is in each part; "" for what is in none.
        wanted: A name in any form; None for the only part.

    Raises:
        UserError: There are several, or none is as wanted.
    """
    parts = sorted(set(found) - {""}, key=natural_order)
    if wanted is None and len(found) > 1:
        outside = f", and {len(found['']):,} in none of them" if "" in found else ""
        raise UserError(f'holds the splits {listed(parts)}{outside}: choose one of them, or "all"', "split")
    if wanted is None or wanted in parts:
        return wanted or parts[0]
    meant = [part for part in parts if split_of(wanted) and split_of(part) == split_of(wanted)]
    if len(meant) > 1:
        raise UserError(f"has {listed(meant)} for the split {wanted}: pass one of these names", "split")
    if not meant:
        raise UserError(f"has nothing for the split {wanted!r}: it has {listed(parts)}", "split")
    return meant[0]
