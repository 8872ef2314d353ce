"""What a person sees while a run trains: a bar with the figures that matter, or plain lines in a log."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from vitgan.cli.progress import draws_bars
from vitgan.config import RunConfig
from vitgan.runs.processes import speaks
from vitgan.training.hooks import Hooks

FIGURES = {
    "loss/discriminator": "D loss",
    "loss/generator": "G loss",
    "logits/real": "real",
    "logits/fake": "fake",
    "gradient_norm/discriminator": "|∇D|",
    "gradient_norm/generator": "|∇G|",
}


@contextmanager
def training_display(config: RunConfig) -> Iterator[Hooks]:
    """Hooks that show a run's progress on standard error; silent on all processes but the first."""
    if not speaks():
        yield Hooks()
    elif draws_bars():
        with _terminal(config) as hooks:
            yield hooks
    else:
        yield Hooks(on_log=lambda record: print(log_line(record, config), file=sys.stderr))


def figures(record: dict[str, float]) -> str:
    """The record's figures, short: "D loss 0.69  G loss 0.71 ..."."""
    return "  ".join(f"{short} {record[name]:.3g}" for name, short in FIGURES.items() if name in record)


def log_line(record: dict[str, float], config: RunConfig) -> str:
    """One line for a log file."""
    left = (config.training.total_kimg * 1000 - record["images"]) / max(record["images_per_second"], 1e-9)
    return (
        f"{record['images'] / 1000:.1f}/{config.training.total_kimg:g} kimg  "
        f"{record['images_per_second']:.0f} images/s  {duration(left)} left  {figures(record)}"
    )


def duration(seconds: float) -> str:
    """ "1 h 05 min", "12 min", "40 s"."""
    if seconds >= 3600:
        return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:02.0f} min"
    return f"{seconds / 60:.0f} min" if seconds >= 100 else f"{max(seconds, 0):.0f} s"


@contextmanager
def _terminal(config: RunConfig) -> Iterator[Hooks]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.fields[kimg]} kimg"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]} images/s"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    with Progress(*columns, console=Console(stderr=True), speed_estimate_period=30) as progress:
        total = round(config.training.total_kimg * 1000)
        task = progress.add_task("train", total=total, kimg="0", rate="…", figures="")

        def on_step(images_seen: int, images_in_all: int) -> None:
            speed = progress.tasks[0].speed
            progress.update(
                task,
                completed=images_seen,
                kimg=f"{images_seen / 1000:.1f}/{images_in_all / 1000:g}",
                rate=f"{speed:.0f}" if speed else "…",
            )

        def on_log(record: dict[str, float]) -> None:
            progress.update(task, figures=figures(record))

        yield Hooks(on_step=on_step, on_log=on_log, on_samples=lambda path: progress.console.print(f"images: {path}"))
