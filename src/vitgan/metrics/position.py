"""Random decisions about an image by its place in the stream: the same whatever batches or processes it comes in."""

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """Decisions that must not depend on one another."""

    HALF = 0
    SPLIT = 1
    SAMPLE = 2


def priorities(seed: int, purpose: Purpose, start: int, count: int) -> np.ndarray:
    """Uniform numbers in [0, 1) for the places start ... start + count - 1: (count,) float64."""
    bits = np.random.PCG64(np.random.SeedSequence((seed, int(purpose))))
    bits.advance(start)  # one draw a place
    return np.random.Generator(bits).random(count)


def groups(seed: int, purpose: Purpose, start: int, count: int, number: int) -> np.ndarray:
    """Which of `number` equally large random groups each place belongs to: (count,) int64.

    Every run of `number` places, counted from 0, is dealt out at random, one place to each group. (By turns would be
    simpler, and wrong for streams that go through the classes by turns.)
    """
    first, last = start // number, -(-(start + count) // number)
    drawn = priorities(seed, purpose, first * number, (last - first) * number)
    ranks = drawn.reshape(-1, number).argsort(axis=1).argsort(axis=1).reshape(-1)
    skipped = start - first * number
    return ranks[skipped : skipped + count]
