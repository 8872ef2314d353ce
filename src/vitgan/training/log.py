"""A run's log: statistics gathered on the device, metrics.jsonl, events.jsonl."""

import json
import math
import os
from pathlib import Path

import torch
from torch import Tensor

from vitgan.files import read_bytes, write_bytes

MAXIMUM_SUFFIX = "_max"
LARGEST_LOG_BYTES = 1 << 30
EVALUATION = "evaluation/"
"""Before the names of an evaluation's figures."""


class Statistics:
    """Means (and maxima, for names that end in "_max") of scalars over the steps since the last `collect`.

    Sums stay on the device: nothing waits for the device until `collect`. Values that are not finite are left out: the
    divergence guard reports them.
    """

    def __init__(self) -> None:
        self._values: dict[str, Tensor] = {}
        self._counts: dict[str, Tensor] = {}

    @torch.no_grad()
    def add(self, values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            value = value.detach().float()
            maximum = name.endswith(MAXIMUM_SUFFIX)
            finite = value.isfinite()
            value = torch.where(finite, value, -torch.inf if maximum else 0.0)
            if name not in self._values:
                self._values[name], self._counts[name] = value, finite.float()
                continue
            if maximum:
                self._values[name] = torch.maximum(self._values[name], value)
            else:
                self._values[name] = self._values[name] + value
            self._counts[name] = self._counts[name] + finite

    def collect(self) -> dict[str, float]:
        """The figures, and a fresh start. A figure that was never finite is absent."""
        sums = self.sums()
        self._values, self._counts = {}, {}
        return {
            name: value if name.endswith(MAXIMUM_SUFFIX) else value / count
            for name, (value, count) in sums.items()
            if count
        }

    def sums(self) -> dict[str, tuple[float, int]]:
        """Sum (or maximum) and count of each figure so far: float32 values, exact as Python's floats."""
        sums = {name: (value.item(), int(self._counts[name].item())) for name, value in self._values.items()}
        return {name: (value if count else 0.0, count) for name, (value, count) in sums.items()}

    def restore(self, sums: dict[str, tuple[float, int]]) -> None:
        """The inverse of `sums`."""
        never = {name: -torch.inf if name.endswith(MAXIMUM_SUFFIX) else 0.0 for name in sums}
        self._values = {name: torch.tensor(value if count else never[name]) for name, (value, count) in sums.items()}
        self._counts = {name: torch.tensor(float(count)) for name, (_, count) in sums.items()}


class MetricsFile:
    """metrics.jsonl: one record a line, in order of images, never twice."""

    def __init__(self, path: Path, images_seen: int) -> None:
        """Opens the file for a run that stands at `images_seen`; later records, of work to be redone, are dropped."""
        self.path = path
        if path.exists():
            kept = [line for line in _lines(path) if (record := _record(line)) and record["images"] <= images_seen]
            write_bytes(path, "".join(line + "\n" for line in kept).encode())

    def append(self, record: dict[str, float]) -> None:
        """Writes a record, through to the disk: a checkpoint that is written later is never older than its log."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())


def append_event(path: Path, event: dict[str, object]) -> None:
    """Appends an event (a divergence, say) to events.jsonl, once: work that is redone after a kill adds none twice."""
    line = json.dumps(event, sort_keys=True)
    lines = _lines(path)
    if line not in lines:
        with path.open("a", encoding="utf-8") as file:
            # A line that a killed process cut short is ended, so that it spoils no other.
            file.write(("\n" if lines and not path.read_bytes().endswith(b"\n") else "") + line + "\n")


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The records of a metrics.jsonl; lines that are none, as a last one cut short, are left out."""
    return [record for line in _lines(path) if (record := _record(line))]


def _lines(path: Path) -> list[str]:
    if not path.exists():
        return []
    return read_bytes(path, "log", LARGEST_LOG_BYTES).decode(errors="replace").splitlines()


def is_evaluation(record: dict[str, float]) -> bool:
    """Whether a record is an evaluation's."""
    return any(name.startswith(EVALUATION) for name in record)


def _record(line: str) -> dict[str, float] | None:
    try:
        record = json.loads(line)
        numbers = all(type(value) in (int, float) for value in record.values())
        return record if numbers and math.isfinite(record["images"]) else None
    except (ValueError, KeyError, AttributeError, OverflowError, RecursionError):
        return None
