"""Which latents and classes the images of a seed have: functions of the seed and an image's place alone."""

import math
import operator
from collections.abc import Collection, Iterable
from functools import cache
from typing import SupportsIndex

import torch
from torch import Tensor

from vitgan.errors import UserError

W_MEAN_SAMPLES = 10_000


def checked_seed(seed: SupportsIndex, parameter: str = "seed") -> int:
    """A seed as Python's int: torch takes no other kind, and takes -1 for 2^64 - 1.

    Raises:
        UserError: If it is no whole number from 0 to 2^63 - 1.
    """
    try:
        value = operator.index(seed)
    except TypeError:
        value = -1
    if not 0 <= value < 2**63:
        raise UserError(f"the seed {seed} is out of range: choose whole numbers from 0 to 2^63 - 1", parameter)
    return value


def checked_count(count: SupportsIndex, parameter: str = "count") -> int:
    """A number of images, frames or steps as Python's int.

    Raises:
        UserError: If it is no whole number of at least 1.
    """
    try:
        value = operator.index(count)
    except TypeError:
        value = 0
    if value < 1:
        raise UserError(f"{parameter} is {count!r}: choose a whole number of at least 1", parameter)
    return value


def checked_number(value: float, parameter: str) -> float:
    """A number that is finite, given back.

    Raises:
        UserError: If it is not.
    """
    if not math.isfinite(value):
        raise UserError(f"{parameter} is {value}: choose a finite number", parameter)
    return value


def checked_choice(value: str, choices: Collection[str], parameter: str) -> None:
    """Refuses what is none of the choices.

    Raises:
        UserError: If it is none.
    """
    if value not in choices:
        raise UserError(f"{parameter} {value!r} is unknown: choose {' or '.join(choices)}", parameter)


def draw_latents(count: int, z_dim: int, seed: SupportsIndex) -> Tensor:
    """Latents (count, z_dim), standard normal, float32, on the CPU, whatever torch's defaults are: a seed names an image.

    Row i depends on (seed, i) alone, not on `count`.

    Raises:
        UserError: If the seed is none, see `checked_seed`.
    """
    rng = torch.Generator("cpu").manual_seed(checked_seed(seed))
    latents = torch.empty(count, z_dim, dtype=torch.float32, device="cpu")
    # Row by row: torch fills a large request in blocks, so that one call would make row i depend on `count`.
    for row in latents:
        row.normal_(generator=rng)
    return latents


@cache
def latents_of_mean(z_dim: int) -> Tensor:
    """Always the same: they are drawn once, which takes longer than mapping them."""
    return draw_latents(W_MEAN_SAMPLES, z_dim, seed=0)


def latents_of_seeds(seeds: Iterable[SupportsIndex], z_dim: int) -> Tensor:
    """Latents (count, z_dim) on the CPU: for each seed the first that `draw_latents` draws from it.

    Raises:
        UserError: If there are no seeds, or one is out of range.
    """
    rows = [draw_latents(1, z_dim, checked_seed(seed, "seeds")) for seed in seeds]
    if not rows:
        raise UserError("no seeds were given: pass at least one", "seeds")
    return torch.cat(rows)


def classes_in_turn(count: int, class_counts: tuple[int, ...]) -> Tensor:
    """Class indices (count,) int64 whose shares are those of `class_counts`; equal counts give 0, 1, ..., 0, 1, ...

    The j-th image of a class with c images comes at the place (j - 1/2)/c, ties in order of the classes (the divisor
    method of Sainte-Laguë): label i does not depend on `count`, and shares vary less than if labels were drawn.
    """
    images = torch.tensor(class_counts, dtype=torch.float64, device="cpu")
    most = ((count + len(images) / 2) * images / images.sum() + 0.5).ceil().long().where(images > 0, 0)
    classes = torch.arange(len(images), device="cpu").repeat_interleave(most)
    turn = torch.arange(len(classes), device="cpu") - (most.cumsum(0) - most).repeat_interleave(most)
    order = ((turn.double() + 0.5) / images[classes]).argsort(stable=True)
    return classes[order[:count]]
