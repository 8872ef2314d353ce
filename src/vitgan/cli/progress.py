"""Progress of long work: a bar with rate and time left on a terminal, plain lines in a log."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from vitgan.runs.processes import speaks

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

    from vitgan.config import RunConfig
    from vitgan.training.hooks import Hooks

OnProgress = Callable[[int, int], None]

LOG_INTERVAL_SECONDS = 15.0

LOGGED = {
    "loss/discriminator": "D loss",
    "loss/generator": "G loss",
    "logits/real": "real",
    "logits/fake": "fake",
    "gradient_norm/discriminator": "|∇D|",
    "gradient_norm/generator": "|∇G|",
}
"""What of a training's log is shown while it runs."""


def draws_bars() -> bool:
    """Whether standard error is a terminal that can draw a line anew."""
    return sys.stderr.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")


@contextmanager
def progress_bar(title: str, unit: str = "images") -> Iterator[OnProgress]:
    """Yields a callable `(done, total)` that shows progress on standard error.

    Args:
        title: What is being done, e.g. "Preparing".
        unit: What is counted; the rate is shown in this unit per second.
    """
    if not draws_bars():
        yield _log_lines(title, unit)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    rate = TextColumn(f"{{task.fields[rate]}} {unit}/s")
    with _bar(TextColumn(title), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn()) as progress:
        task = progress.add_task(title, total=None, rate="…")

        def on_progress(done: int, total: int) -> None:
            speed = progress.tasks[0].finished_speed or progress.tasks[0].speed
            progress.update(task, completed=done, total=total, rate=f"{speed:,.0f}" if speed else "…")

        yield on_progress


@contextmanager
def training_display(config: "RunConfig") -> "Iterator[Hooks]":
    """Hooks that show a run's progress on standard error; silent on all processes but the first."""
    from vitgan.training.hooks import Hooks

    if not speaks():
        yield Hooks()
        return
    if not draws_bars():
        yield Hooks(on_log=lambda record: print(log_line(record, config), file=sys.stderr))
        return
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.fields[kimg]} kimg"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]} images/s"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[log]}"),
    )
    with _bar(*columns) as progress:
        task = progress.add_task("train", total=round(config.training.total_kimg * 1000), kimg="0", rate="…", log="")

        def on_step(images_seen: int, images_in_all: int) -> None:
            speed = progress.tasks[0].speed
            kimg = f"{images_seen / 1000:.1f}/{images_in_all / 1000:g}"
            progress.update(task, completed=images_seen, kimg=kimg, rate=f"{speed:.0f}" if speed else "…")

        yield Hooks(
            on_step=on_step,
            on_log=lambda record: progress.update(task, log=_short(record)),
            on_samples=lambda path: progress.console.print(f"images: {path}"),
        )


def log_line(record: dict[str, float], config: "RunConfig") -> str:
    """A record of a training's log as one line for a log file."""
    speed = record["images_per_second"]
    left = (config.training.total_kimg * 1000 - record["images"]) / max(speed, 1e-9)
    return (
        f"{record['images'] / 1000:.1f}/{config.training.total_kimg:g} kimg  "
        f"{speed:.0f} images/s  {duration(left)} left  {_short(record)}"
    )


def duration(seconds: float) -> str:
    """ "1 h 05 min", "12 min", "40 s"."""
    if seconds >= 3600:
        return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:02.0f} min"
    return f"{seconds / 60:.0f} min" if seconds >= 100 else f"{max(seconds, 0):.0f} s"


def _short(record: dict[str, float]) -> str:
    """ "D loss 0.69  G loss 0.71 ..."."""
    return "  ".join(f"{short} {record[name]:.3g}" for name, short in LOGGED.items() if name in record)


def _bar(*columns: "ProgressColumn") -> "Progress":
    from rich.console import Console
    from rich.progress import Progress

    return Progress(*columns, console=Console(stderr=True), speed_estimate_period=30)


def _log_lines(title: str, unit: str) -> OnProgress:
    start = last = time.monotonic()

    def on_progress(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < LOG_INTERVAL_SECONDS and done < total:
            return
        last = now
        rate = done / max(now - start, 1e-9)
        left = (total - done) / rate if rate else 0.0
        print(f"{title}: {done:,}/{total:,} {unit}, {rate:,.0f}/s, {left:.0f} s left", file=sys.stderr)

    return on_progress
