from itertools import pairwise

import numpy as np
import torch

from vitgan.metrics.statistics import FeatureSample


def numbered(start: int, stop: int) -> torch.Tensor:
    """Features that tell their place in the stream."""
    return torch.arange(start, stop, dtype=torch.float32)[:, None].repeat(1, 2)


def sampled(*bounds: int, size: int = 50, seed: int = 0) -> FeatureSample:
    sample = FeatureSample(size, 2, seed)
    for start, stop in pairwise(bounds):
        sample.update(numbered(start, stop), start)
    return sample


def test_keeps_features_of_its_places() -> None:
    positions, features = sampled(0, 900, 3000).kept()
    assert len(positions) == 50
    assert np.all(np.diff(positions) > 0)
    assert features[:, 0].tolist() == positions.tolist()


def test_short_streams_are_kept_whole() -> None:
    assert sampled(0, 20, 33).kept()[0].tolist() == list(range(33))


def test_depends_neither_on_batches_nor_on_processes() -> None:
    whole = sampled(0, 5000).kept()[0]
    assert np.array_equal(whole, sampled(0, *range(3, 5000, 211), 5000).kept()[0])
    part, other = sampled(0, 1234), sampled(1234, 5000)
    other.merge(part)
    assert np.array_equal(whole, other.kept()[0])


def test_is_uniform() -> None:
    """Every tenth of the stream has its share, over 200 seeds: 1000 draws a bin, standard deviation about 30."""
    counts = sum(np.histogram(sampled(0, 1000, seed=seed).kept()[0], 10, (0, 1000))[0] for seed in range(200))
    assert np.all(np.abs(np.asarray(counts) - 1000) < 150)


def test_state_restores() -> None:
    sample = sampled(0, 700)
    restored = FeatureSample(50, 2, 0)
    restored.restore(sample.state())
    for one in (sample, restored):
        one.update(numbered(700, 2000), 700)
    assert np.array_equal(sample.kept()[0], restored.kept()[0])
