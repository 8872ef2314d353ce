"""Progress of long work: a bar with rate and time left on a terminal, plain lines in a log."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

OnProgress = Callable[[int, int], None]

LOG_INTERVAL_SECONDS = 15.0


def draws_bars() -> bool:
    """Whether standard error is a terminal that can draw a line anew."""
    return sys.stderr.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")


@contextmanager
def progress_bar(title: str, unit: str = "images") -> Iterator[OnProgress]:
    """Yields a callable `(done, total)` that draws progress on standard error.

    Args:
        title: What is being done, e.g. "Preparing".
        unit: What is counted; the rate is shown in this unit per second.
    """
    if draws_bars():
        with _terminal_bar(title, unit) as on_progress:
            yield on_progress
    else:
        yield _log_lines(title, unit)


@contextmanager
def _terminal_bar(title: str, unit: str) -> Iterator[OnProgress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    rate = TextColumn(f"{{task.fields[rate]}} {unit}/s")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
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
        left = (total - done) / rate if rate else 0.0
        print(f"{title}: {done:,}/{total:,} {unit}, {rate:,.0f}/s, {left:.0f} s left", file=sys.stderr)

    return on_progress
