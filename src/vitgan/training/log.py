"""A run's log: statistics gathered on the device, metrics.jsonl, and trackers (TensorBoard)."""

import json
import time
from pathlib import Path

import torch
from torch import Tensor

MAXIMUM_SUFFIX = "_max"


class Statistics:
    """Means (and maxima, for names that end in "_max") of scalars over the steps since the last `collect`.

    Sums stay on the device: nothing waits for the device until `collect`.
    """

    def __init__(self) -> None:
        self._values: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    @torch.no_grad()
    def add(self, values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            value = value.detach().float()
            if name not in self._values:
                self._values[name], self._counts[name] = value.clone(), 1
                continue
            if name.endswith(MAXIMUM_SUFFIX):
                self._values[name] = torch.maximum(self._values[name], value)
            else:
                self._values[name] = self._values[name] + value
                self._counts[name] += 1

    def collect(self) -> dict[str, float]:
        """The figures, and a fresh start."""
        figures = {name: value.item() / self._counts[name] for name, value in self._values.items()}
        self._values, self._counts = {}, {}
        return figures


class MetricsFile:
    """metrics.jsonl: one record a line, in order of images, never twice."""

    def __init__(self, path: Path, images_seen: int) -> None:
        """Opens the file for a run that stands at `images_seen`; later records, of work to be redone, are dropped."""
        self.path = path
        if path.exists():
            kept = [line for line in path.read_text(encoding="utf-8").splitlines() if _images(line) <= images_seen]
            temporary = path.with_name(f".{path.name}.part")
            temporary.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
            temporary.replace(path)

    def append(self, record: dict[str, float]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The records of a metrics.jsonl; a last line cut short is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if _images(line) < float("inf")]


def _images(line: str) -> float:
    try:
        return json.loads(line)["images"]
    except (ValueError, KeyError, TypeError):
        return float("inf")


class Rate:
    """Images per second since the last call."""

    def __init__(self, images_seen: int) -> None:
        self._images, self._time = images_seen, time.monotonic()

    def __call__(self, images_seen: int) -> float:
        now = time.monotonic()
        rate = (images_seen - self._images) / max(now - self._time, 1e-9)
        self._images, self._time = images_seen, now
        return rate
