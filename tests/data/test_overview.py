import numpy as np
import pytest

from data.samples import image_numbers, make_store, random_pixels
from vitgan.data.overview import class_counts, store_grid, value_histogram
from vitgan.data.writer import StoreWriter


def test_the_histogram_counts_every_value_of_a_small_store(tmp_path):
    images = np.stack([random_pixels(number).transpose(2, 0, 1) for number in range(30)])
    with StoreWriter(tmp_path / "store", resolution=8, channels=3) as writer:
        writer.append(images)
        store = writer.finish(source="test")
    for channel, counts in enumerate(value_histogram(store)):
        expected, _ = np.histogram(images[:, channel], bins=np.arange(257))
        assert np.array_equal(counts, expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_grid_shows_different_images_of_the_store(tmp_path, channels):
    store = make_store(tmp_path / "store", 20, channels=channels)
    grid = np.asarray(store_grid(store, rows=3, columns=5))
    assert grid.shape == ((12, 20) if channels == 1 else (12, 20, 3))
    tiles = grid.reshape(3, 4, 5, 4, channels).transpose(0, 2, 4, 1, 3).reshape(15, channels, 4, 4)
    assert len(set(image_numbers(tiles))) == 15


def test_the_rows_of_a_labelled_grid_are_classes(tmp_path):
    store = make_store(tmp_path / "store", 14, labelled=True)
    tiles = np.asarray(store_grid(store, rows=8, columns=3)).reshape(7, 4, 3, 4).transpose(0, 2, 1, 3)
    for label, row in enumerate(tiles):
        numbers = image_numbers(np.ascontiguousarray(row))
        assert sorted(numbers[:2]) == [label, label + 7]
        assert not row[2].any()


def test_class_counts(tmp_path):
    store = make_store(tmp_path / "store", 10, labelled=True)
    assert class_counts(store) == [("0", 2), ("1", 2), ("2", 2), ("3", 1), ("4", 1), ("5", 1), ("6", 1)]
    assert class_counts(make_store(tmp_path / "other", 3)) == []
