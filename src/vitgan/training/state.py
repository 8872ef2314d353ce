"""Everything that an exact resume needs: both players, the average, both optimisers, the losses' running
means, and one number.

There is no random state: a step's draws and its images are functions of the seed and of how many images were seen.
"""

from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.optim import Optimizer

from vitgan.models.discriminator import Discriminator
from vitgan.models.generator import Generator
from vitgan.training.log import Statistics


@dataclass
class TrainingState:
    """The mutable state of a run.

    Attributes:
        generator: G as it is trained.
        discriminator: D as it is trained, spectral vectors in its buffers.
        generator_ema: The averaged G, which makes samples and is what a run hands on.
        generator_optimizer: Adam of G.
        discriminator_optimizer: Adam of D.
        objective: The losses, whose buffers are running means.
        step: Updates done.
        images_seen: Real images shown to D so far, over all processes.
        learning_rate_scale: Factor on both learning rates; the divergence guard lowers it when it goes back.
        statistics: Figures since the last log record.
    """

    generator: Generator
    discriminator: Discriminator
    generator_ema: Generator
    generator_optimizer: Optimizer
    discriminator_optimizer: Optimizer
    objective: nn.Module
    step: int = 0
    images_seen: int = 0
    learning_rate_scale: float = 1.0
    statistics: Statistics = field(default_factory=Statistics)

    def optimizer_tensors(self) -> dict[str, Tensor]:
        """Both optimisers' state, flat: "discriminator/head.weight/exp_avg" -> tensor."""
        tensors: dict[str, Tensor] = {}
        for player, module, optimizer in self._players():
            for name, parameter in module.named_parameters():
                for key, value in optimizer.state.get(parameter, {}).items():
                    tensors[f"{player}/{name}/{key}"] = value
        return tensors

    def load_optimizer_tensors(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of `optimizer_tensors`."""
        for player, module, optimizer in self._players():
            for name, parameter in module.named_parameters():
                prefix = f"{player}/{name}/"
                state = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
                for key, value in state.items():
                    # Adam keeps its step count on the CPU unless it is fused or capturable, where it is on the device.
                    state[key] = value.to(parameter.device, copy=True)
                if state:
                    optimizer.state[parameter] = state
                else:
                    optimizer.state.pop(parameter, None)

    def _players(self) -> list[tuple[str, nn.Module, Optimizer]]:
        return [
            ("generator", self.generator, self.generator_optimizer),
            ("discriminator", self.discriminator, self.discriminator_optimizer),
        ]
