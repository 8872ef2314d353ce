"""What a run's time is made of, under a clock that the test moves."""

import pytest

from vitgan.training import clock as clock_module
from vitgan.training.clock import Clock


class Hands:
    """The wall's and the processor's hands."""

    wall = 100.0
    cpu = 7.0

    def move(self, wall: float, cpu: float) -> None:
        self.wall, self.cpu = self.wall + wall, self.cpu + cpu

    def monotonic(self) -> float:
        return self.wall

    def process_time(self) -> float:
        return self.cpu


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> Hands:
    hands = Hands()
    monkeypatch.setattr(clock_module, "time", hands)
    return hands


def test_laps_give_rate_and_processor_time_since_the_last(hands: Hands) -> None:
    clock = Clock()
    hands.move(wall=3, cpu=1)
    clock.lap(500)  # a run that goes on from 500 images
    hands.move(wall=4, cpu=2)
    assert clock.lap(700) == {"images_per_second": pytest.approx(50), "cpu_seconds": pytest.approx(2)}
    hands.move(wall=10, cpu=9)
    assert clock.lap(900) == {"images_per_second": pytest.approx(20), "cpu_seconds": pytest.approx(9)}


def test_pauses_are_not_counted(hands: Hands) -> None:
    clock = Clock()
    clock.lap(0)
    hands.move(wall=4, cpu=2)
    with clock.paused():
        hands.move(wall=100, cpu=100)
    hands.move(wall=1, cpu=1)
    assert clock.lap(100) == {"images_per_second": pytest.approx(20), "cpu_seconds": pytest.approx(3)}


@pytest.mark.parametrize(("minutes", "cpu_minutes"), [(1.0, None), (None, 0.5), (1.0, 99.0), (99.0, 0.5)])
def test_a_budget_is_over_when_either_hand_gets_there(
    hands: Hands, minutes: float | None, cpu_minutes: float | None
) -> None:
    clock = Clock()
    hands.move(wall=59, cpu=29)
    clock.update()
    assert clock.spent(minutes, cpu_minutes) == pytest.approx(
        max(59 / 60 / (minutes or 1e9), 29 / 60 / (cpu_minutes or 1e9))
    )
    with clock.paused():
        hands.move(wall=1000, cpu=1000)
    clock.update()
    assert clock.spent(minutes, cpu_minutes) < 1
    hands.move(wall=1.5, cpu=1.5)
    clock.update()
    assert clock.spent(minutes, cpu_minutes) >= 1
    assert clock.spent(None, None) == 0


def test_a_run_that_goes_on_counts_on(hands: Hands) -> None:
    clock = Clock(wall_seconds=45, cpu_seconds=15)
    clock.lap(500)
    hands.move(wall=3, cpu=3)
    clock.update()
    assert clock.spent(1, None) == pytest.approx(0.8)
    assert clock.spent(1, 0.5) == pytest.approx(0.8)
    assert clock.spent(None, 0.5) == pytest.approx(0.6)
    assert clock.lap(530) == {"images_per_second": pytest.approx(10), "cpu_seconds": pytest.approx(3)}
