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
        self._values: dict[str, Tensor] = {}
        self._counts: dict[str, Tensor] = {}

    @torch.no_grad()
    def add(self, values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            value = value.detach().float()
            maximum = name.endswith(MAXIMUM_SUFFIX)
            finite = value.isfinite()
            value = torch.where(finite, value, -torch.inf if maximum else 0.0)
            if name not in self._values:
                self._values[name], self._counts[name] = value, finite.float()
                continue
            if maximum:
                self._values[name] = torch.maximum(self._values[name], value)
            else:
                self._values[name] = self._values[name] + value
            self._counts[name] = self._counts[name] + finite

    def collect(self) -> dict[str, float]:
        """The figures, and a fresh start. A figure that was never finite is absent."""
        sums = self.sums()
        self._values, self._counts = {}, {}
        return {
            name: value if name.endswith(MAXIMUM_SUFFIX) else value / count
            for name, (value, count) in sums.items()
            if count
        }

    def sums(self) -> dict[str, tuple[float, int]]:
        """Sum (or maximum) and count of each figure so far: float32 values, exact as Python's floats."""
        sums = {name: (value.item(), int(self._counts[name].item())) for name, value in self._values.items()}
        return {name: (value if count else 0.0, count) for name, (value, count) in sums.items()}

    def restore(self, sums: dict[str, tuple[float, int]]) -> None:
        """The inverse of `sums`."""
        never = {name: -torch.inf if name.endswith(MAXIMUM_SUFFIX) else 0.0 for name in sums}
        self._values = {name: torch.tensor(value if count else never[name]) for name, (value, count) in sums.items()}
        self._counts = {name: torch.tensor(float(count)) for name, (_, count) in sums.items()}
