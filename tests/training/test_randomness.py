"""A step's draws: a function of (seed, purpose, step), the same however many processes share the batch."""

import zlib

import numpy as np
import pytest
import torch
from torch import Tensor

from vitgan.training.augment import AugmentConfig
from vitgan.training.randomness import NUMBERS_PER_STEP, StepRandomness, splitmix64


def draws(randomness: StepRandomness, purpose: str, count: int) -> dict[str, Tensor]:
    """One of everything, for this process's `count` images."""
    parameters = randomness.augmentation(purpose, AugmentConfig(), count, 32)
    augmentation = {f"augmentation {name}": value for name, value in parameters._asdict().items()}
    normal, uniform = randomness.normal(purpose, count, 5), randomness.uniform(purpose, count, 3, 2)
    return {"normal": normal, "uniform": uniform} | augmentation


def test_draws_are_a_function_of_seed_purpose_and_step() -> None:
    first = draws(StepRandomness(3, 7), "latents", 6)
    again = StepRandomness(3, 7)
    again.normal("another purpose in between", 100)  # order of use does not matter
    for name, value in draws(again, "latents", 6).items():
        assert torch.equal(value, first[name]), name
    others = [
        draws(StepRandomness(4, 7), "latents", 6),
        draws(StepRandomness(3, 8), "latents", 6),
        draws(StepRandomness(3, 7), "noise", 6),
    ]
    for other in others:
        assert not torch.equal(other["normal"], first["normal"])
        assert not torch.equal(other["uniform"], first["uniform"])
        assert not torch.equal(other["augmentation brightness"], first["augmentation brightness"])


def test_neighbouring_seeds_and_steps_do_not_share_a_stream() -> None:
    """(seed 1, step 0) must not be (seed 0, step 1)."""
    first_numbers = {
        StepRandomness(seed, step).uniform(purpose, 1).item()
        for seed in range(12)
        for step in range(12)
        for purpose in ("a", "b")
    }
    assert len(first_numbers) == 12 * 12 * 2


def test_steps_follow_each_other_in_one_stream() -> None:
    """The number after the last that a step may draw is the first of the next step, up to the largest step."""
    for step in (0, 5, 2**28 - 1):
        here, there = (torch.tensor(s % 2**28) * NUMBERS_PER_STEP for s in (step, step + 1))
        after = splitmix64(9, here + NUMBERS_PER_STEP, 1)
        assert torch.equal(after, splitmix64(9, there, 1))
        assert not torch.equal(after, splitmix64(9, here, 1))


def test_torchs_global_state_is_neither_used_nor_moved() -> None:
    torch.manual_seed(1)
    before, first = torch.get_rng_state(), draws(StepRandomness(3, 7), "latents", 6)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(draws(StepRandomness(3, 7), "latents", 6)["normal"], first["normal"])


@pytest.mark.parametrize("columns", [1, 2, 5, 3 * 32 * 32, 2731])
@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_rows_of_all_processes_together_are_one_process_draws(world_size: int, columns: int) -> None:
    count = 12
    shares = [StepRandomness(3, 7, rank, world_size) for rank in range(world_size)]
    shares += [StepRandomness(3, 7).share(index, world_size) for index in range(world_size)]  # micro-batches
    for kind in ("normal", "uniform"):
        whole = getattr(StepRandomness(3, 7), kind)("latents", count, columns)
        rows = torch.cat([getattr(share, kind)("latents", count // world_size, columns) for share in shares])
        assert torch.equal(rows, whole.repeat(2, 1)), kind
    whole = draws(StepRandomness(3, 7), "latents", count)
    ranks = [draws(share, "latents", count // world_size) for share in shares[:world_size]]
    for name, expected in whole.items():
        assert torch.equal(torch.cat([share[name] for share in ranks]), expected), name


def test_bits_are_those_of_splitmix64() -> None:
    """The published first numbers of seed 1234567, and the definition in Python's whole numbers at the edges of 64 bits."""
    published = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert [x % 2**64 for x in splitmix64(1234567, 0, 5).tolist()] == published

    def literally(key: int, index: int) -> int:
        z = (key + (index + 1) * 0x9E3779B97F4A7C15) % 2**64
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
        return z ^ (z >> 31)

    for key in (0, 1, 2**63 - 1, 2**63, 2**64 - 1):
        for start in (0, 5, 2**40):
            expected = [literally(key, start + i) for i in range(3)]
            assert [x % 2**64 for x in splitmix64(key, start, 3).tolist()] == expected


def test_numbers_are_made_of_bits_as_stated() -> None:
    """Box and Muller in float64; the two numbers of a hash lie half a row apart."""
    randomness, key = StepRandomness(3, 7), np.random.SeedSequence([3, zlib.crc32(b"x")])
    bits = splitmix64(int(key.generate_state(1, np.uint64)[0]), 7 * 2**36, 12).view(4, 3)
    high, low = ((bits >> 40) % 2**24).double() / 2**24, (bits % 2**24).double() / 2**24
    radius, angle = (-2 * (1 - high).log()).sqrt(), 2 * torch.pi * low
    expected = torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)
    torch.testing.assert_close(randomness.normal("x", 4, 6).double(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(randomness.normal("x", 4, 5).double(), expected[:, :5], rtol=1e-5, atol=1e-6)
    assert torch.equal(randomness.uniform("x", 4, 3).double(), high)


def test_draws_follow_torchs_default_type() -> None:
    single = StepRandomness(3, 7).normal("x", 4, 6)
    try:
        torch.set_default_dtype(torch.float64)
        double = StepRandomness(3, 7).normal("x", 4, 6)
    finally:
        torch.set_default_dtype(torch.float32)
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), single)


def test_distributions() -> None:
    randomness = StepRandomness(0, 0)
    normal, uniform = randomness.normal("x", 100, 400), randomness.uniform("x", 100, 400)
    assert normal.dtype == uniform.dtype == torch.float32
    assert abs(normal.mean().item()) < 0.03
    assert abs(normal.std().item() - 1) < 0.02
    assert 0 <= uniform.min() < 0.001
    assert 0.999 < uniform.max() < 1
    assert abs(uniform.mean().item() - 0.5) < 0.01


def test_numbers_are_independent_of_their_neighbours() -> None:
    """Correlations of 100,000 pairs are below 5 standard errors: along a row, a column, and between a hash's two numbers."""
    for kind in ("normal", "uniform"):
        x = getattr(StepRandomness(1, 2), kind)("x", 250, 400)
        x = (x - x.mean()) / x.std()
        pairs = {
            "row": (x[:, :-1], x[:, 1:]),
            "column": (x[:-1], x[1:]),
            "hash": (x[:, :200], x[:, 200:]),
            "squares": (x[:, :200].square() - 1, x[:, 200:].square() - 1),
        }
        for name, (a, b) in pairs.items():
            assert abs((a * b).mean().item()) < 5 * 2 / a.numel() ** 0.5, (kind, name)
    bits = splitmix64(0, 0, 20_000)
    ones = torch.stack([(bits >> place) & 1 for place in range(64)]).double().mean(dim=1)
    assert (ones - 0.5).abs().max() < 5 * 0.5 / 20_000**0.5
