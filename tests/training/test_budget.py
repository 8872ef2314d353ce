"""What ends a run, and what its checkpoints hold of it."""

from typing import Any

import pytest

from vitgan.training.budget import Budget
from vitgan.training.config import TrainingConfig


class Counts:
    """Of a training state what a budget counts."""

    images_seen = 0
    wall_seconds = cpu_seconds = time_spent = 0.0


def begun(**limits: float) -> tuple[Budget, Any]:
    counts: Any = Counts()
    return Budget(TrainingConfig.model_validate({"total_kimg": 1, **limits}), counts), counts


def test_the_first_budget_that_is_used_up_ends_a_run() -> None:
    budget, counts = begun(max_minutes=2, max_cpu_minutes=3)
    assert not budget.is_over
    assert budget.used_up() == []
    counts.images_seen = 1000
    assert budget.is_over
    assert budget.used_up() == ["training.total_kimg"]
    counts.images_seen, counts.wall_seconds = 500, 130.0
    budget.begin()
    assert budget.is_over
    assert budget.used_up() == ["training.max_minutes"]
    counts.wall_seconds, counts.cpu_seconds = 100.0, 200.0
    budget.begin()
    assert budget.is_over
    assert budget.used_up() == ["training.max_cpu_minutes"]


def test_time_counts_on_from_what_a_checkpoint_holds() -> None:
    budget, counts = begun(max_minutes=10)
    counts.wall_seconds = 300.0
    budget.begin()
    assert counts.time_spent == pytest.approx(0.5)
    assert budget.time_spent() >= 0.5
    budget.clock.wall_seconds = 450.0
    budget.store()
    assert counts.wall_seconds >= 450
    budget.begin()
    assert counts.time_spent >= 0.75


def test_what_is_left_is_known_after_two_steps() -> None:
    budget, counts = begun()
    budget.update_remaining()
    counts.images_seen = 250
    budget.update_remaining()
    assert budget.remaining.share == pytest.approx(0.25)
    assert budget.remaining.seconds > 0
