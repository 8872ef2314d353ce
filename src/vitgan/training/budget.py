"""What a run may use up: images, minutes, and minutes of the processor."""

from vitgan.training.clock import Clock
from vitgan.training.config import TrainingConfig
from vitgan.training.remaining import Remaining
from vitgan.training.state import TrainingState


class Budget:
    """A run ends with the first budget that is used up. Its time counts on from that of its checkpoint.

    Attributes:
        clock: This process's. Of several, the main one's decides.
        remaining: Brought up to now by `update_remaining`.
    """

    def __init__(self, config: TrainingConfig, state: TrainingState) -> None:
        self.config, self.state = config, state
        self.total_images = round(config.total_kimg * 1000)
        self.begin()

    def begin(self) -> None:
        """Counts on from what the state holds, the same on every process."""
        self.clock = Clock(self.state.wall_seconds, self.state.cpu_seconds)
        self.remaining = Remaining(self.config)
        self.state.time_spent = self._spent()

    def time_spent(self) -> float:
        """The share of this process's minutes that is used up now."""
        self.clock.update()
        return self._spent()

    def update_remaining(self) -> None:
        """After a step."""
        self.clock.update()
        self.remaining.update(self.state.images_seen, self.clock)

    def store(self) -> None:
        """Has the state hold the time, for a checkpoint."""
        self.clock.update()
        self.state.wall_seconds, self.state.cpu_seconds = self.clock.wall_seconds, self.clock.cpu_seconds

    @property
    def is_over(self) -> bool:
        return self.state.images_seen >= self.total_images or self.state.time_spent >= 1

    def used_up(self) -> list[str]:
        """Fields of the configuration."""
        over = {
            "total_kimg": self.state.images_seen >= self.total_images,
            "max_minutes": self.clock.spent(self.config.max_minutes, None) >= 1,
            "max_cpu_minutes": self.clock.spent(None, self.config.max_cpu_minutes) >= 1,
        }
        return [f"training.{name}" for name, is_over in over.items() if is_over]

    def _spent(self) -> float:
        return self.clock.spent(self.config.max_minutes, self.config.max_cpu_minutes)
