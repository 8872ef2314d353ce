"""Successive halving over recipes: all trials at a small budget, the best quarter at four times it, the best few at twelve.

Budgets are images, about 5, 20 and 60 minutes of a processor for a small preset: minutes of a processor that others share
are not equal. A trial whose step costs twice as much gets half of them, if `trials.json` says so.

Each trial is one command, `vitgan train PRESET OVERRIDES`, that goes on with `vitgan train --resume`. After each rung it is
measured by features that did not train D, and one line is added to the log, which is also what the driver resumes from.

example: python experiments/halving.py trials.json --data data/cifar10 --out runs/halving --workers 2
trials.json: {"conv": "cifar10-tiny-projected", "large": ["cifar10-tiny-projected --model.discriminator.input-size 96", 1.8]}
"""

import csv
import json
import os
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro


@dataclass
class Search:
    """What is searched, and for how long.

    Attributes:
        trials: JSON file, name -> words behind `vitgan train`, or these and what a step costs, in steps of the others.
        data: Image store.
        out: Folder of the runs and of log.csv.
        kimg: Budget of a trial at each rung, thousands of images.
        keep: How many of a rung's trials the next one takes; the last entry is unused.
        seeds: Seeds of the last rung; earlier rungs have the first alone.
        judge: Features of the metrics.
        workers: Trials at a time, one thread each.
    """

    trials: Annotated[Path, tyro.conf.Positional]
    data: str = "data/cifar10"
    out: Path = Path("runs/halving")
    kimg: list[float] = field(default_factory=lambda: [15.0, 60.0, 180.0])
    keep: float = 0.25
    seeds: list[int] = field(default_factory=lambda: [0, 1])
    judge: str = "lite0"
    workers: int = 2


def main() -> None:
    search = tyro.cli(Search)
    given = json.loads(search.trials.read_text())
    alive: dict[str, tuple[str, float]] = {
        name: (trial, 1.0) if isinstance(trial, str) else (trial[0], float(trial[1])) for name, trial in given.items()
    }
    for rung, kimg in enumerate(search.kimg):
        last = rung == len(search.kimg) - 1
        seeds = search.seeds if last else search.seeds[:1]
        jobs = [(name, words, seed, kimg / cost) for name, (words, cost) in alive.items() for seed in seeds]
        with ThreadPoolExecutor(search.workers) as pool:
            futures = [pool.submit(run, search, *job) for job in jobs]
            scores = [future.result() for future in futures]
        ranked = [job[0] for _, job in sorted(zip(scores, jobs, strict=True), key=lambda pair: pair[0])]
        print(f"{kimg:g} thousand images: {', '.join(dict.fromkeys(ranked))}")
        best = list(dict.fromkeys(ranked))[: max(1, round(len(alive) * search.keep))]
        alive = {name: alive[name] for name in best}


def run(search: Search, name: str, words: str, seed: int, kimg: float) -> float:
    """Trains one trial up to a budget, measures it and logs it; a rung that the log has already is not run again."""
    folder = search.out / f"{name}-{seed}"
    log = search.out / "log.csv"
    search.out.mkdir(parents=True, exist_ok=True)
    done = list(csv.DictReader(log.open())) if log.exists() else []
    for row in done:
        if (row["trial"], row["seed"], row["kimg"]) == (name, str(seed), f"{kimg:g}"):
            return float(row["score"])
    budget = ["--training.total-kimg", str(kimg)]
    runs = sorted(folder.glob("0*"))
    if runs:
        vitgan("train", "--resume", str(runs[-1]), *budget)
    else:
        start = [*shlex.split(words), "--data", search.data, "--training.seed", str(seed), "--out", str(folder)]
        vitgan("train", *start, *budget)
    (trained,) = folder.glob("0*")
    result = folder / "result.json"
    vitgan("evaluate", str(trained), "--features", search.judge, "--json", str(result))
    measured = json.loads(result.read_text())
    row = {"trial": name, "words": words, "seed": seed, "kimg": f"{kimg:g}", "judge": search.judge}
    row |= {"score": measured["score"]["value"], **measured["metrics"]}
    with log.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        if not done and file.tell() == 0:
            writer.writeheader()
        writer.writerow(row)
    return float(row["score"])


def vitgan(*words: str) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    subprocess.run([sys.executable, "-m", "vitgan", *words], env=environment, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
