"""Where the time of some steps goes: a trace for the browser, and torch's table of what took the most.

The hook `on_step` drives the profiler: a run without the hook does no extra work.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from vitgan.files import user_error
from vitgan.training.checkpoint import checkpoint_name
from vitgan.training.clock import Clock
from vitgan.training.hooks import Hooks

WAIT, WARMUP = 4, 2
"""Steps before the first one that counts: libraries are loaded and losses compiled (`auto` does so later), then the
profiler itself warms up."""

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
        with user_error(f"cannot write the profile {path}", OSError):
            path.parent.mkdir(exist_ok=True)
            done.export_chrome_trace(str(path))
        order = "self_cuda_time_total" if device.type == "cuda" else "self_cpu_time_total"
        hooks.on_profile(path, done.key_averages().table(order, row_limit=ROWS, max_name_column_width=40))

    os.environ.setdefault("KINETO_LOG_LEVEL", "9")  # it would tell the terminal when it begins
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    plan = schedule(wait=WAIT, warmup=WARMUP, active=steps, repeat=1)
    profiler = profile(activities=activities, schedule=plan, on_trace_ready=finish)
    left = WAIT + WARMUP + steps

    def on_step(images: int, clock: Clock) -> None:
        nonlocal images_seen, left
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
        hooks.on_notice(f"the run ended before its profile: that needs {WAIT + WARMUP + steps} steps")
