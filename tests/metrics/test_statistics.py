import numpy as np
import torch

from vitgan.metrics.statistics import BLOCK, FeatureStatistics


def features(count: int, dimension: int = 6, offset: float = 0.0) -> torch.Tensor:
    rng = np.random.default_rng(count)
    mixing = rng.standard_normal((dimension, dimension))
    return torch.from_numpy(rng.standard_normal((count, dimension)) @ mixing + offset)


def collected(*parts: torch.Tensor) -> FeatureStatistics:
    statistics = FeatureStatistics(parts[0].shape[1])
    for part in parts:
        statistics.update(part)
    return statistics


def test_equals_numpy_even_far_from_zero() -> None:
    x = features(3000, offset=1e6)
    statistics = collected(*x.split(700))
    assert statistics.count == 3000
    np.testing.assert_allclose(statistics.mean.numpy(), x.numpy().mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(statistics.covariance.numpy(), np.cov(x.numpy(), rowvar=False), rtol=1e-9, atol=1e-9)


def test_does_not_depend_on_batches() -> None:
    x = features(2 * BLOCK + 300)
    by_one, by_many = collected(*x.split(1)), collected(*x.split(977))
    torch.testing.assert_close(by_one.mean, by_many.mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(by_one.scatter, by_many.scatter, rtol=1e-12, atol=1e-9)


def test_parts_join_to_the_whole() -> None:
    x = features(2500, offset=3)
    whole, joined = collected(x), collected(x[:100]).joined(collected(x[100:1000], x[1000:]))
    assert joined.count == whole.count
    torch.testing.assert_close(joined.mean, whole.mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(joined.covariance, whole.covariance, rtol=1e-12, atol=1e-12)


def test_joining_nothing_changes_nothing() -> None:
    statistics, empty = collected(features(50)), FeatureStatistics(6)
    before = statistics.scatter.clone()
    assert torch.equal(statistics.joined(empty).scatter, before)
    torch.testing.assert_close(empty.joined(statistics).scatter, before, rtol=0, atol=0)
    assert torch.equal(statistics.scatter, before)
    assert empty.count == 0
