"""Asks trainings to end at random moments, whatever has become of their output, and compares what they leave.

Each run is the command line in a forked child. It is told to stop by one signal or two, in whatever it is doing, while
nobody reads its output, its terminal closes, or its log is on a full disk; it goes on by `--resume` until it is done.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reliability.children import ENVIRONMENT, Children, Job
from reliability.torture import Figures, content
from tiny import TINY_OVERRIDES, write_images

INT, TERM, HUP = int(signal.SIGINT), int(signal.SIGTERM), int(signal.SIGHUP)
SIGNALS = ([INT], [TERM], [HUP], [INT, INT], [TERM, TERM], [HUP, TERM], [TERM, INT], [HUP, HUP])
CLOSED = [0]
"""Not a signal: the terminal is closed, of which the system tells by SIGHUP."""
PHASES = ("start", "building", "step", "step", "checkpoint", "log", "samples", "evaluation")
OUTPUTS = ("file", "gone", "blocked", "full", "closed", "terminal", "stopped terminal")
RUN = "00000-cifar10-tiny"
LENGTH = """
--training.total-kimg 0.04 --training.checkpoint-every-kimg 0.012 --training.log-every-kimg 0.012
--training.samples-every-kimg 0.02 --training.keep-checkpoints 2 --training.trackers --evaluate-every-kimg 0.02
""".split()  # noqa: SIM905 - as a person would type them


class Stopping:
    """Trainings that are told to stop.

    Args:
        folder: Where to work.
        children: Who trains.
        seed: Of the moments.
    """

    def __init__(self, folder: Path, children: Children, seed: int) -> None:
        self.folder, self.children, self.moments = folder, children, random.Random(seed)
        self.figures = Figures()
        data = folder / "data"
        data.mkdir(parents=True)
        write_images(data / "images")
        assert children.run(Job("prepare", str(data))) == [0]
        self.options = ["train", "cifar10-tiny", *TINY_OVERRIDES, *LENGTH, "--data", str(data / "store")]
        self.expected = self._uninterrupted()

    def _uninterrupted(self) -> dict[str, Any]:
        whole = self.folder / "whole"
        whole.mkdir()
        job = Job("command", str(whole), arguments=[*self.options, "--out", str(whole)])
        assert self.children.run(job) == [0], (whole / "log0").read_text()
        return content(whole / RUN)

    def run(self, streams: str, phases: Sequence[str], signals: list[list[int]]) -> None:
        """One run: signals in each of the phases, one life after the other, and a last life to the end."""
        parent = self.folder / f"run{self.figures.runs}"
        parent.mkdir()
        run = parent / RUN
        for phase, numbers in [*zip(phases, signals, strict=True), (None, [])]:
            whither = ["train", "--resume", str(run)] if run.exists() else [*self.options, "--out", str(parent)]
            job = Job("command", str(parent), arguments=whither, streams=streams, limit_seconds=60)
            job.signals, job.kill_phase = numbers, phase
            job.kill_entry = self.moments.randint(1, 3) if phase == "step" else 1
            job.kill_seconds = self.moments.uniform(0, 0.005)
            (code,) = self.children.run(job)
            where = f"{parent.name}, output {streams}, signals {numbers} in {phase}"
            self.figures.resumes += whither[1] == "--resume"
            if code == 0:
                self.figures.kills["nothing: it was done before"] += phase is not None
                break
            self.figures.kills[f"{phase}, {streams}"] += 1
            log = (parent / "log0").read_text()
            if not numbers or code not in {128 + (number or HUP) for number in numbers} or "Traceback" in log:
                self.figures.errors.append(f"{where}: ended with {code}: {log[-800:]}")
            elif not list(run.glob("checkpoints/0*")):
                self.figures.lost.append(f"{where}: no checkpoint")
        self.figures.runs += 1
        self.figures.compare(self.expected, content(run), parent.name)
        shutil.rmtree(parent)

    def starting(self, starts: int) -> None:
        """Signals to a process that has hardly begun: importing torch, or not yet."""
        for number in range(starts):
            out = self.folder / f"start{number}"
            out.mkdir()
            kind = self.moments.choice((INT, TERM, HUP))
            options = [*self.options, "--evaluate-every-kimg", "None", "--out", str(out)]  # that needs more images
            command = [sys.executable, "-m", "vitgan", *options]
            environment = os.environ | ENVIRONMENT
            with (out / "log").open("w") as log:
                process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
            while not self._is_past_the_interpreter(process.pid):
                time.sleep(0.002)
            time.sleep(self.moments.uniform(0, 3))
            process.send_signal(kind)
            code, text = process.wait(120), (out / "log").read_text()
            self.figures.kills["importing, building, or the first steps"] += 1
            if code not in (0, 128 + kind) or "Traceback" in text:
                self.figures.errors.append(f"start {number}: {kind} ended it with {code}: {text[-800:]}")
            if (out / RUN).exists() and code and not list((out / RUN).glob("checkpoints/0*")):
                self.figures.lost.append(f"start {number}: no checkpoint")
            shutil.rmtree(out)

    @staticmethod
    def _is_past_the_interpreter(pid: int) -> bool:
        """Whether the process has begun to import torch's libraries."""
        return "/torch/" in Path(f"/proc/{pid}/maps").read_text()


def stop_trainings(folder: Path, children: Children, seed: int, runs: int, starts: int) -> Figures:
    """Many runs, at random, and processes that have hardly begun."""
    stopping = Stopping(folder, children, seed)
    for _ in range(runs):
        phases, streams = stopping.moments.choices(PHASES, k=3), stopping.moments.choice(OUTPUTS)
        signals = (*SIGNALS, *[CLOSED] * 8) if "terminal" in streams else SIGNALS
        stopping.run(streams, phases, stopping.moments.choices(signals, k=3))
    stopping.starting(starts)
    return stopping.figures
