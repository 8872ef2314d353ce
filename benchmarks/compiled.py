"""What torch.compile costs at the start and gains per step. Minutes: not part of `make bench`."""

import json
import os
import subprocess
import sys
import tempfile

import tyro

from benchmarks.players import DTYPES, Precision, configuration, precisions, steps, trainer_of
from benchmarks.table import Table, say
from benchmarks.timing import MatrixProducts, Work, in_turns, seconds_of


def measure(preset: str = "cifar10", batch: int = 16, rounds: int = 5) -> Table:
    """Two processes in turn, the first with an empty cache of compiled code; eager and compiled steps in each.

    Args:
        preset: Whose step.
        batch: Images per step.
        rounds: Steps of each, in turns.
    """
    table = Table("torch.compile", ("precision", "first step, s", "cold", "with a cache", "gain per step", "spread"))
    for precision in precisions():
        with tempfile.TemporaryDirectory(prefix="vitgan-benchmark-") as cache:
            environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": cache}
            arguments = [preset, str(batch), precision, str(rounds)]
            command = [sys.executable, "-m", "benchmarks.compiled", "--worker", *arguments]
            found = []
            for state in ("no cache", "cache"):
                say(f"torch.compile: {preset}, batch {batch}, {precision}, {state}")
                done = subprocess.run(command, capture_output=True, text=True, env=environment)
                if done.returncode:
                    last = (done.stderr.strip().splitlines() or ["killed"])[-1]
                    table.remarks.append(f"Not measured in {precision}: {last[:200]}")
                    break
                found.append(json.loads(done.stdout.splitlines()[-1]))
        if len(found) == 2:
            cold, warm = found
            first = (f"{cold['eager']:.1f}", f"{cold['compiled']:.0f}", f"{warm['compiled']:.1f}")
            table.add(precision, *first, f"× {warm['gain']:.2f}", warm["spread"])
    table.remarks.append(f"{preset}, batch {batch}: seconds of the first step, eager, compiled, and compiled before.")
    return table


def work(preset: str, batch: int, precision: Precision, rounds: int) -> dict[str, float | str]:
    """Both first steps and the gain, in this process."""
    runs = {
        name: steps(trainer_of(configuration(preset, batch, precision, compile="always" if on else "never")))
        for name, on in (("eager", False), ("compiled", True))
    }
    first: dict[str, float | str] = {name: seconds_of(run) for name, run in runs.items()}
    yardstick = MatrixProducts(DTYPES[precision])
    found = in_turns({name: Work(run, yardstick) for name, run in runs.items()}, rounds)
    compiled = found["compiled"]
    return first | {"gain": compiled.times_as_fast(found["eager"]), "spread": compiled.spread}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        _, _, name, size, wanted, count = sys.argv
        print(json.dumps(work(name, int(size), "bf16" if wanted == "bf16" else "float32", int(count))))
    else:
        print(tyro.cli(measure))
