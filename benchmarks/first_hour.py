"""The first hour on a GPU: CUDA tests, step times, the largest batch, and two of the paper's rows, trained and measured.

`python -m benchmarks.first_hour --data data/cifar10 --minutes 9` does what fits into 9 minutes, and the same command goes
on from there, until nothing is left. It needs no network. What is worth keeping is in OUT/carry, no file above 15 MB:
gpu.md (docs/results/gpu.md), curves.png, grids.png, results.json, and generators in half precision, cut into parts:
`cat cifar10.tar.* | tar x` makes a folder for `vitgan.load`.
"""

import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro

from benchmarks.first_hour_report import write_report
from benchmarks.flops import step_flops
from benchmarks.players import DTYPES, Precision, configuration, steps, trainer_of
from benchmarks.table import say
from benchmarks.timing import MatrixProducts, Work, in_turns, seconds_of
from vitgan.devices import computes_bf16, lacks_memory
from vitgan.files import write_json
from vitgan.runs.evaluation import measure
from vitgan.runs.train import train
from vitgan.training.checkpoint import latest_checkpoint, read_manifest
from vitgan.training.log import read_metrics

Results = dict[str, dict[str, Any]]

MODES: dict[str, dict[str, bool | str]] = {
    "eager": {},
    "compiled": {"compile": "always"},
    "CUDA graphs": {"compile": "always", "cuda_graphs": True},
}
"""How a step runs; pieces are trained in the fastest that was measured."""
OVERHEAD_MINUTES = 1.0
"""Of a piece, for the start, compilation, its checkpoint and its evaluation."""


@dataclass(frozen=True)
class Job:
    """A piece of work, done in a process of its own.

    Attributes:
        name: Under which its result is kept; a job with a result is done.
        work: Name of a function of this file.
        arguments: Of the function, JSON.
        minutes: That it may take.
    """

    name: str
    work: str
    arguments: dict[str, Any]
    minutes: float


@dataclass(frozen=True)
class Plan:
    """What is to be done; see `main`."""

    out: Path
    data: str
    presets: tuple[str, ...]
    pieces: int
    piece_minutes: float
    protocol: str
    modes: tuple[str, ...] = tuple(MODES)
    training: str = "{}"
    """Fields of TrainingConfig, as JSON."""

    def jobs(self, results: Results) -> Iterator[Job]:
        """All of them in order; how a piece runs depends on what was measured before."""
        yield Job("tests", "cuda_tests", {}, 7)
        for preset in self.presets:
            for mode in self.modes:
                arguments = {"preset": preset, "options": MODES[mode] | json.loads(self.training)}
                yield Job(f"step {preset} {mode}", "time_steps", arguments, 2 if mode == "eager" else 4)
        for preset in self.presets:
            yield Job(f"batch {preset}", "largest_batch", {"preset": preset, "options": json.loads(self.training)}, 2)
        for number in range(1, self.pieces + 1):
            for preset in self.presets:
                arguments = {"preset": preset, "data": self.data, "out": str(self.out), "protocol": self.protocol}
                options = MODES[self.fastest(preset, results)] | json.loads(self.training)
                arguments |= {"options": options, "minutes": self.piece_minutes - OVERHEAD_MINUTES}
                yield Job(f"piece {preset} {number}", "train_piece", arguments, self.piece_minutes)

    def fastest(self, preset: str, results: Results) -> str:
        """The mode with the most images a second."""
        rates = {mode: results.get(f"step {preset} {mode}", {}).get("images_per_second", 0) for mode in self.modes}
        return max(self.modes, key=lambda mode: rates[mode])


def main(
    data: str = "data/cifar10",
    out: Path = Path("runs/first-hour"),
    minutes: float = 9.0,
    presets: tuple[str, ...] = ("cifar10", "cifar10-modern"),
    pieces: int = 3,
    piece_minutes: float = 8.5,
    protocol: str = "quick-5k",
) -> None:
    """Does what fits into some minutes; the same command goes on.

    Args:
        data: The image store (`vitgan data cifar10`).
        out: Folder of all results and runs.
        minutes: Time for this call.
        presets: What is trained.
        pieces: How many pieces of each.
        piece_minutes: Length of one, evaluation included.
        protocol: Of the evaluations.
    """
    modes = tuple(MODES) if torch.cuda.is_available() else ("eager",)
    left = work_through(Plan(out, data, presets, pieces, piece_minutes, protocol, modes), minutes, in_child)
    print(f"{out / 'carry' / 'gpu.md'}: {'all is done' if left is None else f'the same command goes on with {left}'}")


def work_through(plan: Plan, minutes: float, do: Callable[[Job], dict[str, Any]]) -> str | None:
    """Does the jobs that have no result yet and fit into the time; returns the name of the first that is left."""
    end, file = time.monotonic() + minutes * 60, plan.out / "carry" / "results.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    results: Results = json.loads(file.read_text()) if file.exists() else {}
    results["machine"] = machine()
    for job in plan.jobs(results):
        if job.name in results:
            continue
        if time.monotonic() + job.minutes * 60 > end:
            return job.name
        say(f"first hour: {job.name}")
        start = time.monotonic()
        results[job.name] = do(job) | {"seconds": round(time.monotonic() - start, 1)}
        write_json(file, results)
        write_report(plan.out, plan.presets, results)
    return None


