"""Time that training takes: on the wall and of the processor, without the evaluations and sample grids between steps."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf


@dataclass
class Clock:
    """Begins with what a run took before; `paused` leaves out what is not training."""

    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    """Processor time of this process, all its threads: on a shared machine it does not count what others take."""

    def __post_init__(self) -> None:
        self._start()
        self._lap = (0, self.wall_seconds, self.cpu_seconds)

    def _start(self) -> None:
        self._wall, self._cpu = time.monotonic(), time.process_time()

    def update(self) -> None:
        """Brings both counts up to now."""
        self.wall_seconds += time.monotonic() - self._wall
        self.cpu_seconds += time.process_time() - self._cpu
        self._start()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The time within is not counted."""
        self.update()
        try:
            yield
        finally:
            self._start()

    def lap(self, images_seen: int) -> dict[str, float]:
        """The log's values since the last lap, which the loop begins with: images per second, seconds of the processor."""
        self.update()
        images, wall, cpu = self._lap
        self._lap = (images_seen, self.wall_seconds, self.cpu_seconds)
        return {
            "images_per_second": (images_seen - images) / max(self.wall_seconds - wall, 1e-9),
            "cpu_seconds": self.cpu_seconds - cpu,
        }

    def spent(self, max_minutes: float | None, max_cpu_minutes: float | None) -> float:
        """The share of a budget that was used up at the last update: of two, the larger one; of none, 0."""
        budgets = ((self.wall_seconds, max_minutes), (self.cpu_seconds, max_cpu_minutes))
        return max(seconds / 60 / (minutes or inf) for seconds, minutes in budgets)
