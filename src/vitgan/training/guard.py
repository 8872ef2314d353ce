"""The divergence guard: a bad update is never applied, and no step waits for the device to find out.

An update is bad if its loss or its gradient is not finite, or if D's mean logits are past a bound. The device decides this,
and Adam skips the update there: weights, moments and running means stay as they were. The host decides what to do about it:
stop, go on, or go back to a checkpoint with lower learning rates. It looks after every step on a CPU, and every few steps on
a GPU.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from vitgan.errors import UserError, command
from vitgan.training.config import TrainingConfig
from vitgan.training.instruments import measure_discriminator
from vitgan.training.log import append_event
from vitgan.training.objective import Parts
from vitgan.training.state import TrainingState

STEPS_BETWEEN_LOOKS = 16
"""On a GPU, where looking waits for all work to be done. Nothing bad happens in between: updates are skipped."""

MOST_SKIPPED_IN_A_ROW = 100
MOST_ROLLBACKS = 6
POLICY = "training.on_divergence"

LOGITS = ("logits/real", "logits/fake")
METRICS: tuple[str, ...] = (
    "loss/discriminator",
    "loss/generator",
    *LOGITS,
    "gradient_norm/discriminator",
    "gradient_norm/generator",
)


class Diverged(UserError):
    """A run cannot go on as it was told to, because its updates are bad."""


@dataclass(frozen=True)
class Divergence:
    """Bad updates since the last look.

    Attributes:
        step: Step of the first one, counted from 0: with the run's seed it names the batch and all random draws.
        steps: How many steps had one.
        in_a_row: How many steps in a row had one, up to now.
        metrics: Losses, logits and gradient norms of the first one, on the main process.
    """

    step: int
    steps: int
    in_a_row: int
    metrics: dict[str, float]

    def describe(self, config: TrainingConfig) -> str:
        """Where and why, in a few words: "step 3 diverged (loss/discriminator nan, ...; seed 0)"."""
        odd = {name: value for name, value in self.metrics.items() if not abs(value) < float("inf")}
        bound = config.logit_bound
        large = {name: self.metrics[name] for name in LOGITS if not abs(self.metrics.get(name, 0.0)) <= bound}
        reason = ", ".join(f"{name} {value:.4g}" for name, value in (odd or large or self.metrics).items())
        if large and not odd:
            reason += f" beyond logit_bound {bound:g}"
        return f"step {self.step} diverged ({reason}; seed {config.seed})"


class Guard:
    """Watches the updates of one process; all processes come to the same verdict."""

    def __init__(self, logit_bound: float, device: torch.device) -> None:
        self.logit_bound, self.device = logit_bound, device
        self.reset()

    def reset(self) -> None:
        """Forgets everything, as before the first step."""
        self._bad = torch.zeros((), device=self.device)
        self._steps = torch.zeros((), device=self.device)
        self._in_a_row = torch.zeros((), device=self.device)
        self._first = torch.zeros((), device=self.device, dtype=torch.int64)
        self._metrics = torch.zeros(len(METRICS), device=self.device)

    @torch.no_grad()
    def suspicion(self, loss: Tensor, parts: Parts) -> Tensor:
        """1.0 if this process's loss is not finite or its logits are past the bound, else 0.0; a scalar."""
        sound = loss.isfinite()
        for name in LOGITS:
            if name in parts:
                sound = sound & (parts[name].abs() <= self.logit_bound)  # False for NaN
        return (~sound).float()

    @torch.no_grad()
    def verdict(self, gradient_norm: Tensor, suspicion: Tensor) -> Tensor:
        """1.0 if the update is to be skipped, else 0.0: Adam's `found_inf`.

        Args:
            gradient_norm: Norm of the gradient, averaged over all processes.
            suspicion: Mean over all processes of what `suspicion` said.
        """
        bad = (~gradient_norm.isfinite() | ~(suspicion == 0)).float()
        self._bad = torch.maximum(self._bad, bad)
        return bad

    @torch.no_grad()
    def end_of_step(self, step: int, parts: Parts) -> None:
        """Notes whether the step had a bad update."""
        first = (self._bad > 0) & (self._steps == 0)
        metrics = torch.stack([parts[name].detach().float().to(self.device) for name in METRICS])
        self._metrics = torch.where(first, metrics, self._metrics)
        self._first = torch.where(first, step, self._first)
        self._steps = self._steps + self._bad
        self._in_a_row = (self._in_a_row + 1) * self._bad
        self._bad = torch.zeros_like(self._bad)

    def looks(self, step: int) -> bool:
        """Whether it is time for a look after so many steps: always on a CPU, which nobody waits for."""
        return self.device.type == "cpu" or step % STEPS_BETWEEN_LOOKS == 0

    def look(self, step: int, *, now: bool = False) -> Divergence | None:
        """What happened since the last look, if it is time for one; waits for the device.

        Args:
            step: Steps done.
            now: Look in any case, for example before a checkpoint is written.
        """
        if not (now or self.looks(step)):
            return None
        if not self._steps.item():
            return None
        metrics: dict[str, float] = dict(zip(METRICS, self._metrics.tolist(), strict=True))
        found = Divergence(int(self._first.item()), int(self._steps.item()), int(self._in_a_row.item()), metrics)
        self._steps = torch.zeros_like(self._steps)
        return found


@torch.no_grad()
def copy_buffers(module: nn.Module) -> list[Tensor]:
    """Copies of a module's buffers (the objective's running means: a few scalars)."""
    return [buffer.clone() for buffer in module.buffers()]


@torch.no_grad()
def restore_buffers_where(bad: Tensor, module: nn.Module, copies: list[Tensor]) -> None:
    """Puts the copies back if `bad` is not 0, without asking the device."""
    for buffer, copy in zip(module.buffers(), copies, strict=True):
        buffer.copy_(torch.where(bad > 0, copy, buffer))


def goes_back(divergence: Divergence, state: TrainingState, config: TrainingConfig, run: Path) -> bool:
    """Whether the run goes back to a checkpoint, or on, without the bad update; Diverged if it is to stop."""
    where = divergence.describe(config)
    resume = f"`{command('train', '--resume', run, '--training.on-divergence')}"
    if config.on_divergence == "stop":
        raise Diverged(f"{where}; see events.jsonl, and go on with {resume} rollback` or skip", POLICY)
    if config.on_divergence == "skip":
        if divergence.in_a_row >= MOST_SKIPPED_IN_A_ROW:
            reason = f"{where}, and so did the {divergence.in_a_row} last ones"
            raise Diverged(f"{reason}: go back with {resume} rollback`", POLICY)
        return False
    if state.rollbacks >= MOST_ROLLBACKS:
        reason = f"{where}, and going back {MOST_ROLLBACKS} times to lower learning rates did not help"
        raise Diverged(f"{reason}: begin with a lower rate", "training.learning_rate")
    return True


def record_divergence(
    divergence: Divergence, state: TrainingState, config: TrainingConfig, run: Path, real: Tensor
) -> None:
    """Appends all that is needed to look into it to the run's events.jsonl."""
    measured = measure_discriminator(state.discriminator, real)
    event: dict[str, object] = {
        "event": "divergence",
        "policy": config.on_divergence,
        "step": divergence.step,
        "batch_seed": [config.seed, divergence.step],
        "skipped_steps": divergence.steps,
        "rollbacks": state.rollbacks,
        "metrics": {name: f"{value:.6g}" for name, value in divergence.metrics.items()},
        "instruments": {name: f"{value:.6g}" for name, value in measured.items()},
    }
    append_event(run / "events.jsonl", event)
