"""Everything that an exact resume needs: both networks, the average, both optimisers, the losses' running
means, and one number.

There is no random state: a step's draws and its images depend on the seed and on the number of images seen.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from vitgan.models.discriminator import Discriminator
from vitgan.models.generator import Generator
from vitgan.training.objective import Objective
from vitgan.training.statistics import Statistics

ADAM = ("step", "exp_avg", "exp_avg_sq")
"""What Adam remembers of each parameter."""


@dataclass
class TrainingState:
    """The mutable state of a run.

    Attributes:
        generator_ema: The averaged G, which makes samples and is what a run hands on.
        objective: The losses, whose buffers are running means.
        step: Updates done.
        images_seen: Real images shown to D so far, over all processes.
        wall_seconds: What training took until the last checkpoint, on the main process; evaluations do not count.
        cpu_seconds: The same of its processor.
        time_spent: The share of the run's minutes that is used up, as all processes know it; the run ends at 1.
        rollbacks: How often the divergence guard went back to a checkpoint, each time to lower learning rates.
        statistics: Metrics since the last log record.
    """

    generator: Generator
    discriminator: Discriminator
    generator_ema: Generator
    generator_optimizer: Optimizer
    discriminator_optimizer: Optimizer
    objective: Objective
    step: int = 0
    images_seen: int = 0
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    time_spent: float = 0.0
    rollbacks: int = 0
    statistics: Statistics = field(default_factory=Statistics)

    def optimizer_tensors(self) -> dict[str, Tensor]:
        """Both optimisers' state, flat: "discriminator/head.weight/exp_avg" -> tensor; none before the first step.

        A parameter that no loss has reached yet has the zeros with which Adam begins: a later resume expects all.
        """
        if not self.step:
            return {}
        return {
            f"{place}/{key}": value
            for place, parameter, optimizer in self._optimized()
            for key, value in (optimizer.state.get(parameter) or adam_begins_with(parameter)).items()
        }

    def expected_optimizer_tensors(self) -> dict[str, Tensor]:
        """Tensors of the names, shapes and types that `optimizer_tensors` has after the first step: Adam's."""
        count = torch.zeros(())
        return {
            f"{place}/{key}": count if key == "step" else parameter
            for place, parameter, _ in self._optimized()
            for key in ADAM
        }

    def load_optimizer_tensors(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of `optimizer_tensors`."""
        for place, parameter, optimizer in self._optimized():
            found = {key: tensors[f"{place}/{key}"] for key in ADAM if f"{place}/{key}" in tensors}
            if found:
                # Adam keeps its step count on the CPU unless it is fused or capturable, where it is on the device.
                optimizer.state[parameter] = {k: v.to(parameter.device, copy=True) for k, v in found.items()}
            else:
                optimizer.state.pop(parameter, None)

    def _optimized(self) -> Iterator[tuple[str, nn.Parameter, Optimizer]]:
        """Every parameter that is trained, with the name that its state has, and its optimiser."""
        for network, optimizer in (
            ("generator", self.generator_optimizer),
            ("discriminator", self.discriminator_optimizer),
        ):
            trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
            for name, parameter in getattr(self, network).named_parameters():
                if id(parameter) in trained:
                    yield f"{network}/{name}", parameter, optimizer


def adam_begins_with(parameter: Tensor) -> dict[str, Tensor]:
    """Adam's state of a parameter before its first gradient: zeros."""
    return {key: torch.zeros(()) if key == "step" else torch.zeros_like(parameter) for key in ADAM}
