"""What the processes of a run agree on: means of tensors, and when to end, which all must do at the same step."""

import torch
from accelerate import Accelerator
from torch import Tensor

from vitgan.training.objective import Parts


class Agreement:
    """One process's part in it; where it is alone, nothing is sent."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.alone = accelerator.num_processes == 1
        self._said: Tensor | None = None
        self._heard: list[float] = []

    def mean(self, tensor: Tensor) -> Tensor:
        """Over all processes."""
        return tensor if self.alone else self._reduced(tensor, "mean")

    def any(self, *flags: bool) -> list[bool]:
        """For each flag whether any process raises it; all ask at the same place."""
        if self.alone:
            return [*flags]
        return [count > 0 for count in self._reduced(self._tensor(*flags), "sum").tolist()]

    def told(self, **numbers: float) -> Parts:
        """Numbers of this process as scalars, to travel with the gradients of a step."""
        return dict(zip(numbers, self._tensor(*numbers.values()).unbind(), strict=True))

    def heard(self, parts: Parts, *names: str, look: bool) -> list[float]:
        """Of each number that was `told` the largest mean over processes since the first step; taken out of the parts.

        Args:
            parts: What the step gave back, means over processes.
            names: Of the numbers.
            look: Whether to wait for the device, at the same step on every process. Else the answer is the last one.
        """
        said = torch.stack([parts.pop(name) for name in names])
        self._said = said if self._said is None else torch.maximum(self._said, said)
        if look:
            self._heard = self._said.tolist()
        return self._heard or [0.0] * len(names)

    def forget(self) -> None:
        """Begins again with the largest means: the run has gone back."""
        self._said, self._heard = None, []

    def _tensor(self, *numbers: float) -> Tensor:
        return torch.stack([torch.full((), float(number), device=self.accelerator.device) for number in numbers])

    def _reduced(self, tensor: Tensor, reduction: str) -> Tensor:
        result = self.accelerator.reduce(tensor, reduction=reduction)
        assert isinstance(result, Tensor)
        return result
