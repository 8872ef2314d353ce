"""Kills runs and preparations at random moments, goes on, and compares what they leave with an uninterrupted one, byte
for byte; damages every kind of input, and judges what comes of it.

    PYTHONPATH=tests python -m reliability.torture --kills 100

prints the figures of docs/reliability.md. `test_kill.py` and `test_fuzz.py` are the short form.
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reliability.children import Children, Job
from reliability.fuzz import KINDS, OUTCOMES, fuzz
from tiny import tiny_run, write_images

NOT_COMPARED = {".lock", "tensorboard"}
CLOCK = {"images_per_second", "cpu_seconds", "wall_seconds", "sha256"}
"""What the clock says, and the digest over it."""
RUN = "00000-store"


@dataclass
class Figures:
    """What a torture found."""

    kills: Counter[str] = field(default_factory=Counter)
    """By what the process was doing."""
    resumes: int = 0
    runs: int = 0
    differences: list[str] = field(default_factory=list)
    """Files whose content differs from the uninterrupted run's."""
    lost: list[str] = field(default_factory=list)
    """Files that are missing at the end."""
    errors: list[str] = field(default_factory=list)
    """Anything else: a process that ended otherwise, a file too many."""

    def compare(self, expected: dict[str, Any], actual: dict[str, Any], where: str) -> None:
        self.lost += [f"{where}: {name}" for name in expected.keys() - actual.keys()]
        self.errors += [f"{where}: {name} is left over" for name in actual.keys() - expected.keys()]
        self.differences += [f"{where}: {n}" for n in expected.keys() & actual.keys() if expected[n] != actual[n]]

    def add(self, other: "Figures") -> None:
        """Counts what another torture found too."""
        self.kills += other.kills
        self.resumes, self.runs = self.resumes + other.resumes, self.runs + other.runs
        self.differences += other.differences
        self.lost += other.lost
        self.errors += other.errors

    def faults(self) -> list[str]:
        return self.differences + self.lost + self.errors


