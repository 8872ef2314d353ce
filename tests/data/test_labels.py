"""Classes of folders and of values: those that are, those that only look so, and those that are asked about."""

import hashlib
from typing import Any

import pytest

from refusals import refused
from vitgan.data.labels import labels_of_folders, labels_of_values


def files(*folders: str, count: int = 4, first: int = 0) -> list[str]:
    """`count` images in each folder, whose numbers begin anew in each."""
    return [f"{folder}/{first + number}.png" for folder in folders for number in range(count)]


def running(*folders: str, size: int) -> list[str]:
    """Images that are numbered on from folder to folder, as tools write them that cut a set into parts."""
    return [
        f"{folder}/img{index * size + number:08d}.png" for index, folder in enumerate(folders) for number in range(size)
    ]


def hashed(depth: int, count: int = 40) -> list[str]:
    """Images named by a hash, in folders of its first letters, as LSUN is exported."""
    names = [hashlib.sha1(bytes([number])).hexdigest() for number in range(count)]
    return ["/".join([*name[:depth], name]) + ".webp" for name in names]


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (files("cats", "dogs"), ["cats", "dogs"]),
        (files("all/cats", "all/dogs"), ["cats", "dogs"]),
        (files("a/b/cats", "a/b/dogs/brown"), ["cats", "dogs"]),
        (files("n01440764", "n01443537"), ["n01440764", "n01443537"]),
        (files(*"0123456789", count=20), list("0123456789")),  # MNIST
        (files("00000", "00001", "00042", count=30), ["00000", "00001", "00042"]),  # GTSRB
        (files("class10", "class9"), ["class9", "class10"]),
        (files(*"abcdefgh"), list("abcdefgh")),
        (files("with_mask", "without_mask"), ["with_mask", "without_mask"]),
        (files("bullet_train", "test_tube"), ["bullet_train", "test_tube"]),
        (files("person1/left", "person2/right"), ["person1", "person2"]),
    ],
)
def test_class_folders(names: list[str], classes: list[str]) -> None:
    labels = labels_of_folders(names)
    assert labels.names == classes
    assert labels.numbers == [classes.index(next(c for c in classes if f"/{c}/" in f"/{name}")) for name in names]
    assert "class folders" in labels.source


@pytest.mark.parametrize(
    "names",
    [
        ["1.png", "2.png"],
        files("cats"),
        files("a/b/c"),
        ["1.png", "more/2.png"],
        ["a/1.png", "b/2.png", "c/3.png"],  # a folder for each image
        running("00000", "00001", "00002", size=1000)[:2100],  # StyleGAN's dataset tool
        [f"{number - number % 1000:05d}/{number:05d}.png" for number in range(0, 4000, 7)],  # FFHQ
        [f"{number // 10_000:05d}/{number:06d}.png" for number in range(0, 40_000, 70)],
        hashed(1),
        hashed(3),
        [name.replace("/", "/lsun/", 1) for name in hashed(1)],
    ],
)
def test_folders_that_are_surely_no_classes(names: list[str]) -> None:
    labels = labels_of_folders(names)
    assert (labels.numbers, labels.names) == (None, None)
    assert labels.source.startswith("none: ")


DOUBTFUL = [
    (["stray.png", *files("cats", "dogs")], ["cats, dogs", "stray.png"]),
    (["pets/stray.png", *files("pets/cats", "pets/dogs")], ["cats, dogs", "pets/stray.png"]),
    (["stray.png", *files("pets/cats", "pets/dogs")], ["cats, dogs", "stray.png"]),
    (running("0", "1", "2", size=20), ["0, 1, 2"]),
    (running("00000", "00001", size=500), ["00000, 00001"]),
    (files("part1", "part2", "part3"), ["part1, part2, part3"]),
    (files("images_001", "images_002"), ["images_001, images_002"]),
    (files("100CANON", "101CANON"), ["100CANON, 101CANON"]),
    (files("fold 1", "fold 2"), ["fold 1, fold 2"]),
    (files("2021", "2022"), ["2021, 2022"]),
    (files("2021-05-03", "2021-05-04"), ["2021-05-03, 2021-05-04"]),
    (files("64x64", "128x128"), ["64x64, 128x128"]),
    (files("images", "masks"), ["images, masks"]),
    (files("JPEGImages", "SegmentationClass"), ["JPEGImages, SegmentationClass"]),
    (files("cats", "dogs", "unlabeled"), ["unlabeled"]),
    (files(*"0123456789abcdef"), ["0, 1, 2"]),
    (files(*(f"id{number}" for number in range(20)), count=1) + files("id3", first=9), [20, 24]),
    (files("cats", "wild/lions", "wild/tigers"), ["wild", "cats"]),
    (files("raw1/cats", "raw1/dogs", "raw2/cats", "raw2/dogs"), ["raw1, raw2", "cats, dogs"]),
]


@pytest.mark.parametrize(("names", "named"), DOUBTFUL)
def test_folders_that_may_be_no_classes_are_asked_about(names: list[str], named: list[object]) -> None:
    with refused(*named):
        labels_of_folders(names)


@pytest.mark.parametrize("names", [names for names, _ in DOUBTFUL])
def test_who_insists_gets_classes_and_strays_have_none(names: list[str]) -> None:
    labels = labels_of_folders(names, insist=True)
    assert labels.numbers is not None
    assert labels.names is not None
    strays = [number == -1 for number in labels.numbers]
    assert strays == ["stray" in name for name in names]
    assert sorted(set(labels.numbers) - {-1}) == list(range(len(labels.names)))


