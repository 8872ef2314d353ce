import numpy as np
import pytest

from data.samples import PngSource, random_pixels
from vitgan.data.decode import Framing
from vitgan.data.pool import decode_in_order


@pytest.mark.parametrize("workers", [0, 2])
def test_parts_are_in_order_and_account_for_every_item(workers):
    source = PngSource(1000, damaged=frozenset([0, 300, 999]))
    order = np.arange(999, -1, -1)
    parts = list(decode_in_order(source, Framing(4, 3), order, workers))
    assert len(parts) > 2
    assert sum(len(part.images) + len(part.skipped) for part in parts) == 1000
    labels = np.concatenate([part.labels for part in parts if part.labels is not None])
    assert labels.tolist() == [number % 5 for number in order.tolist() if number not in source.damaged]
    assert [name for part in parts for name, _ in part.skipped] == ["999.png", "300.png", "0.png"]


def test_treatments_are_counted():
    (part,) = decode_in_order(PngSource(10), Framing(16, 3), np.arange(10), 0)
    assert part.converted == {"enlarged": 10}


def test_large_images_come_in_small_parts():
    parts = list(decode_in_order(PngSource(3), Framing(1024, 3), np.arange(3), 0))
    assert [len(part.images) for part in parts] == [1, 1, 1]


def test_leaving_early_ends_the_workers():
    parts = decode_in_order(PngSource(5000), Framing(8, 3), np.arange(5000), 2)
    first = next(parts)
    assert np.array_equal(first.images[7], random_pixels(7).transpose(2, 0, 1))
    parts.close()
    assert list(parts) == []
