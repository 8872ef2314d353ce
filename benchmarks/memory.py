"""Peak memory of training steps, each in a process of its own: library, its options, and the naive baseline."""

import json
import subprocess
import sys
from dataclasses import dataclass

import tyro

from benchmarks.table import Table, say


@dataclass(frozen=True)
class Case:
    """A kind of step.

    Attributes:
        preset: Whose players.
        batch: Images per step.
        precision: "float32" or "bf16".
        naive: The naive baseline in place of the library.
        training: Fields of TrainingConfig, as JSON.
    """

    preset: str
    batch: int
    precision: str = "float32"
    naive: bool = False
    training: str = "{}"


def measure(
    preset: str = "cifar10", batches: tuple[int, ...] = (16, 64), naive_batches: tuple[int, ...] = (2, 8)
) -> Table:
    """Two steps in a new process each; the process's peak, and what the steps added to it.

    Args:
        preset: Whose players.
        batches: Images per step of the library.
        naive_batches: The same for the naive baseline.
    """
    table = Table("Memory", ("step", "batch", "precision", "peak, MiB", "of it the step's, MiB", "per image, MiB"))
    for case in cases(preset, batches, naive_batches):
        options = json.loads(case.training)
        label = "naive" if case.naive else ", ".join(f"{k}={v}" for k, v in options.items()) or "plain"
        say(f"memory: {preset}, {label}, batch {case.batch}, {case.precision}")
        table.add(label, str(case.batch), case.precision, *_figures(case))
    table.remarks.append(f"Players of {preset}. Weights, optimisers and libraries are in the peak, not in the step's.")
    return table


def cases(preset: str, batches: tuple[int, ...], naive_batches: tuple[int, ...]) -> list[Case]:
    """The options are those that this version of the library has."""
    from benchmarks.players import precisions
    from vitgan.training.config import TrainingConfig

    micro = max(batches[-1] // 4, 1)
    options: list[dict[str, object]] = [
        {},
        {"checkpoint_activations": True},
        {"micro_batch_size": micro},
        {"checkpoint_activations": True, "micro_batch_size": micro},
    ]
    known = [json.dumps(option) for option in options if option.keys() <= TrainingConfig.model_fields.keys()]
    best = precisions()[-1]
    found = [Case(preset, batch, precision) for batch in batches for precision in precisions()]
    found += [Case(preset, batches[-1], best, training=option) for option in known[1:]]
    return found + [Case(preset, batch, naive=True) for batch in naive_batches]


def _figures(case: Case) -> tuple[str, str, str]:
    command = [sys.executable, "-m", "benchmarks.memory", "--case", json.dumps(case.__dict__)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return ("failed: " + (done.stderr.strip().splitlines() or ["killed"])[-1][:80], "—", "—")
    peak, added = json.loads(done.stdout.splitlines()[-1])
    if peak is None:
        return ("—", "—", "—")
    return f"{peak:.0f}", f"{added:.0f}", f"{added / case.batch:.1f}"


def run_case(case: Case) -> tuple[float | None, float | None]:
    """(peak, what two steps added) in MiB, in this process."""
    from benchmarks.peak_memory import peak_mib, resident_mib
    from benchmarks.players import configuration, naive_steps, steps, trainer_of

    config = configuration(case.preset, case.batch, case.precision, **json.loads(case.training))  # pyright: ignore
    trainer = trainer_of(config)
    step = naive_steps(trainer, case.batch) if case.naive else steps(trainer)
    before = resident_mib()
    peak = peak_mib(lambda: (step(), step()))
    return peak, None if peak is None or before is None else peak - before


if __name__ == "__main__":
    if sys.argv[1:2] == ["--case"]:
        print(json.dumps(run_case(Case(**json.loads(sys.argv[2])))))
    else:
        print(tyro.cli(measure))
