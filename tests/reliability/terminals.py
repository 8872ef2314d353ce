"""Commands and their help in odd terminals: encodings, sizes, streams that are full, closed or not read.

Each ends with 0, or with 2 and one line; none with a traceback, and none hangs.
"""

import itertools
import random
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from reliability.children import STREAMS, Children, Job
from reliability.torture import Figures
from tiny import TINY_OVERRIDES, write_images

COMMANDS = """
data | data folder | data cifar10 | data celeba | data lsun | data parquet | data fashion-mnist | data verify | data show
train | train quickstart | sample | evaluate | serve | ablate | info | export | export onnx | export hub | export web
explore | explore interpolate | explore mix | explore truncate | explore directions | explore zoom | explore attention
explore invert | explore grow
"""
HELP = [[], ["--help"], ["--version"], *([*name.split(), "--help"] for name in re.split(r"[|\n]", COMMANDS) if name)]
MISTAKES = [
    ["nothing"], ["train", "nothing"], ["train", "--resume", "nowhere"], ["train", "quickstart", "--nothing", "1"],
    ["train", "quickstart", "--training.seed", "é"], ["sample", "nothing"], ["data", "show", "nothing"],
    ["explore", "nothing"], ["export", "nothing"], ["evaluate"], ["info", "né×…"], ["ablate", "nothing"],
]  # fmt: skip
ENCODINGS = ("utf-8", "ascii", "latin-1", "cp1252", "cp437", "utf-16", "koi8-r")
COLUMNS = (None, *["0", "1", "2", "3", "4", "5", "6", "10", "39", "80", "1000000000", "-1", "x", "²"], "9" * 5000)
OTHERS: dict[str, tuple[str | None, ...]] = {
    "LINES": (None, "1", "²"),
    "TERM": ("xterm-256color", "dumb", None, "nonsense"),
    "NO_COLOR": (None, "1"),
    "FORCE_COLOR": (None, "1"),
}


@dataclass
class Terminals:
    """Commands in surroundings.

    Args:
        folder: Where to work; files that commands need are made there.
        children: Who runs the commands.
    """

    folder: Path
    children: Children
    figures: Figures = field(default_factory=Figures)

    def __post_init__(self) -> None:
        data = self.folder / "data"
        data.mkdir(parents=True)
        write_images(data / "images")
        assert self.children.run(Job("prepare", str(data))) == [0]

    def work(self, number: int) -> list[list[str]]:
        """Commands that do something; their files have a number of their own."""
        store, images, out = self.folder / "data/store", self.folder / "data/images", self.folder / f"out{number}"
        return [
            ["info"], ["info", "cifar10"], ["info", "fashion-mnist"], ["evaluate", "--list-protocols"],
            ["data", "show", str(store), "--grid", f"{out}.png"], ["data", "verify", str(store)],
            ["data", "folder", "--source", str(images), "--resolution", "8", "--workers", "0", "--out", str(out)],
            ["train", "cifar10-tiny", "--dry-run"],
            ["train", "cifar10-tiny", *TINY_OVERRIDES, "--training.trackers", "--data", str(store), "--out", str(out)],
            ["sample", "fashion-mnist", "--count", "2", "--grid", f"{out}.png"],
            ["explore", "mix", "fashion-mnist", "--out", f"{out}.png"],
        ]  # fmt: skip

    def check(self, arguments: list[str], streams: str, encoding: str, environment: dict[str, str | None]) -> None:
        """Runs one command and looks at its end."""
        place = self.folder / "place"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        job = Job("command", str(place), arguments=arguments, streams=streams, encoding=encoding, patience=0.05)
        job.environment, job.limit_seconds = environment, 60
        (code,) = self.children.run(job)
        printed = (place / "log0").read_bytes()
        mistake = arguments in MISTAKES
        # A command is told of its lost output by its exit code, but for one that trains.
        lost = streams in ("full", "blocked", "stopped terminal") and (
            arguments[:1] != ["train"] or "--dry-run" in arguments
        )
        expected = {2} if mistake else {0, 2} if lost else {0}
        if code not in expected or "Traceback" in printed.decode(encoding, "replace"):
            where = f"{arguments} to {streams} in {encoding}, {environment}"
            self.figures.errors.append(f"{where}: ended with {code}: {printed[-600:]!r}")
        self.figures.runs += 1


def surroundings(moments: random.Random) -> Iterator[tuple[str, str, dict[str, str | None]]]:
    """Streams, encodings and environments, without end: each value of each comes before any comes again."""
    turns = [itertools.cycle(moments.sample(values, len(values))) for values in (list(STREAMS), ENCODINGS, COLUMNS)]
    while True:
        streams, encoding, columns = (next(turn) for turn in turns)
        others = {name: moments.choice(values) for name, values in OTHERS.items()}
        yield str(streams), str(encoding), {"COLUMNS": columns, **others}


def fuzz_terminals(folder: Path, children: Children, seed: int, count: int) -> Figures:
    """Runs `count` commands at random, of all kinds in turn."""
    moments, terminals = random.Random(seed), Terminals(folder, children)
    places = surroundings(moments)
    for number in range(count):
        commands = (HELP, MISTAKES, terminals.work(number))[number % 3]
        terminals.check(commands[number // 3 % len(commands)], *next(places))
    return terminals.figures