def test_insisting_needs_two_classes() -> None:
    with refused(cause=type(None)):
        labels_of_folders(files("cats"), insist=True)


def test_a_class_has_one_number_in_all_splits() -> None:
    train, test, extra = files("cats", "dogs", "owls"), files("cats", "owls"), files("x")
    only = files("owls")
    parts = [train, test, extra, only]
    assert labels_of_folders(train, parts).names == ["cats", "dogs", "owls"]
    assert labels_of_folders(test, parts).names == ["cats", "dogs", "owls"]
    assert labels_of_folders(test, parts).numbers == [0] * 4 + [2] * 4
    assert labels_of_folders(only, parts).numbers == [2] * 4
    assert labels_of_folders(extra, parts).numbers is None


def test_merged_splits_must_have_the_same_classes() -> None:
    train, test = files("cats", "dogs"), files("cats", "dogs", count=2)
    assert labels_of_folders(train + test, [train, test], merged=True).numbers == [0] * 4 + [1] * 4 + [0, 0, 1, 1]
    for other in (files("x", "y"), files("pics")):
        with refused("cats, dogs"):
            labels_of_folders(train + other, [train, other], merged=True)


@pytest.mark.parametrize(
    ("values", "numbers", "names"),
    [
        ([0, 1, 1, 0], [0, 1, 1, 0], None),
        ([6, 0, 9], [6, 0, 9], None),
        ([1, 2, 3, 1], [0, 1, 2, 0], ["1", "2", "3"]),
        ([3, 7], [3, 7], None),
        ([0.0, 1.0], [0, 1], None),
        (["1", "0"], [1, 0], None),
        (["2", "1"], [1, 0], ["1", "2"]),
        (["dog", "cat", "dog"], [1, 0, 1], ["cat", "dog"]),
        (["c10", "c9"], [1, 0], ["c9", "c10"]),
        (["007", "7"], [0, 1], ["007", "7"]),
        (["b\n", "a"], [1, 0], ["a", "b\\n"]),
        ([True, False, True], [1, 0, 1], ["False", "True"]),
        ([[0, 1, 0], [1, 0, 0], [0.0, 0.0, 1.0]], [1, 0, 2], None),
        ([0, None, 1], [0, -1, 1], None),
        ([0, -1, 1], [0, -1, 1], None),
        ([0.0, float("nan"), 1.0], [0, -1, 1], None),
        (["0", "-1", "1"], [0, -1, 1], None),
        (["cat", None], [0, -1], ["cat"]),
        ([-1, 1, 1], [0, 1, 1], ["False", "True"]),
        ([1, None, -1], [1, -1, 0], ["False", "True"]),
    ],
)
def test_values_as_classes(values: list[Any], numbers: list[int], names: list[str] | None) -> None:
    labels = labels_of_values(values, "a table")
    assert labels.numbers == numbers
    assert labels.names == names
    assert labels.source == "a table"


@pytest.mark.parametrize("values", [[], [-1, -1], [None], ["-1", "-1"], [-1.0], [float("nan")]])
def test_no_value_is_no_label(values: list[Any]) -> None:
    labels = labels_of_values(values, "a table")
    assert labels.numbers is None
    assert labels.source.startswith("none: ")


@pytest.mark.parametrize(
    ("values", "facts"),
    [
        ([0, -2], [-2]),
        ([0, 10**7], [10**7]),
        ([0, 10**30], [10**30]),
        ([0, float("inf")], ["inf"]),
        ([0, 0.5], [0.5]),
        ([0, "cat"], ["int", "str"]),
        ([0, True], ["bool", "int"]),
        ([1, True], ["bool", "int"]),
        ([[0.5, 0.5], [1, 0]], [1, 0]),
        ([[1, 1, 0]], [1, 0]),
        ([[1]], [1, 0]),
        ([[]], [1, 0]),
        ([["a", "b"]], [1, 0]),
        ([[1, 0], [1, 0, 0]], []),
        ([{"a": 1}], ["dict"]),
        ([f"photo {number}" for number in range(20)], [20]),
        (list(range(20)), [20]),
    ],
)
def test_values_that_are_no_classes(values: list[Any], facts: list[object]) -> None:
    with refused(*facts):
        labels_of_values(values, "a table")


def test_known_names_bound_the_numbers() -> None:
    labels = labels_of_values([1, 0, 7, -5, None], "a table", ["cat", "dog"])
    assert labels.numbers == [1, 0, 7, -5, -1]
    assert labels.names == ["cat", "dog"]
    assert labels_of_values([7, -1], "a table", ["cat", "dog"]).numbers is None


@pytest.mark.parametrize("long", ["x" * 600, "\U000e0001" * 60])
def test_long_names_of_classes_stay_apart(long):
    names = [long + "a", long + "b"]
    from_values = labels_of_values(["0", "1"], "", names)
    from_words = labels_of_values(names, "")
    from_folders = labels_of_folders([f"{name}/{number}.png" for name in names for number in range(3)])
    for labels in (from_values, from_words, from_folders):
        assert labels.names is not None
        assert len(set(labels.names)) == 2
