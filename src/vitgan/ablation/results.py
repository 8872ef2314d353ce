"""What the runs of an ablation left behind: their logs, as curves over images and over processor time."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitgan.ablation.run import Member, Plan, divergence_of, members, run_of_member
from vitgan.ablation.suites import Suite
from vitgan.config import RunConfig
from vitgan.runs.folder import config_of_run
from vitgan.training.log import read_metrics

Curve = tuple[list[float], list[float]]


@dataclass(frozen=True)
class MemberResult:
    """What one run left behind."""

    member: Member
    config: RunConfig
    records: list[dict[str, float]]
    grid: Path | None
    divergence: str | None = None
    """Why the run was given up; then it has no scores."""

    def curve(self, key: str) -> Curve:
        """(thousands of images, values) of a logged number."""
        points = [(r["images"] / 1000, r[key]) for r in self.records if key in r]
        return [x for x, _ in points], [y for _, y in points]

    def logit_gap(self) -> Curve:
        """(thousands of images, mean real logit minus mean fake logit)."""
        x, real = self.curve("logits/real")
        return x, [a - b for a, b in zip(real, self.curve("logits/fake")[1], strict=True)]

    def cpu_minutes(self, kimg: list[float]) -> list[float]:
        """Minutes of the processor that training had taken at these thousands of images."""
        x, seconds = self.curve("cpu_seconds")
        return np.interp(kimg, [0.0, *x], [0.0, *(np.cumsum(seconds) / 60)]).tolist()

    def last(self, key: str) -> float | None:
        """A logged number's last value."""
        values = self.curve(key)[1]
        return values[-1] if values else None

    def metric(self, name: str) -> float | None:
        """The last value of an evaluation's metric, whichever features it was measured by ("precision-lite0")."""
        if self.divergence is not None:
            return None
        pattern = re.compile(rf"evaluation/{name}(-(?!std|extrapolated)[\w-]+)?")
        values = [value for record in self.records for key, value in record.items() if pattern.fullmatch(key)]
        return values[-1] if values else None

    @property
    def kimg(self) -> float:
        """Thousands of images seen."""
        return (self.last("images") or 0.0) / 1000

    @property
    def score_key(self) -> str | None:
        """Name of the logged Fréchet distance."""
        if self.divergence is not None:
            return None
        keys = (key for record in self.records for key in record)
        return next((key for key in keys if re.fullmatch(r"evaluation/(FID|FD-(?!extrapolated)[\w-]+)", key)), None)

    def score(self, in_time: bool = False) -> Curve:
        """(thousands of images, or minutes of the processor; Fréchet distance) of the evaluations."""
        x, y = self.curve(self.score_key or "")
        return (self.cpu_minutes(x) if in_time else x), y


def collect(suite: Suite, plan: Plan, folder: Path) -> dict[str, list[MemberResult]]:
    """The runs that have begun, by row in the suite's order; a row's are in the order of their seeds."""
    results: dict[str, list[MemberResult]] = {row: [] for row in suite.rows}
    for member in members(suite, plan):
        if (run := run_of_member(folder, member)) is not None:
            grids = sorted((run / "samples").glob("*.png"))
            grid, records = grids[-1] if grids else None, read_metrics(run / "metrics.jsonl")
            results[member.row].append(MemberResult(member, config_of_run(run), records, grid, divergence_of(run)))
    return {row: runs for row, runs in results.items() if runs}


def common_budget(results: dict[str, list[MemberResult]], in_time: bool) -> float | None:
    """The largest number of images (or of minutes) at which every run that has a score is measured."""
    ends = [run.score(in_time)[0][-1] for runs in results.values() for run in runs if run.score_key]
    return min(ends) if ends else None


SAME_BUDGET = 1.01
"""A run's only evaluation counts for a budget that is this little smaller: runs of equal time end within a step of it."""


def at_budget(curve: Curve, budget: float) -> float | None:
    """A score at a budget, between two evaluations by a straight line; None before the first."""
    x, y = curve
    if not x or x[0] > budget * SAME_BUDGET or x[-1] < budget:
        return None
    return float(np.interp(budget, x, y))
