"""Two processes of one thread against one process of two: the same steps, on the same cores, in turns."""

import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import tyro

from benchmarks.players import Precision, configuration, precisions, steps, trainer_of
from benchmarks.table import Table, say

PATIENCE = 300.0
"""Seconds that a step may take, or the start of the processes."""


class Job:
    """Some processes that take a step whenever they are told to, by files in a folder."""

    def __init__(self, folder: Path, processes: int, threads: int, arguments: list[str]) -> None:
        folder.mkdir()
        self.folder, self.turn = folder, 0
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        command = [sys.executable, *launcher, "-m", "benchmarks.processes", "--worker", str(folder), *arguments]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        self.log = (folder / "log").open("w")
        # A session of their own, so that they can be ended together.
        self.process = subprocess.Popen(
            command, env=environment, stdout=self.log, stderr=self.log, start_new_session=True
        )

    def step(self) -> float:
        """Seconds of one step.

        Raises:
            RuntimeError: If the processes ended or take too long.
        """
        (self.folder / f"go{self.turn}").touch()
        answer, deadline = self.folder / f"seconds{self.turn}", time.monotonic() + PATIENCE
        while not answer.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self.folder / "log").read_text()[-500:])
            time.sleep(0.005)
        self.turn += 1
        return float(answer.read_text())

    def end(self) -> None:
        """Lets the processes finish; ends them if they do not."""
        (self.folder / "end").touch()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.log.close()


def measure(preset: str = "cifar10", batch: int = 16, rounds: int = 5) -> Table:
    """Times steps of the same global batch under torchrun.

    Args:
        preset: Whose step.
        batch: Images per step over all processes.
        rounds: Steps of each, in turns.
    """
    table = Table("Processes", ("processes × threads", "precision", "step, images/s", "against one process"))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cores < 2:
        table.remarks.append("Not measured: one core.")
        return table
    layouts = ((1, cores), (2, cores // 2))
    for precision in precisions():
        say(f"processes: {preset}, batch {batch}, {precision}")
        try:
            seconds = _in_turns(layouts, [preset, str(batch), precision], rounds)
        except RuntimeError as error:
            table.remarks.append(f"Not measured in {precision}: {error}")
            continue
        for (processes, threads), times in zip(layouts, seconds, strict=True):
            ratio = median(one / own for one, own in zip(seconds[0], times, strict=True))
            rate = batch / median(times)
            table.add(f"{processes} × {threads}", precision, f"{rate:.2f}", f"{ratio:.0%}")
    table.remarks.append(f"{preset}, global batch {batch}, gloo; medians over {rounds} steps in turns.")
    return table


def _in_turns(layouts: tuple[tuple[int, int], ...], arguments: list[str], rounds: int) -> list[list[float]]:
    """Seconds of each step of each layout; all processes live, and only one layout works at a time."""
    with tempfile.TemporaryDirectory(prefix="vitgan-benchmark-") as name:
        jobs: list[Job] = []
        try:
            for processes, threads in layouts:
                jobs.append(Job(Path(name) / f"{processes}", processes, threads, arguments))
                jobs[-1].step()  # starts, and warms up
            seconds = [[job.step() for job in jobs] for _ in range(rounds)]
        finally:
            for job in jobs:
                job.end()
    return [list(times) for times in zip(*seconds, strict=True)]


def work(folder: Path, preset: str, batch: int, precision: Precision) -> None:
    """One of a job's processes."""
    trainer = trainer_of(configuration(preset, batch, precision))
    accelerator, step = trainer.accelerator, steps(trainer)
    for turn in itertools.count():
        go = folder / f"go{turn}"
        while accelerator.is_main_process and not go.exists() and not (folder / "end").exists():
            time.sleep(0.005)
        accelerator.wait_for_everyone()
        if not go.exists():
            break
        start = time.perf_counter()
        step()
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            answer = folder / f"seconds{turn}"
            answer.with_suffix(".part").write_text(f"{time.perf_counter() - start}")
            answer.with_suffix(".part").replace(answer)
    accelerator.end_training()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        _, _, where, name, size, wanted = sys.argv
        work(Path(where), name, int(size), "bf16" if wanted == "bf16" else "float32")
    else:
        print(tyro.cli(measure))
