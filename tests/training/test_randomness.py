"""A step's draws: a function of (seed, purpose, step), the same however many processes share the batch."""

import pytest
import torch
from torch import Tensor

from vitgan.augment import AugmentConfig
from vitgan.training.randomness import StepRandomness, seeded_generator


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
        torch.rand(1, generator=seeded_generator(seed, purpose, step)).item()
        for seed in range(12)
        for step in range(12)
        for purpose in ("a", "b")
    }
    assert len(first_numbers) == 12 * 12 * 2


def test_torchs_global_state_is_neither_used_nor_moved() -> None:
    torch.manual_seed(1)
    before, first = torch.get_rng_state(), draws(StepRandomness(3, 7), "latents", 6)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(draws(StepRandomness(3, 7), "latents", 6)["normal"], first["normal"])


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_rows_of_all_processes_together_are_one_process_draws(world_size: int) -> None:
    count = 12
    whole = draws(StepRandomness(3, 7), "latents", count)
    ranks = [
        draws(StepRandomness(3, 7, rank, world_size), "latents", count // world_size) for rank in range(world_size)
    ]
    for name, expected in whole.items():
        assert torch.equal(torch.cat([share[name] for share in ranks]), expected), name


def test_device_noise_is_a_function_of_its_place_and_differs_between_processes() -> None:
    def noise(seed: int, step: int, rank: int, purpose: str = "noise") -> Tensor:
        randomness = StepRandomness(seed, step, rank, world_size=2)
        return torch.randn(8, generator=randomness.device_generator(purpose, torch.device("cpu")))

    first = noise(3, 7, 0)
    assert torch.equal(noise(3, 7, 0), first)
    for other in (noise(3, 7, 1), noise(3, 8, 0), noise(4, 7, 0), noise(3, 7, 0, "other noise")):
        assert not torch.equal(other, first)


def test_distributions() -> None:
    randomness = StepRandomness(0, 0)
    normal, uniform = randomness.normal("x", 100, 400), randomness.uniform("x", 100, 400)
    assert normal.dtype == uniform.dtype == torch.float32
    assert abs(normal.mean().item()) < 0.03
    assert abs(normal.std().item() - 1) < 0.02
    assert 0 <= uniform.min() < 0.001
    assert 0.999 < uniform.max() < 1
    assert abs(uniform.mean().item() - 0.5) < 0.01
