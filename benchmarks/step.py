"""One training step: images a second, share of the machine's matrix rate, and how many naive steps it is worth."""

import tyro
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.flops import step_flops
from benchmarks.players import (
    DTYPES,
    Precision,
    configuration,
    is_the_papers,
    naive_steps,
    precisions,
    steps,
    trainer_of,
)
from benchmarks.table import Table, say
from benchmarks.timing import MatrixProducts, Measured, Work, in_turns
from vitgan.config import RunConfig

BATCHES = {"quickstart": (32,), "cifar10-tiny": (32,)}
OTHER_BATCHES = (16, 64)
NAIVE_BATCH = 2  # where it is fastest; more images spend the time on fresh memory, half a GB each


def measure(
    presets: tuple[str, ...] = ("quickstart", "cifar10-tiny", "cifar10"),
    batch: int | None = None,
    rounds: int = 5,
    check: bool = True,
) -> Table:
    """Times steps of D and G with all that the preset's loss needs, library and naive baseline in turns.

    Args:
        presets: Which presets.
        batch: Images per step; by default 32 for the small presets, else 16, and 64 beside it.
        rounds: Runs of each, in turns.
        check: Compare the FLOPs with torch's own count around a real step.
    """
    columns = ("preset (batch)", "precision", "matrix GFLOP/s", "step, images/s", "share", "× naive", "spread")
    table = Table("Training step", columns)
    for name in presets:
        batches = (batch,) if batch else BATCHES.get(name, OTHER_BATCHES)
        needed = step_flops(configuration(name, batches[0]))
        for size in batches:
            _add_preset(table, configuration(name, size), needed, rounds, naive=size == batches[0])
        if check:
            table.remarks.append(_checked(name, needed))
    table.remarks.append(
        "A step is one update of each player. The naive baseline (tests/reference/naive.py) knows the paper's recipe "
        f"alone, in float32, batch {NAIVE_BATCH}. Shares and ratios are medians over {rounds} rounds of neighbours in "
        "time, spread is the slowest round over the fastest."
    )
    return table


def _add_preset(table: Table, config: RunConfig, flops: float, rounds: int, naive: bool) -> None:
    name, batch = config.preset, config.training.batch_size
    say(f"step: {name}, batch {batch}")
    yardsticks: dict[Precision, MatrixProducts] = {p: MatrixProducts(DTYPES[p]) for p in precisions()}
    works: dict[str, Work] = {}
    for precision, yardstick in yardsticks.items():
        works[precision] = Work(steps(trainer_of(configuration(name, batch, precision))), yardstick)
    if naive and is_the_papers(config):
        works["naive"] = Work(naive_steps(trainer_of(config), NAIVE_BATCH), yardsticks["float32"])
    found = in_turns(works, rounds)
    for label, measured in found.items():
        images = NAIVE_BATCH if label == "naive" else batch
        ratio = _times_naive(measured, images, found.get("naive"))
        row = f"{name} ({images})", "float32, naive" if label == "naive" else label
        table.add(*row, *_figures(measured, images, flops), ratio, measured.spread)


def _figures(measured: Measured, images: int, flops: float) -> tuple[str, str, str]:
    product_rate, rate = measured.product_rate() / 1e9, measured.rate(images)
    return f"{product_rate:.0f}", f"{rate:.2f}", f"{measured.share(images * flops):.0%}"


def _times_naive(measured: Measured, images: int, naive: Measured | None) -> str:
    if naive is None:
        return "—"
    return f"{measured.times_as_fast(naive) * images / NAIVE_BATCH:.1f}"


def _checked(name: str, needed: float) -> str:
    """Compares the count with torch's around real steps of two and of four images."""
    say(f"  {name}: counting the FLOPs of a real step")

    def step(count: int) -> int:
        trainer = trainer_of(configuration(name, count))
        with FlopCounterMode(display=False) as counter:
            steps(trainer)()
        return counter.get_total_flops()

    done = (step(4) - step(2)) / 2  # what does not grow with the batch is left out
    return (
        f"{name}: a step needs {needed / 1e9:.3f} GFLOPs per image; torch counts {done / 1e9:.3f} in a real one "
        f"(× {done / needed:.4f})."
    )


if __name__ == "__main__":
    print(tyro.cli(measure))
