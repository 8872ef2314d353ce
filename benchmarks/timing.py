"""Timing on a machine that others share: every work is timed between two runs of its yardstick, in turns.

Speeds of such a machine change within seconds, and by more than what is to be measured. What two neighbours in time
have to do with each other changes far less: shares and ratios are medians over rounds of neighbours.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

ROWS, INNER, COLUMNS = 4096, 384, 1536
PRODUCT_FLOPS = 2 * ROWS * INNER * COLUMNS


def seconds_of(work: Callable[[], object]) -> float:
    """Wall-clock seconds of one run, until a GPU has done all of it too."""
    wait_for_device()
    start = time.perf_counter()
    work()
    wait_for_device()
    return time.perf_counter() - start


def wait_for_device() -> None:
    """Until the GPU has nothing left to do, if there is one."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()


class MatrixProducts:
    """The yardstick: matrix products of a training step's shape, 4096 tokens from 384 to 1536 wide."""

    def __init__(self, dtype: torch.dtype, seconds: float = 0.06, device: torch.device | str = "cpu") -> None:
        """Prepares about `seconds` of work."""
        self.a = torch.randn(ROWS, INNER, dtype=dtype, device=device)
        self.b = torch.randn(INNER, COLUMNS, dtype=dtype, device=device)
        self.repeats = 1
        self.run()
        self.repeats = max(1, round(seconds / min(seconds_of(self.run) for _ in range(3))))

    def run(self) -> None:
        for _ in range(self.repeats):
            torch.mm(self.a, self.b)

    def flops_per_second(self) -> float:
        """The rate at this moment."""
        return self.repeats * PRODUCT_FLOPS / seconds_of(self.run)


@dataclass(frozen=True)
class Measured:
    """One work's rounds."""

    seconds: list[float]
    yardstick: list[float]
    """FLOPs per second of matrix products, before and after each run, averaged."""

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def spread(self) -> str:
        """Slowest over fastest round."""
        return f"×{max(self.seconds) / min(self.seconds):.2f}"

    def rate(self, count: float) -> float:
        """`count` per second, median over rounds."""
        return count / self.median

    def share(self, flops: float) -> float:
        """Share of the rate of matrix products that `flops` per run make, median over rounds."""
        return statistics.median(flops / s / y for s, y in zip(self.seconds, self.yardstick, strict=True))

    def product_rate(self) -> float:
        """FLOPs per second of the yardstick, median over rounds."""
        return statistics.median(self.yardstick)

    def times_as_fast(self, other: "Measured") -> float:
        """How many runs of this fit into one of the other, median over rounds."""
        return statistics.median(b / a for a, b in zip(self.seconds, other.seconds, strict=True))


@dataclass(frozen=True)
class Work:
    """Something to be timed, and its yardstick."""

    run: Callable[[], object]
    yardstick: MatrixProducts


def in_turns(works: Mapping[str, Work], rounds: int) -> dict[str, Measured]:
    """Runs each work once as warm-up, then `rounds` times in turns."""
    for work in works.values():
        work.run()
    found = {name: Measured([], []) for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            before = work.yardstick.flops_per_second()
            found[name].seconds.append(seconds_of(work.run))
            found[name].yardstick.append((before + work.yardstick.flops_per_second()) / 2)
    return found