def in_child(job: Job) -> dict[str, Any]:
    """The job's result; {"failed": why} where its process fails, so that no fault of a GPU ends the hour."""
    command = [sys.executable, "-m", "benchmarks.first_hour", "--job", job.work, json.dumps(job.arguments)]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=(job.minutes + 1) * 60)
    except subprocess.TimeoutExpired:
        return {"failed": f"took more than {job.minutes + 1:g} minutes"}
    last = (done.stdout.strip().splitlines() or [""])[-1]
    return json.loads(last) if done.returncode == 0 else {"failed": last[:200] or f"exit code {done.returncode}"}


def machine() -> dict[str, Any]:
    """The card and the versions."""
    found: dict[str, Any] = {"torch": torch.__version__, "card": None}
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        found |= {"card": properties.name, "memory_gib": round(properties.total_memory / 2**30, 1)}
        found |= {"cuda": torch.version.cuda, "capability": f"{properties.major}.{properties.minor}"}
    return found


def cuda_tests() -> dict[str, Any]:
    """pytest's last line about the tests marked `cuda`."""
    command = [sys.executable, "-m", "pytest", "-m", "cuda", "tests/test_cuda.py", "--tb=short"]
    done = subprocess.run(command, capture_output=True, text=True)
    failures = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR", "E  "))]
    return {"said": (done.stdout.strip().splitlines() or [done.stderr[-200:]])[-1], "failures": failures[:20]}


def fast_precision() -> Precision:
    """bf16 where the device computes with it."""
    return "bf16" if computes_bf16(cpu=not torch.cuda.is_available()) else "float32"


def time_steps(preset: str, options: dict[str, Any], rounds: int = 10) -> dict[str, Any]:
    """Images a second of the preset's own batch, share of the rate of matrix products beside it, memory."""
    precision, batch = fast_precision(), options.get("batch_size", configuration(preset, 1).training.batch_size)
    config = configuration(preset, batch, precision, **({"device": "auto"} | options))
    trainer = trainer_of(config)
    step, device = steps(trainer), trainer.accelerator.device
    first = seconds_of(step)
    seconds_of(step)  # in which CUDA graphs are recorded
    found = in_turns({"step": Work(step, MatrixProducts(DTYPES[precision], device=device))}, rounds)["step"]
    peak = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else None
    return {
        "precision": precision,
        "batch": batch,
        "images_per_second": round(found.rate(batch), 1),
        "share": round(found.share(batch * step_flops(config)), 3),
        "spread": found.spread,
        "first_step_seconds": round(first, 1),
        "peak_gib": peak and round(peak, 2),
    }


def largest_batch(preset: str, options: dict[str, Any], unit: int = 16, most: int = 1 << 15) -> dict[str, Any]:
    """The largest batch of one step without micro-batches or recomputed activations, and with the latter."""
    if not torch.cuda.is_available():
        most = 2 * unit  # memory of a CPU ends the process, not the step
    found = {}
    for recomputed in (False, True):
        changes = {"device": "auto", "checkpoint_activations": recomputed} | options
        trainer = trainer_of(configuration(preset, unit, fast_precision(), **(changes | {"batch_size": unit})))
        name = "checkpoint_activations" if recomputed else "plain"
        found[name] = largest(lambda size, trainer=trainer: fits(steps(trainer, size)), unit, most)
        del trainer
        free_memory()
    return found


def largest(fits: Callable[[int], bool], unit: int, most: int) -> int:
    """The largest multiple of `unit` up to `most` that fits, to a sixteenth of it; 0 if none does."""
    good, bad = 0, unit
    while bad <= most and fits(bad):
        good, bad = bad, 2 * bad
    bad = min(bad, most + unit)
    while bad - good > max(unit, good // 16):
        middle = (good + bad) // 2 // unit * unit
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return good


def fits(step: Callable[[], object]) -> bool:
    """Whether two steps find the memory that they need."""
    try:
        step()
        step()
        return True
    except (RuntimeError, MemoryError) as error:
        if not lacks_memory(error):
            raise
        return False
    finally:
        free_memory()


def free_memory() -> None:
    """Gives back what a failed step held."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def train_piece(
    preset: str, data: str, out: str, protocol: str, options: dict[str, Any], minutes: float
) -> dict[str, Any]:
    """Trains for some minutes from where the last piece ended, and measures the averaged generator."""
    from vitgan.presets import preset as find
    from vitgan.presets import replaced

    runs, config = Path(out) / "runs" / preset, find(preset)
    earlier = max(runs.glob("0*-*"), default=None)
    checkpoint = latest_checkpoint(earlier) if earlier else None
    spent = read_manifest(checkpoint).wall_seconds / 60 if checkpoint else 0.0
    lengths = {"checkpoint_every_kimg": 1e6, "keep_checkpoints": 1, "max_minutes": spent + minutes}
    training = replaced(config.training, **(lengths | options))
    run = train(replaced(config, data=data, training=training), runs, resume=earlier)
    records = read_metrics(run / "metrics.jsonl")
    result = measure(run, protocol=protocol, device=training.device)
    return {
        "run": str(run),
        "options": options,
        "kimg": records[-1]["images"] / 1000,
        "images_per_second": round(records[-1]["images_per_second"], 1),
        "score": result["score"],
        "metrics": result["metrics"],
    }


if __name__ == "__main__":
    if sys.argv[1:2] == ["--job"]:
        print("\n" + json.dumps(globals()[sys.argv[2]](**json.loads(sys.argv[3]))))
    else:
        tyro.cli(main)
