"""What the training loop needs from its caller: images, and functions to call as it goes on."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from vitgan.models.generator import Generator
from vitgan.training.clock import Clock


class Batches(Protocol):
    """An endless iterator over uint8 images (B, C, H, W) and labels (B,) or None."""

    def __next__(self) -> tuple[np.ndarray, np.ndarray | None]: ...

    def close(self) -> None: ...


class Stream(Protocol):
    """Where real images come from, at any point of the run."""

    def batches(self, images_seen: int) -> Batches: ...


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation of the averaged generator found."""

    metrics: dict[str, float]
    """All of them by name."""
    name: str
    """What checkpoints are chosen by: scores of different names are not compared."""
    score: float
    """Its value, lower is better."""


def ignore(*_: object) -> None:
    """A hook that does nothing."""


@dataclass
class Hooks:
    """Functions that the loop calls; all optional. All but `should_stop` are called on the main process only."""

    on_prepare: Callable[[int, int], None] = ignore
    """(images prepared, images in all), where images are prepared before the run."""
    on_step: Callable[[int, Clock], None] = ignore
    """(images seen, the time that training took), after every step."""
    on_log: Callable[[dict[str, float]], None] = ignore
    on_samples: Callable[[Path], None] = ignore
    on_notice: Callable[[str], None] = ignore
    """One line about something that the run survived (a damaged checkpoint, a skipped update, a rollback), or about an
    evaluation."""
    should_stop: Callable[[], bool] = lambda: False
    """Called at every step on every process. If any returns True, a checkpoint is saved and the run ends. In an
    evaluation it is called whenever the generator or a part of it is: if True, the resume makes the evaluation."""
    evaluate: Callable[[Generator], Evaluation] | None = None
    """Measures the averaged generator every `evaluate_every_kimg`."""
    evaluate_every_kimg: float = float("inf")
    profile_steps: int = 0
    """Trace this many steps, after a warm-up, into the run's folder profile/; 0 traces none."""
    on_profile: Callable[[Path, str], None] = ignore
    """(the trace, a table of what took the time)."""
