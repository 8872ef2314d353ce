"""How much of a training is left, and when it will end."""

from vitgan.training.clock import Clock
from vitgan.training.config import TrainingConfig


class Remaining:
    """How far a training is: of its budgets in images, minutes and minutes of the processor, the one that ends first.

    Attributes:
        images: Seen so far.
        images_per_second: Since this process began.
        share: Part of the budget that is used up, in [0, 1].
        seconds: Left of it.
    """

    def __init__(self, config: TrainingConfig) -> None:
        self.total_images = config.total_kimg * 1000
        self._wall, self._cpu = ((minutes or 0) * 60 for minutes in (config.max_minutes, config.max_cpu_minutes))
        self._first: tuple[int, float] | None = None
        self.images = 0
        self.images_per_second = self.share = self.seconds = 0.0

    def update(self, images: int, clock: Clock) -> None:
        """After every step; a hook `on_step`."""
        wall, cpu = clock.wall_seconds, clock.cpu_seconds
        if self._first is None or images < self._first[0]:  # after a rollback
            self._first = images, wall  # the first step is no measure: libraries are loaded in it
        first, begun = self._first
        self.images, self.images_per_second = images, (images - first) / max(wall - begun, 1e-9)
        left = self.total_images - images
        ends = [(left / max(self.images_per_second, 1e-9), images / self.total_images)]
        if self._wall:
            ends.append((self._wall - wall, wall / self._wall))
        if self._cpu:
            ends.append(((self._cpu - cpu) * wall / max(cpu, 1e-9), cpu / self._cpu))
        self.seconds, share = min(ends)
        self.share = min(share, 1.0)
