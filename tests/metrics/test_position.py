import numpy as np

from vitgan.metrics.image_summary import Purpose, groups, priorities


def test_seeds_and_purposes_differ() -> None:
    drawn = [priorities(seed, purpose, 50) for seed in (0, 1) for purpose in Purpose]
    assert len({values.tobytes() for values in drawn}) == 6


def test_groups_are_equally_large_and_ignore_the_order_of_classes() -> None:
    dealt = groups(0, Purpose.HALF, 20_000, 2).numpy()
    assert np.bincount(dealt).tolist() == [10_000, 10_000]
    classes = np.arange(20_000) % 10  # as a conditional generator makes them
    share = np.array([dealt[classes == c].mean() for c in range(10)])
    assert np.all(np.abs(share - 0.5) < 0.05)


def test_a_place_is_in_the_same_group_of_more_images() -> None:
    assert np.array_equal(groups(3, Purpose.SPLIT, 1000, 7)[:500], groups(3, Purpose.SPLIT, 500, 7))
