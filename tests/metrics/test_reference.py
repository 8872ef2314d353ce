import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from toy_features import DIMENSION, toy_extractor, toy_images, toy_network
from vitgan.metrics.protocol import Protocol
from vitgan.metrics.reference import ReferenceStatistics, reference_statistics

PROTOCOL = Protocol("test", "", splits=2, manifold_images=40, kernel_subsets=2, kernel_subset_size=20)


class Counting:
    """Reads images and remembers how many."""

    def __init__(self, images: Tensor) -> None:
        self.images, self.read_count = images, 0

    def __call__(self, indices: np.ndarray) -> Iterable[Tensor]:
        self.read_count += len(indices)
        yield self.images[torch.from_numpy(indices)]


def statistics(
    read: Counting, protocol: Protocol = PROTOCOL, cache: Path | None = None, digest: str = "a" * 64
) -> ReferenceStatistics:
    return reference_statistics(read, len(read.images), digest, protocol, toy_extractor(), cache=cache)


def test_second_time_from_the_cache_with_equal_bits(tmp_path: Path) -> None:
    read = Counting(toy_images(90))
    first = statistics(read, cache=tmp_path / "new" / "folder")
    second = statistics(read, cache=tmp_path / "new" / "folder")
    assert read.read_count == 90
    for name, values in first.summary.tensors().items():
        assert torch.equal(values, second.summary.tensors()[name]), name
    assert second.matches(PROTOCOL, toy_extractor())


def test_data_extractor_and_protocol_have_their_own_entries(tmp_path: Path) -> None:
    read = Counting(toy_images(90))
    statistics(read, cache=tmp_path)
    statistics(read, cache=tmp_path, digest="b" * 64)
    statistics(read, dataclasses.replace(PROTOCOL, seed=1), tmp_path)
    statistics(read, dataclasses.replace(PROTOCOL, reference_images=50), tmp_path)
    other = dataclasses.replace(toy_extractor(), weights_sha256="1" * 64)
    reference_statistics(read, 90, "a" * 64, PROTOCOL, other, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 5
    assert read.read_count == 4 * 90 + 50


def test_names_alone_share_an_entry(tmp_path: Path) -> None:
    read = Counting(toy_images(90))
    statistics(read, cache=tmp_path)
    statistics(read, dataclasses.replace(PROTOCOL, name="same reference", generated_images=1000), tmp_path)
    assert read.read_count == 90


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04", None])
def test_damaged_entries_are_replaced(tmp_path: Path, damage: bytes | None) -> None:
    read = Counting(toy_images(90))
    first = statistics(read, cache=tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-900] if damage is None else damage)
    again = statistics(read, cache=tmp_path)
    assert read.read_count == 180
    assert torch.equal(first.summary.halves[0].mean, again.summary.halves[0].mean)
    statistics(read, cache=tmp_path)
    assert read.read_count == 180


def test_any_flipped_bit_in_an_entry_leaves_the_statistics_as_they_are(tmp_path: Path) -> None:
    read = Counting(toy_images(90))
    expected = statistics(read, cache=tmp_path).summary.halves[0].mean
    (file,) = tmp_path.iterdir()
    whole, rng = file.read_bytes(), np.random.default_rng(2)
    for trial in range(40):
        damaged = bytearray(whole)
        damaged[int(rng.integers(len(whole) if trial % 2 else 300))] ^= 1 << int(rng.integers(8))
        file.write_bytes(damaged)
        assert torch.equal(statistics(read, cache=tmp_path).summary.halves[0].mean, expected)


def test_a_pipe_in_the_place_of_an_entry_is_passed_over(tmp_path: Path) -> None:
    read = Counting(toy_images(90))
    statistics(read, cache=tmp_path)
    (file,) = tmp_path.iterdir()
    file.unlink()
    os.mkfifo(file)
    assert statistics(read, cache=tmp_path).summary.count == 90


def test_a_place_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert statistics(Counting(toy_images(90)), cache=file / "folder").summary.count == 90
    assert list(tmp_path.iterdir()) == [file]


def test_flips_count_each_image_twice() -> None:
    images = toy_images(90)
    flipped = statistics(Counting(images), dataclasses.replace(PROTOCOL, reference_flips=True))
    both = torch.cat([images, images.flip(-1)])
    features = toy_network(both.float())[0].double()
    assert flipped.summary.count == 180
    torch.testing.assert_close(flipped.summary.whole().mean, features.mean(0), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(flipped.summary.whole().covariance, features.T.cov(), rtol=1e-5, atol=1e-5)


def test_a_subset_is_the_protocols() -> None:
    protocol = dataclasses.replace(PROTOCOL, reference_images=30)
    images = toy_images(90)
    chosen = images[torch.from_numpy(protocol.choose(90, 30))]
    mean = toy_network(chosen.float())[0].double().mean(0)
    assert mean.shape == (DIMENSION,)
    found = statistics(Counting(images), protocol).summary
    torch.testing.assert_close(found.whole().mean, mean, rtol=1e-5, atol=1e-6)
