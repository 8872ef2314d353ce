import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from toy_features import CLASSES, in_batches, toy_extractor, toy_images
from vitgan.metrics.features import rebatch
from vitgan.metrics.image_summary import ImageSummary, summarize
from vitgan.metrics.statistics import BLOCK, FeatureStatistics

SETTINGS: dict[str, Any] = {"splits": 4, "kept": 60, "seed": 0}


def summary_of(images: Tensor, *sizes: int, batch_size: int = 64) -> ImageSummary:
    extractor = dataclasses.replace(toy_extractor(), batch_size=batch_size)
    return summarize(in_batches(images, *sizes), extractor, count=len(images), **SETTINGS)


def assert_same(first: ImageSummary, second: ImageSummary, tolerance: float) -> None:
    one, two = first.tensors(), second.tensors()
    assert one.keys() == two.keys()
    for name, values in one.items():
        torch.testing.assert_close(values, two[name], rtol=tolerance, atol=tolerance, msg=name)


def test_batches_come_out_in_one_size() -> None:
    rows = torch.arange(50)[:, None]
    batches = list(rebatch(in_batches(rows, 1, 17, 3), 8, limit=45))
    assert [len(batch) for batch in batches] == [8] * 5 + [5]
    assert torch.equal(torch.cat(batches), rows[:45])
    assert [len(batch) for batch in rebatch(in_batches(rows, 50), 25)] == [25, 25]


def test_what_comes_after_the_last_image_is_not_read() -> None:
    def stream() -> Iterator[Tensor]:
        yield toy_images(30)
        raise AssertionError("read too far")

    assert summarize(stream(), toy_extractor(), count=30, **SETTINGS).count == 30


def test_bit_for_bit_the_same_however_images_arrive() -> None:
    images = toy_images(300)
    assert_same(summary_of(images, 300), summary_of(images, 1, 64, 13), tolerance=0)


def test_the_networks_batch_size_changes_rounding_alone() -> None:
    images = toy_images(300)
    assert_same(summary_of(images, 300), summary_of(images, 300, batch_size=7), tolerance=1e-5)


def test_halves_are_equally_large() -> None:
    assert [half.count for half in summary_of(toy_images(300), 50).halves] == [150, 150]


def test_tensors_make_the_same_summary_bit_for_bit() -> None:
    summary = summary_of(toy_images(200), 50)
    assert_same(summary, ImageSummary.of_tensors(summary.tensors()), tolerance=0)


def sampled(count: int, seed: int, kept: int = 50) -> list[int]:
    """Which of `count` images are in the sample: their features are their places."""
    images = torch.zeros(count, 1, 1, 2, dtype=torch.uint8)
    images[:, 0, 0] = torch.stack([torch.arange(count) // 256, torch.arange(count) % 256], dim=1)

    def place(pixels: Tensor) -> tuple[Tensor, Tensor]:
        return pixels[:, 0, 0] @ torch.tensor([[256.0], [1.0]]), torch.zeros(len(pixels), CLASSES)

    extractor = dataclasses.replace(toy_extractor(), network=place, dimension=1)
    summary = summarize(in_batches(images, 300), extractor, count=count, splits=1, kept=kept, seed=seed)
    return summary.features[:, 0].long().tolist()


def test_the_sample_is_uniform_and_in_order() -> None:
    """Every tenth of the stream has its share, over 100 seeds: 500 draws a bin, standard deviation about 20."""
    drawn = [sampled(1000, seed) for seed in range(100)]
    assert all(places == sorted(set(places)) and len(places) == 50 for places in drawn)
    assert np.all(np.abs(np.histogram(np.concatenate(drawn), 10, (0, 1000))[0] - 500) < 100)


def test_few_images_are_all_in_the_sample() -> None:
    assert sampled(33, 0) == list(range(33))


def test_memory_does_not_grow_with_the_images() -> None:
    statistics = FeatureStatistics(3)
    for _ in range(100):
        statistics.update(torch.ones(100, 3))
        assert statistics._waiting_count < BLOCK + 100
    assert sum(tensor.nbytes for tensor in summary_of(toy_images(3000), 500).tensors().values()) < 10_000


def test_too_few_images_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"\b31\b.*\b30\b"):
        summarize([toy_images(30)], toy_extractor(), count=31, **SETTINGS)
