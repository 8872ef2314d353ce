"""Sampling: images a second of `generator.sample`, its share of the matrix rate, and against the naive generator."""

from collections.abc import Callable

import torch
import tyro
from tests.reference import naive

from benchmarks.players import DTYPES, Precision, has_naive_sizes, naive_sizes, precisions
from benchmarks.table import Table, say
from benchmarks.timing import MatrixProducts, Work, in_turns
from vitgan.models.build import build_generator
from vitgan.models.costs import model_costs
from vitgan.models.generator import Generator
from vitgan.presets import preset

NAIVE_BATCH = 16  # of which the weight matrices per token take 2 GB


def measure(
    presets: tuple[str, ...] = ("quickstart", "cifar10-tiny", "cifar10"), count: int = 128, rounds: int = 5
) -> Table:
    """Times `generator.sample(count)`, batches as it chooses them, in turns with the naive generator.

    Args:
        presets: Whose generators.
        count: Images in one run.
        rounds: Runs of each, in turns.
    """
    columns = ("preset (images)", "precision", "matrix GFLOP/s", "images/s", "share", "× naive", "spread")
    table = Table("Sampling", columns)
    for name in presets:
        _add_preset(table, name, count, rounds)
    table.remarks.append(
        f"The naive generator builds each token's weight matrices, {NAIVE_BATCH} images at once, and needs 2 GB for it."
    )
    return table


def _add_preset(table: Table, name: str, count: int, rounds: int) -> None:
    say(f"sampling: {name}, {count} images")
    model = preset(name).model
    generator = build_generator(model.generator_spec()).eval()
    yardsticks: dict[Precision, MatrixProducts] = {p: MatrixProducts(DTYPES[p]) for p in precisions()}
    works: dict[str, Work] = {}
    for precision, yardstick in yardsticks.items():
        works[precision] = Work(sampling(generator, count, DTYPES[precision]), yardstick)
    if has_naive_sizes(model):
        works["naive"] = Work(_naive_sampling(generator, naive_sizes(model)), yardsticks["float32"])
    found = in_turns(works, rounds)
    flops = model_costs(model)[0].flops_per_image
    for label, measured in found.items():
        images = NAIVE_BATCH if label == "naive" else count
        ratio = "—"
        if "naive" in found:
            ratio = f"{measured.times_as_fast(found['naive']) * images / NAIVE_BATCH:.1f}"
        table.add(
            f"{name} ({images})",
            "float32, naive" if label == "naive" else label,
            f"{measured.product_rate() / 1e9:.0f}",
            f"{measured.rate(images):.1f}",
            f"{measured.share(images * flops):.0%}",
            ratio,
            measured.spread,
        )


def sampling(generator: Generator, count: int, dtype: torch.dtype) -> Callable[[], object]:
    """A function that samples `count` images, under autocast unless it is float32."""

    def run() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            generator.sample(count)

    return run


def _naive_sampling(generator: Generator, sizes: naive.Sizes) -> Callable[[], object]:
    weights, z = generator.state_dict(), torch.randn(NAIVE_BATCH, generator.z_dim)
    return torch.inference_mode()(lambda: naive.generator(weights, z, sizes))


if __name__ == "__main__":
    print(tyro.cli(measure))
