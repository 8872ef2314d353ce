"""Searches for good rates and recipes at CPU size: tables of our own, trained and reported like `vitgan ablate`'s.

example: python experiments/searches.py recipes --data data/cifar10 --cpu-minutes 9 --only modern patch-8
"""

import shlex
import sys
from pathlib import Path

import tyro

from vitgan.ablation.report import write_report
from vitgan.ablation.run import Plan, run_suite
from vitgan.ablation.suites import SUITES, Row, Suite, bcr, unchanged
from vitgan.config import RunConfig
from vitgan.presets import both_vits, modern, preset, replaced, with_model
from vitgan.training.objective import ObjectiveConfig

RATES = ((0.006, 0.003), (0.002, 0.002))
"""Learning rates of G and D: those of `cifar10-tiny`, and the paper's."""
LATER = ("modern", "stylegan2-modern")
"""Pairs whose recipe has a rate of its own."""


def with_rates(row: Row, generator: float, discriminator: float) -> Row:
    """A row at other learning rates."""

    def changed(base: RunConfig) -> RunConfig:
        config = row(base)
        training = replaced(config.training, learning_rate=generator, discriminator_learning_rate=discriminator)
        return replaced(config, training=training)

    return changed


def modern_with(section: str, **changes: object) -> Row:
    """The modern recipe with fields of one section (training, objective, augment) changed."""

    def row(base: RunConfig) -> RunConfig:
        config = modern(base)
        return replaced(config, **{section: replaced(getattr(config, section), **changes)})

    return row


def modern_at_rate(factor: float) -> Row:
    """The modern recipe with its learning rate times a factor."""

    def row(base: RunConfig) -> RunConfig:
        config = modern(base)
        rate = config.training.learning_rate * factor
        return replaced(config, training=replaced(config.training, learning_rate=rate))

    return row


def sized_modern(**changes: object) -> Row:
    """The modern recipe at other sizes of G and D; its learning rate follows the width."""
    return lambda base: modern(both_vits(**changes)(base))


def modern_with_coarse_discriminator(base: RunConfig) -> RunConfig:
    """The modern recipe with patches of 8 in D alone: a quarter of its tokens."""
    config = modern(base)
    return with_model(config, discriminator=replaced(config.model.discriminator, patch_size=8))


def with_objective(objective: ObjectiveConfig) -> Row:
    """The base's networks under another objective."""
    return lambda base: replaced(base, objective=objective)


SEARCHES = {
    suite.name: suite
    for suite in (
        Suite(
            "rates",
            "Which learning rates suit each pair of networks?",
            {
                f"{name}@{generator:g}+{discriminator:g}": with_rates(row, generator, discriminator)
                for name, row in SUITES["pairs"].rows.items()
                if name not in LATER
                for generator, discriminator in RATES
            },
        ),
        Suite(
            "recipes",
            "What makes the best of a small budget? The modern recipe, and the paper's, with one thing changed.",
            {
                "modern": modern,
                "patch-8": sized_modern(patch_size=8),
                "patch-8-in-d": modern_with_coarse_discriminator,
                "width-96": sized_modern(dim=96, num_heads=3),
                "width-192": sized_modern(dim=192, num_heads=6),
                "depth-2": sized_modern(depth=2),
                "depth-5": sized_modern(depth=5),
                "batch-16": modern_with("training", batch_size=16),
                "batch-64": modern_with("training", batch_size=64),
                "rate-x0.5": modern_at_rate(0.5),
                "rate-x2": modern_at_rate(2),
                "gamma-0.01": modern_with("objective", r1_gamma=0.01, r2_gamma=0.01),
                "gamma-0.2": modern_with("objective", r1_gamma=0.2, r2_gamma=0.2),
                "augment-0.4": modern_with("augment", probability=0.4),
                "bcr-1": modern_with("objective", bcr_real=1, bcr_fake=1),
                "paper": unchanged,
                "paper-bcr-1": with_objective(bcr(1, True)),
                "paper-bcr-0": with_objective(bcr(0, True)),
                "paper-bcr-rising": with_objective(replaced(bcr(10, True), bcr_ramp_images=50_000)),
            },
        ),
    )
}


def search(
    name: tyro.conf.Positional[str],
    data: str = "data/cifar10",
    cpu_minutes: float = 9.0,
    evaluate_every_kimg: float = 20.0,
    seeds: tuple[int, ...] = (0,),
    only: tuple[str, ...] = (),
    out: Path | None = None,
) -> None:
    """Trains the rows of a search on the sizes of `cifar10-tiny`, and writes one report.

    Args:
        name: rates or recipes.
        data: Image store.
        cpu_minutes: Budget of a run in minutes of the processor.
        evaluate_every_kimg: How often a run is measured.
        seeds: Every row runs once with each.
        only: Rows to run, by default all.
        out: Folder; by default runs/NAME.
    """
    base = replaced(preset("cifar10-tiny"), data=data, objective=ObjectiveConfig())
    plan = Plan(suite=name, cpu_minutes=cpu_minutes, evaluate_every_kimg=evaluate_every_kimg, seeds=seeds, base=base)
    folder = out or Path("runs") / name
    run_suite(SEARCHES[name].only(only), plan, folder)
    print(f"report: {write_report(SEARCHES[name], plan, folder, shlex.join(['python', *sys.argv]))}")


if __name__ == "__main__":
    tyro.cli(search)
