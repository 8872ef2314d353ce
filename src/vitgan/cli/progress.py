"""Progress of long work: a bar with rate and time left on a terminal, plain lines in a log."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from vitgan.runs.processes import speaks

if TYPE_CHECKING:
    from vitgan.config import RunConfig
    from vitgan.training.clock import Clock
    from vitgan.training.hooks import Hooks
    from vitgan.training.remaining import Remaining

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

    The title says what is done ("Preparing"), the unit what is counted.
    """
    if not draws_bars():
        yield _log_lines(title, unit)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    rate = TextColumn(f"{{task.fields[rate]}} {unit}/s")
    columns = TextColumn(title), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), speed_estimate_period=30) as progress:
        task = progress.add_task(title, total=None, rate="…")

        def on_progress(done: int, total: int) -> None:
            speed = progress.tasks[0].finished_speed or progress.tasks[0].speed
            progress.update(task, completed=done, total=total, rate=f"{speed:,.0f}" if speed else "…")

        yield on_progress


def _log_lines(title: str, unit: str) -> OnProgress:
    start = last = time.monotonic()

    def on_progress(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < LOG_INTERVAL_SECONDS and done < total:
            return
        last = now
        rate = done / max(now - start, 1e-9)
        left = duration((total - done) / rate if rate else 0.0)
        print(f"{title}: {done:,}/{total:,} {unit}, {rate:,.0f}/s, {left} left", file=sys.stderr)

    return on_progress


def progress_line(remaining: "Remaining") -> str:
    """How far a training is, how long it still takes, and how fast it is."""
    speed, total = remaining.images_per_second, remaining.total_images
    left = f"{duration(remaining.seconds)} left" if speed else "…"
    return (
        f"{remaining.share:4.0%}  {left:<15}  {remaining.images / 1000:.1f}/{total / 1000:g} kimg  {speed:.0f} images/s"
    )


def log_hooks(config: "RunConfig", say: Callable[[str], None]) -> "Hooks":
    """Hooks that say a line about a run whenever it writes its log."""
    from vitgan.training.hooks import Hooks
    from vitgan.training.remaining import Remaining

    remaining = Remaining(config.training)
    return Hooks(
        on_prepare=_log_lines("Preparing", "images"),
        on_step=remaining.update,
        on_log=lambda record: say(f"{progress_line(remaining)}  {losses(record)}"),
    )


@contextmanager
def training_display(config: "RunConfig") -> "Iterator[Hooks]":
    """Hooks that show a run's progress on standard error; silent on all processes but the first."""
    from vitgan.training.hooks import Hooks

    if not speaks():
        yield Hooks()
        return
    if not draws_bars():
        yield log_hooks(config, lambda line: print(line, file=sys.stderr))
        return
    from rich.console import Console, Group
    from rich.live import Live
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.text import Text

    from vitgan.training.remaining import Remaining

    remaining, below = Remaining(config.training), Text(no_wrap=True, overflow="ellipsis")
    console = Console(stderr=True)
    progress = Progress(BarColumn(bar_width=16), TextColumn("{task.description}"), console=console)
    task = progress.add_task("", total=1.0)
    with Live(Group(progress, below), console=console):

        def on_prepare(done: int, total: int) -> None:
            progress.update(task, completed=done / total, description=f"{done:,}/{total:,} images prepared")

        def on_step(images: int, clock: "Clock") -> None:
            remaining.update(images, clock)
            progress.update(task, completed=remaining.share, description=progress_line(remaining))

        def on_log(record: dict[str, float]) -> None:
            below.plain = losses(record)

        def on_samples(path: Path) -> None:
            console.print(f"images: {path}", markup=False, emoji=False)

        yield Hooks(on_prepare=on_prepare, on_step=on_step, on_log=on_log, on_samples=on_samples)


def duration(seconds: float) -> str:
    """ "1 h 05 min", "12 min", "40 s"."""
    if seconds >= 3600:
        return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:02.0f} min"
    return f"{seconds / 60:.0f} min" if seconds >= 100 else f"{max(seconds, 0):.0f} s"


def losses(record: dict[str, float]) -> str:
    """ "D loss 0.69  G loss 0.71 ..."."""
    return "  ".join(f"{short} {record[name]:.3g}" for name, short in LOGGED.items() if name in record)
