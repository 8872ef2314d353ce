"""Start-up: seconds of whole processes, from the shell's point of view."""

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import tyro

from benchmarks.table import Table, say
from benchmarks.timing import seconds_of
from vitgan.models.build import build_generator
from vitgan.presets import preset
from vitgan.pretrained.generators import save


def measure(presets: tuple[str, ...] = ("quickstart", "cifar10"), repeats: int = 3) -> Table:
    """Runs each command as a new process.

    Args:
        presets: Whose untrained generators are sampled from.
        repeats: Runs of each.
    """
    table = Table("Start-up", ("command", "seconds", "slowest"))
    with tempfile.TemporaryDirectory(prefix="vitgan-benchmark-") as folder:
        for name, arguments in commands(Path(folder), presets).items():
            say(f"start-up: {name}")
            times = [seconds_of(_process(arguments)) for _ in range(repeats)]
            table.add(f"`{name}`", f"{statistics.median(times):.2f}", f"{max(times):.2f}")
    table.remarks.append(f"Whole processes, median of {repeats}.")
    return table


def commands(folder: Path, presets: tuple[str, ...]) -> dict[str, list[str]]:
    """Arguments for the interpreter, by what a person would type."""
    found = {
        "python -c pass": ["-c", "pass"],
        "python -c 'import torch'": ["-c", "import torch"],
        "python -c 'import vitgan'": ["-c", "import vitgan"],
        "vitgan --help": ["-m", "vitgan", "--help"],
    }
    for name in presets:
        spec = preset(name).model.generator_spec()
        model = save(build_generator(spec), folder / name)
        sample = ["sample", str(model), "--count", "16", "--grid", str(folder / "grid.png")]
        found[f"vitgan sample {name.upper()} --count 16 --grid grid.png"] = ["-m", "vitgan", *sample]
    return found


def _process(arguments: list[str]) -> Callable[[], object]:
    return lambda: subprocess.run([sys.executable, *arguments], check=True, capture_output=True)


if __name__ == "__main__":
    print(tyro.cli(measure))
