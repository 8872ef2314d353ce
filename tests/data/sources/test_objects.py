"""Names of classes that somebody else's data set has, whatever it calls `classes`."""

from typing import Any

import numpy as np
import pytest

from data.samples import random_pixels
from vitgan.data.sources.objects import PythonImages


class Pets:
    """As torchvision's data sets are: (image, label), and `classes`."""

    def __init__(self, classes: Any) -> None:
        self.classes = classes

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return random_pixels(index), index % 2


@pytest.mark.parametrize(
    "classes",
    [
        ["dog", "cat"],
        ("dog", "cat"),
        np.array(["dog", "cat"]),
        np.array(["dog", "cat"], object),
        {"cat": 1, "dog": 0},
        {"cat": np.int64(1), "dog": np.int64(0)},
    ],
)
def test_names_of_classes_are_in_the_order_of_their_numbers(classes: Any) -> None:
    source = PythonImages(Pets(classes))
    assert source.label_names == ["dog", "cat"]
    assert np.asarray(source.labels).tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize(
    "classes",
    [
        10,
        None,
        [],
        np.array([]),
        np.array("dog"),
        np.array([["dog"], ["cat"]]),
        "dogs",
        [0, 1],
        ["dog", None],
        {},
        {"cat": 1, "dog": 2},
        {"cat": 0, "dog": 0},
        {"cat": "one", "dog": [0]},
        {0: "dog", 1: "cat"},
        len,
    ],
)
def test_what_names_no_classes_is_ignored(classes: Any) -> None:
    source = PythonImages(Pets(classes))
    assert source.label_names is None
    assert np.asarray(source.labels).tolist() == [0, 1, 0, 1]
