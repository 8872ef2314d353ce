import numpy as np

from vitgan.metrics.statistics import Purpose, groups, priorities


def test_a_place_draws_the_same_from_anywhere() -> None:
    whole = priorities(3, Purpose.SAMPLE, 0, 1000)
    assert np.array_equal(whole[137:150], priorities(3, Purpose.SAMPLE, 137, 13))
    dealt = groups(3, Purpose.SPLIT, 0, 1000, 7)
    for start, count in ((0, 1), (3, 9), (6, 8), (500, 500)):
        assert np.array_equal(dealt[start : start + count], groups(3, Purpose.SPLIT, start, count, 7))


def test_seeds_and_purposes_differ() -> None:
    drawn = [priorities(seed, purpose, 0, 50) for seed in (0, 1) for purpose in Purpose]
    assert len({values.tobytes() for values in drawn}) == 6


def test_groups_are_equally_large_and_ignore_the_order_of_classes() -> None:
    dealt = groups(0, Purpose.HALF, 0, 20_000, 2)
    assert np.bincount(dealt).tolist() == [10_000, 10_000]
    classes = np.arange(20_000) % 10  # as a conditional generator makes them
    share = np.array([dealt[classes == c].mean() for c in range(10)])
    assert np.all(np.abs(share - 0.5) < 0.05)
