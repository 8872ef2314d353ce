"""The divergence guard: a bad update is never applied, and the run learns of it without waiting for the device.

An update is bad if its loss or its gradient is not finite, or if D's mean logits are past a bound. That is decided on
the device, where Adam skips the update; weights, moments and running means stay as they were. What to do about it
(stop, go on, go back) is decided on the host, which looks after every step on a CPU and every few steps on a GPU.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vitgan.training.objective import Parts

STEPS_BETWEEN_LOOKS = 16
"""On a GPU, where looking waits for all work to be done. Nothing bad happens in between: updates are skipped."""

FIGURES: tuple[str, ...] = (
    "loss/discriminator",
    "loss/generator",
    "logits/real",
    "logits/fake",
    "gradient_norm/discriminator",
    "gradient_norm/generator",
)


@dataclass(frozen=True)
class Divergence:
    """Bad updates since the last look.

    Attributes:
        step: Step of the first one, counted from 0: with the run's seed it names the batch and all random draws.
        steps: How many steps had one.
        in_a_row: How many steps in a row had one, up to now.
        figures: Losses, logits and gradient norms of the first one, on the main process.
    """

    step: int
    steps: int
    in_a_row: int
    figures: dict[str, float]

    @property
    def reason(self) -> str:
        """The figures that are not finite, else all: "loss/discriminator nan, ..."."""
        odd = {name: value for name, value in self.figures.items() if not abs(value) < float("inf")}
        return ", ".join(f"{name} {value:.4g}" for name, value in (odd or self.figures).items())


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
        self._figures = torch.zeros(len(FIGURES), device=self.device)

    @torch.no_grad()
    def suspicion(self, loss: Tensor, parts: Parts) -> Tensor:
        """1.0 if this process's loss is not finite or its logits are past the bound, else 0.0; a scalar."""
        sound = loss.isfinite()
        for name in ("logits/real", "logits/fake"):
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
        figures = torch.stack([parts[name].detach().float().to(self.device) for name in FIGURES])
        self._figures = torch.where(first, figures, self._figures)
        self._first = torch.where(first, step, self._first)
        self._steps = self._steps + self._bad
        self._in_a_row = (self._in_a_row + 1) * self._bad
        self._bad = torch.zeros_like(self._bad)

    def look(self, step: int, *, now: bool = False) -> Divergence | None:
        """What happened since the last look, if it is time for one; waits for the device.

        Args:
            step: Steps done.
            now: Look in any case, for example before a checkpoint is written.
        """
        if not (now or self.device.type == "cpu" or step % STEPS_BETWEEN_LOOKS == 0):
            return None
        if not self._steps.item():
            return None
        figures: dict[str, float] = dict(zip(FIGURES, self._figures.tolist(), strict=True))
        found = Divergence(int(self._first.item()), int(self._steps.item()), int(self._in_a_row.item()), figures)
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
