"""How much of a training is left: of its budgets the one that ends first."""

import pytest

from vitgan.training.clock import Clock
from vitgan.training.config import TrainingConfig
from vitgan.training.remaining import Remaining


def at(training: TrainingConfig, images: int, wall: float, cpu: float) -> Remaining:
    """After a first step at no time."""
    remaining, clock = Remaining(training), Clock()
    remaining.update(1, clock)
    clock.wall_seconds, clock.cpu_seconds = wall, cpu
    remaining.update(images, clock)
    return remaining


@pytest.mark.parametrize(
    ("budgets", "seconds", "share"),
    [
        ({}, 90, 0.1),
        ({"max_minutes": 1}, 50, 1 / 6),
        ({"max_minutes": 10}, 90, 0.1),
        ({"max_cpu_minutes": 1}, 20, 1 / 3),
        ({"max_minutes": 1, "max_cpu_minutes": 1}, 20, 1 / 3),
    ],
)
def test_the_budget_that_ends_first_counts(budgets: dict[str, float], seconds: float, share: float) -> None:
    training = TrainingConfig.model_validate({"total_kimg": 1, **budgets})
    remaining = at(training, images=100, wall=10, cpu=20)
    assert remaining.seconds == pytest.approx(seconds, rel=0.02)
    assert remaining.share == pytest.approx(share)


def test_a_run_that_goes_on_is_as_fast_as_its_own_steps() -> None:
    remaining, clock = Remaining(TrainingConfig(total_kimg=1, max_minutes=10)), Clock(wall_seconds=300)
    remaining.update(500, clock)
    clock.wall_seconds = 310
    remaining.update(600, clock)
    assert remaining.images_per_second == pytest.approx(10)
    assert remaining.seconds == pytest.approx(40)
    assert remaining.share == pytest.approx(0.6)