def content(folder: Path) -> dict[str, Any]:
    """Every file of a run or a store by name; metrics and checkpoints without what the clock says."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir() or name.split("/")[0] in NOT_COMPARED:
            continue
        if path.name == "metrics.jsonl":
            records = [json.loads(line) for line in path.read_text().splitlines()]
            found[name] = [{k: v for k, v in record.items() if k not in CLOCK} for record in records]
        elif path.name == "state.json":
            found[name] = {k: v for k, v in json.loads(path.read_text()).items() if k not in CLOCK}
        else:
            found[name] = path.read_bytes()
    return found


class Torture:
    """Random kills of one kind of work.

    Args:
        folder: Where to work.
        children: Who does the work.
        seed: Of the moments.
    """

    def __init__(self, folder: Path, children: Children, seed: int) -> None:
        self.folder, self.children, self.moments = folder, children, random.Random(seed)
        self.figures = Figures()

    def training(self, kills: int, processes: int = 1) -> None:
        """Kills training until there were `kills`, over as many runs as that takes."""
        data = self.folder / "data"
        if not (data / "store").exists():
            write_images(data / "images")
            assert self.children.run(Job("prepare", str(data))) == [0]
        config = tiny_run(
            str(data / "store"), total_kimg=0.04, log_every_kimg=0.012, samples_every_kimg=0.02, keep_checkpoints=2,
            horizontal_flip=True,
        )  # fmt: skip
        port = 29500 + self.moments.randrange(20_000)
        job = Job("train", "", config.model_dump(mode="json"), evaluate_every_kimg=0.02, processes=processes, port=port)
        whole = self._fresh("whole")
        job.folder = str(whole)
        assert self.children.run(job) == [0] * processes, (whole / "log0").read_text()
        expected = content(whole / RUN)
        goal = self.figures.kills.total() + kills
        while self.figures.kills.total() < goal:
            self._one_run(job, expected)

    def _one_run(self, job: Job, expected: dict[str, Any]) -> None:
        parent = self._fresh(f"killed{self.figures.runs}")
        run, job.folder = parent / RUN, str(parent)
        for _ in range(200):
            job.resume = str(run) if (run / "data.json").exists() else None
            if job.resume is None:
                shutil.rmtree(run, ignore_errors=True)  # killed while the folder was made: there is no run yet
            self._choose_moment(job)
            self.figures.resumes += job.resume is not None
            codes = self.children.run(job)
            if codes == [0] * job.processes:
                break
            if -9 not in codes:
                self.figures.errors.append(f"{parent}: ended with {codes}: {(parent / 'log0').read_text()[-800:]}")
                break
            self.figures.kills[Path(f"{parent}.phase").read_text() or "between"] += 1
        else:
            self.figures.errors.append(f"{parent}: not done after 200 kills")
        self.figures.runs += 1
        self.figures.compare(expected, content(run), parent.name)
        for rank in range(job.processes):
            log = (parent / f"log{rank}").read_text()
            if "Traceback" in log:
                self.figures.errors.append(f"{parent}: a traceback: {log[-800:]}")
        shutil.rmtree(parent)

    def _choose_moment(self, job: Job) -> None:
        """A random time from the start, or into a random phase, or a random operation on a file."""
        job.kill_seconds = job.kill_phase = job.kill_operation = None
        match self.moments.choice(["time", "phase", "phase", "operation"]):
            case "time":
                job.kill_seconds = self.moments.uniform(0, 0.6)
            case "phase":
                job.kill_phase = self.moments.choice(["step", "step", "checkpoint", "log", "samples", "evaluation"])
                job.kill_entry = self.moments.randint(1, 6 if job.kill_phase == "step" else 2)
                job.kill_seconds = self.moments.uniform(0, 0.005)
            case "operation":
                job.kill_operation = self.moments.randint(1, 120)

    def preparation(self, kills: int, changes: bool = False) -> None:
        """Kills the preparation of a store.

        Args:
            kills: How many times.
            changes: Now and then put other images of the same names in the source's place, or zeros into what is done,
                before it is started again.
        """
        sources = self._fresh("sources")
        write_images(sources / "images", 600)
        write_images(sources / "other", 600, seed=1)
        expected = []
        for _ in range(2):
            assert self.children.run(Job("prepare", str(sources))) == [0]
            expected.append(content(sources / "store"))
            shutil.rmtree(sources / "store")
            _swap(sources / "images", sources / "other")
        goal = self.figures.kills.total() + kills
        while self.figures.kills.total() < goal:
            while True:
                job = Job("prepare", str(sources), kill_operation=self.moments.randint(1, 700))
                codes = self.children.run(job)
                if codes == [-9]:
                    self.figures.kills["preparation"] += 1
                if (sources / "store").exists():  # killed when all was done, or not at all
                    break
                if codes != [-9]:
                    self.figures.errors.append(f"preparation ended with {codes}: {(sources / 'log0').read_text()}")
                    return
                self.figures.resumes += 1
                if changes and self.moments.random() < 0.4:
                    _swap(sources / "images", sources / "other")
                    expected.reverse()
                if changes and self.moments.random() < 0.2:
                    _zero_the_end(sources / ".store.partial" / "images.npy")
            self.figures.runs += 1
            self.figures.compare(expected[0], content(sources / "store"), "store")
            shutil.rmtree(sources / "store")

    def _fresh(self, name: str) -> Path:
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder


def _swap(first: Path, second: Path) -> None:
    first.rename(first.with_name("between"))
    second.rename(first)
    first.with_name("between").rename(second)


def _zero_the_end(file: Path) -> None:
    """As a disk may that lost its power."""
    if file.exists() and file.stat().st_size > 100:
        data = file.read_bytes()
        file.write_bytes(data[:-100] + bytes(100))


def damaged_inputs(cases: int, folder: Path, seed: int) -> list[str]:
    """Fuzzes every kind of input, `cases` in all; prints what came of it, and returns the faults."""
    faults: list[str] = []
    totals: Counter[str] = Counter()
    for number, name in enumerate(KINDS):
        share = cases // len(KINDS) + (number < cases % len(KINDS))
        outcomes, found = fuzz(name, folder / "fuzz", share, seed)
        figures = ", ".join(f"{outcome} {outcomes[outcome]}" for outcome in OUTCOMES)
        print(f"{name:<16} {share:>5} damaged: {figures}, faults {len(found)}", flush=True)
        totals += outcomes
        faults += found
    figures = ", ".join(f"{outcome} {totals[outcome]}" for outcome in OUTCOMES)
    print(f"damaged inputs {cases}: {figures}, faults {len(faults)}")
    return faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="of training at one process")
    parser.add_argument("--kills-of-two", type=int, default=10, help="of training at two processes")
    parser.add_argument("--kills-of-preparation", type=int, default=20)
    parser.add_argument("--stops", type=int, default=20, help="trainings that are told to end, three times each")
    parser.add_argument("--starts", type=int, default=5, help="trainings that are told to end while they begin")
    parser.add_argument("--terminals", type=int, default=200, help="commands in odd terminals")
    parser.add_argument("--damages", type=int, default=1000, help="damaged inputs, over all kinds")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    from reliability.signals import stop_trainings  # they compare as this module does
    from reliability.terminals import fuzz_terminals

    with tempfile.TemporaryDirectory() as folder, Children() as children:
        torture = Torture(Path(folder), children, arguments.seed)
        torture.training(arguments.kills)
        torture.training(arguments.kills_of_two, processes=2)
        torture.preparation(arguments.kills_of_preparation)
        torture.preparation(arguments.kills_of_preparation, changes=True)
        figures = torture.figures
        figures.add(stop_trainings(Path(folder) / "stops", children, arguments.seed, arguments.stops, arguments.starts))
        figures.add(fuzz_terminals(Path(folder) / "terminals", children, arguments.seed, arguments.terminals))
        faults = damaged_inputs(arguments.damages, Path(folder), arguments.seed)
    for phase, count in figures.kills.most_common():
        print(f"ended in {phase:<40} {count:>5}")
    print(f"ends {figures.kills.total()}, resumes {figures.resumes}, runs {figures.runs}")
    print(f"differences {len(figures.differences)}, files lost {len(figures.lost)}, errors {len(figures.errors)}")
    faults += figures.faults()
    print("\n".join(faults))
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
