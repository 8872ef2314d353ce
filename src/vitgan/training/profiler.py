"""Where the time of some steps goes: a trace for the browser, and a short table.

The hook `on_step` drives the profiler: a run without the hook does no extra work.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch.autograd import DeviceType  # pyright: ignore[reportPrivateImportUsage]
from torch.profiler import ProfilerActivity, profile, schedule

from vitgan.errors import UserError
from vitgan.training.checkpoint import checkpoint_name
from vitgan.training.clock import Clock
from vitgan.training.hooks import Hooks

WAIT, WARMUP = 4, 2
"""Steps before the first one that counts: libraries are loaded and blocks compiled, then the profiler itself warms up."""

ROWS = 12


@contextmanager
def profiled(hooks: Hooks, run: Path, device: torch.device) -> Iterator[Hooks]:
    """The hooks, with a profile of `hooks.profile_steps` steps of the main process.

    The trace goes to `run`/profile/<images>.json.gz in Chrome's format, the table to `hooks.on_profile`.
    """
    steps, images_seen = hooks.profile_steps, 0
    if not steps:
        yield hooks
        return

    def finish(done: profile) -> None:
        path = run / "profile" / f"{checkpoint_name(images_seen)}.json.gz"
        try:
            path.parent.mkdir(exist_ok=True)
            done.export_chrome_trace(str(path))
        except OSError as error:
            raise UserError(f"cannot write the profile {path}: {error.strerror or error}") from error
        if hooks.on_profile:
            hooks.on_profile(path, summary(done, device.type, steps))

    os.environ.setdefault("KINETO_LOG_LEVEL", "9")  # it would tell the terminal when it begins
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    plan = schedule(wait=WAIT, warmup=WARMUP, active=steps, repeat=1)
    profiler = profile(activities=activities, schedule=plan, on_trace_ready=finish)
    left = WAIT + WARMUP + steps

    def on_step(images: int, clock: Clock) -> None:
        nonlocal images_seen, left
        if hooks.on_step:
            hooks.on_step(images, clock)
        if left:
            images_seen, left = images, left - 1
            profiler.step()

    profiler.start()
    try:
        yield replace(hooks, on_step=on_step)
    finally:
        if left:
            profiler.on_trace_ready = None  # too few steps to tell of
        profiler.stop()
    if left:
        hooks.notify(f"the run ended before its profile: that needs {WAIT + WARMUP + steps} steps")


def summary(done: profile, device: str, steps: int) -> str:
    """What took the most time: on a CPU by operator, on a GPU by kernel. The shares of all rows make 100%."""
    events = done.key_averages()
    wall = sum(event.cpu_time_total for event in events if event.key.startswith("ProfilerStep")) / steps
    if device == "cuda":
        found = [
            (event.key, event.self_device_time_total / steps, event.count / steps)
            for event in events
            if event.device_type == DeviceType.CUDA and not event.is_user_annotation
        ]
    else:
        found = [
            (event.key, event.self_cpu_time_total / steps, event.count / steps)
            for event in events
            if not event.is_user_annotation
        ]
    found.sort(key=lambda row: -row[1])
    total = sum(time for _, time, _ in found)
    others = found[ROWS:]
    rows = [*found[:ROWS], (f"{len(others)} others", sum(row[1] for row in others), sum(row[2] for row in others))]
    lines = [f"{'share':>6} {'ms a step':>10} {'calls':>7}  {'kernel' if device == 'cuda' else 'operator'}"]
    lines += [
        f"{time / max(total, 1e-9):>6.1%} {time / 1000:>10.3f} {calls:>7.0f}  {name[:60]}" for name, time, calls in rows
    ]
    busy = f", {total / max(wall, 1e-9):.0%} of it" if device == "cuda" else ""
    return "\n".join([f"{steps} steps of {wall / 1000:.1f} ms; the rows add up to {total / 1000:.1f} ms{busy}", *lines])
