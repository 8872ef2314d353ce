"""Splits by names: what is one, which is meant, and what is a class that only sounds like one."""

import pytest

from refusals import refused
from vitgan.data.splits import are_splits, choose_split, split_of


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *(
            (name, "train")
            for name in ("train", "Train", "TRAIN", "training", "training_set", "trainset", "train-images")
        ),
        *(
            (name, "train")
            for name in ("seg_train", "trainA", "trainB", "train2017", "ILSVRC2012_img_train", "Train Set")
        ),
        *((name, "valid") for name in ("val", "Valid", "validation", "dev", "DIV2K_valid_HR", "ILSVRC2012_img_val")),
        *((name, "test") for name in ("test", "Testing", "testset", "test_set", "seg_test", "eval", "testB")),
        *((name, "extra") for name in ("extra", "unlabeled", "Unlabelled", "seg_pred")),
        ("trainval", "trainval"),
        ("train_val", "trainval"),
        *((name, None) for name in ("trains", "training2test", "valley", "contest", "testament", "cats", "", "00000")),
    ],
)
def test_the_split_that_a_name_stands_for(name: str, split: str | None) -> None:
    assert split_of(name) == split


@pytest.mark.parametrize(
    ("folders", "answer"),
    [
        (["train", "test"], True),
        (["Train", "Valid"], True),
        (["training_set", "test_set"], True),
        (["seg_train", "seg_test", "seg_pred"], True),
        (["trainA", "trainB", "testA", "testB"], True),
        (["train", "unlabeled"], True),
        (["train", "test", "something"], True),
        (["images_train", "images_val", "labels"], True),
        (["bullet_train", "test_tube"], False),
        (["bullet_train", "test_tube", "cat"], False),
        (["steam_train", "bullet_train"], False),
        (["bus", "car", "train"], False),
        (["cats", "dogs"], False),
    ],
)
def test_folders_side_by_side_are_splits_or_classes(folders: list[str], answer: bool) -> None:
    assert are_splits(folders) == answer


def chosen(names: list[str], wanted: str | None = None) -> tuple[str | None, list[str]]:
    split = choose_split(names, wanted)
    assert len(split.kept) == len(split.names)
    return split.name, split.names


CATS_AND_DOGS = ["cats/1.png", "dogs/2.png"]


@pytest.mark.parametrize("top", ["", "data/", "my/own data/"])
@pytest.mark.parametrize(
    "pair", [("train", "test"), ("Train", "Test"), ("training_set/training_set", "test_set/test_set")]
)
def test_a_split_is_asked_for_and_taken_by_any_of_its_names(top: str, pair: tuple[str, str]) -> None:
    names = [f"{top}{part}/{name}" for part in pair for name in CATS_AND_DOGS]
    inner = [f"{top}{name}" for name in CATS_AND_DOGS]
    with refused(*(part.partition("/")[0] for part in pair), parameter="split"):
        choose_split(names)
    for wanted in ("train", "training", "Train", "train_set", pair[0].partition("/")[0]):
        assert chosen(names, wanted) == (wanted, inner)
        assert choose_split(names, wanted).kept == [0, 1]
    assert choose_split(names, "test").kept == [2, 3]
    assert chosen(names, "all") == ("all", inner * 2)
    with refused("'valid'", parameter="split"):
        choose_split(names, "valid")


def test_splits_below_the_classes_are_found() -> None:
    names = ["bottle/train/good/1.png", "bottle/test/broken/2.png", "cable/train/good/3.png", "cable/test/bent/4.png"]
    with refused("test, train", parameter="split"):
        choose_split(names)
    assert chosen(names, "train") == ("train", ["bottle/good/1.png", "cable/good/3.png"])


def test_splits_below_a_folder_that_sounds_like_one() -> None:
    names = ["training data/train/1.png", "training data/test/2.png"]
    with refused("test, train", parameter="split"):
        choose_split(names)


def test_what_lies_beside_the_splits_belongs_to_none() -> None:
    names = ["sample.png", "train/1.png", "test/2.png", "unlabeled/3.png", "odd/4.png"]
    with refused("odd, test, train, unlabeled, and 1 in none", parameter="split"):
        choose_split(names)
    assert choose_split(names, "train").kept == [1]
    assert choose_split(names, "unlabeled").kept == [3]
    assert choose_split(names, "odd").kept == [4]
    assert choose_split(names, "all").kept == [0, 1, 2, 3, 4]


def test_the_only_split_is_taken_and_named_unless_images_lie_beside_it() -> None:
    assert chosen(["Training/a/1.png", "Training/b/2.png"]) == ("train", ["a/1.png", "b/2.png"])
    with refused("train, and 1 in none", parameter="split"):
        choose_split(["1.png", "train/2.png"])


def test_one_of_several_folders_for_a_split_is_not_guessed() -> None:
    names = ["trainA/1.png", "trainB/2.png", "testA/3.png"]
    with refused("trainA, trainB", parameter="split"):
        choose_split(names, "train")
    assert choose_split(names, "trainB").kept == [1]
    assert choose_split(names, "test").kept == [2]


def test_a_class_that_may_be_a_split_is_asked_about() -> None:
    names = ["bus/1.png", "car/2.png", "train/3.png"]
    with refused("train", parameter="split"):
        choose_split(names)
    assert choose_split(names, "train").kept == [2]
    assert chosen(names, "all") == ("all", names)
    assert choose_split(names, all_are_classes=True).kept == [0, 1, 2]


def test_any_folder_may_be_named_as_a_split() -> None:
    names = ["data/old/1.png", "data/new/2.png"]
    assert chosen(names) == (None, names)
    assert choose_split(names, "new").kept == [1]
    assert choose_split(names, "data").kept == [0, 1]
    with refused("'other'", "new, old", parameter="split"):
        choose_split(names, "other")
    with refused("'train'", parameter="split"):
        choose_split(["1.png"], "train")
