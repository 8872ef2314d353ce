"""Statistics of the steps, gathered on the device."""

import torch
from torch import Tensor

MAXIMUM_SUFFIX = "_max"


class Statistics:
    """Means (and maxima, for names that end in "_max") of scalars over the steps since the last `collect`.

    Sums stay on the device: nothing waits for the device until `collect`. Values that are not finite are left out: the
    divergence guard reports them.
    """

    def __init__(self) -> None:
        self._sums: dict[str, tuple[Tensor, Tensor]] = {}
        """Sum or maximum, and count, by name."""

    @torch.no_grad()
    def add(self, values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            value, maximum = value.detach().float(), name.endswith(MAXIMUM_SUFFIX)
            count = value.isfinite().float()
            value = torch.where(count > 0, value, -torch.inf if maximum else 0.0)
            if name in self._sums:
                so_far, counted = self._sums[name]
                value = torch.maximum(so_far, value) if maximum else so_far + value
                count = counted + count
            self._sums[name] = value, count

    def collect(self) -> dict[str, float]:
        """The figures, and a fresh start. A figure that was never finite is absent."""
        sums = self.sums()
        self._sums = {}
        return {
            name: value if name.endswith(MAXIMUM_SUFFIX) else value / count
            for name, (value, count) in sums.items()
            if count
        }

    def sums(self) -> dict[str, tuple[float, int]]:
        """Sum (or maximum) and count of each figure so far: float32 values, exact as Python's floats."""
        sums = {name: (value.item(), int(count.item())) for name, (value, count) in self._sums.items()}
        return {name: (value if count else 0.0, count) for name, (value, count) in sums.items()}

    def restore(self, sums: dict[str, tuple[float, int]]) -> None:
        """The inverse of `sums`."""
        never = {name: -torch.inf if name.endswith(MAXIMUM_SUFFIX) else 0.0 for name in sums}
        self._sums = {
            name: (torch.tensor(value if count else never[name]), torch.tensor(float(count)))
            for name, (value, count) in sums.items()
        }
