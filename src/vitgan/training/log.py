"""A run's log: metrics.jsonl, events.jsonl."""

import json
import math
import os
from pathlib import Path

from vitgan.files import read_bytes, write_bytes

LARGEST_LOG_BYTES = 1 << 30
EVALUATION = "evaluation/"
"""Before the names of an evaluation's metrics."""


class MetricsFile:
    """metrics.jsonl: one record a line, in order of images, never twice."""

    def __init__(self, path: Path, images_seen: int) -> None:
        """Opens the file for a run that stands at `images_seen`; later records, of work to be redone, are dropped."""
        self.path = path
        if path.exists():
            kept = [line for line in _lines(path) if (record := _record(line)) and record["images"] <= images_seen]
            write_bytes(path, "".join(line + "\n" for line in kept).encode())

    def append(self, record: dict[str, float]) -> None:
        """Writes a record and forces it to the disk: the log is never behind a checkpoint that is written later."""
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
    """The records of a metrics.jsonl. Lines that are not records, such as a last line cut short, are left out."""
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
