"""One report of an ablation: a Markdown table, the same as CSV, curves and grids as PNG."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vitgan.ablation.results import Curve, MemberResult, at_budget, collect, common_budget
from vitgan.ablation.run import Plan
from vitgan.ablation.suites import Suite
from vitgan.files.pictures import enlargement
from vitgan.models.costs import model_costs

Rows = dict[str, list[MemberResult]]

METRICS = (
    ("KD", 3),
    ("KID", 3),
    ("IS", 2),
    ("precision", 2),
    ("recall", 2),
    ("density", 2),
    ("coverage", 2),
    ("near-copies", 3),
    ("seam", 2),
    ("repeat-share", 3),
    ("spectrum-distance", 1),
)
"""Metrics beside the score, each with its digits; those that no run has been measured by are left out."""


def write_report(suite: Suite, plan: Plan, folder: Path, command: str) -> Path:
    """Writes report.md, report.csv, curves.png and grids.png into `folder`; returns the Markdown file."""
    results = collect(suite, plan, folder)
    rows = table(results)
    text = [
        f"# Ablation: {suite.name}\n\n{suite.question}\n",
        f"Each run: {plan.budget}, base {plan.base.preset}, data {plan.base.data}, "
        f"seed{'s' if len(plan.seeds) > 1 else ''} {', '.join(map(str, plan.seeds))}. Metrics by protocol "
        f"{plan.base.protocol}, of the averaged generator; the score at equal images and at equal processor time (CPU "
        f"min, training alone), between evaluations by a straight line; other metrics are those of the runs' ends. "
        f"Several seeds: mean (least to largest).\n\n```\n{command}\n```\n",
    ]
    if rows:
        text += ["| " + " | ".join(rows[0]) + " |", "|" + " --- |" * len(rows[0])]
        text += ["| " + " | ".join(row.values()) + " |" for row in rows]
    given_up = [run for runs in results.values() for run in runs if run.divergence]
    text += [f"\n{run.member.name} diverged and has no scores: {run.divergence}" for run in given_up]
    text.append("\n![Curves](curves.png)\n\n![Images of the same latents](grids.png)\n")
    (folder / "report.md").write_text("\n".join(text), encoding="utf-8")
    with (folder / "report.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else ["row"])
        writer.writeheader()
        writer.writerows(rows)
    save_curves(results, folder / "curves.png")
    save_grids(results, folder / "grids.png")
    return folder / "report.md"


def table(results: Rows) -> list[dict[str, str]]:
    """The table's rows, formatted."""
    score = next((run.score_key for runs in results.values() for run in runs if run.score_key), None)
    kimg, minutes = common_budget(results, in_time=False), common_budget(results, in_time=True)
    every = [run for runs in results.values() for run in runs]
    metrics = {name: digits for name, digits in METRICS if any(run.metric(name) is not None for run in every)}
    return [
        {"row": name}
        | scores(runs, (score or "score").removeprefix("evaluation/"), kimg, minutes)
        | run_ends(runs, metrics)
        for name, runs in results.items()
    ]


def scores(runs: list[MemberResult], name: str, kimg: float | None, minutes: float | None) -> dict[str, str]:
    """The score at equal images, at equal time and at its best."""
    if kimg is None or minutes is None:
        return {name: "none yet"}
    at_kimg = [at_budget(run.score(), kimg) for run in runs]
    at_minutes = [at_budget(run.score(in_time=True), minutes) for run in runs]
    best = [min(run.score()[1], default=None) for run in runs]
    return {
        f"{name} at {kimg:.4g} kimg": over_seeds(at_kimg, 1),
        f"{name} at {minutes:.3g} CPU min": over_seeds(at_minutes, 1),
        f"best {name}": over_seeds(best, 1),
    }


def run_ends(runs: list[MemberResult], metrics: dict[str, int]) -> dict[str, str]:
    """What the runs did until their ends; `metrics` with their digits."""
    row = {
        "kimg": over_seeds([run.kimg for run in runs], 1),
        "CPU min": over_seeds([run.cpu_minutes([run.kimg])[0] for run in runs], 1),
    }
    for name, digits in metrics.items():
        row[name] = over_seeds([run.metric(name) for run in runs], digits)

    def of_log(key: str, summary: Callable[[list[float]], float]) -> list[float | None]:
        curves = [run.curve(key)[1] for run in runs]
        return [float(summary(curve)) if curve else None for curve in curves]

    row["D gradient, mean"] = over_seeds(of_log("gradient_norm/discriminator", np.mean), 2)
    row["D gradient, max"] = over_seeds(of_log("gradient_norm/discriminator_max", max), 1)
    row["logits real"] = over_seeds([run.last("logits/real") for run in runs], 2)
    row["logits fake"] = over_seeds([run.last("logits/fake") for run in runs], 2)
    generator, discriminator = model_costs(runs[0].config.model)
    row["parameters G, D"] = f"{generator.parameters / 1e6:.2f} M, {discriminator.parameters / 1e6:.2f} M"
    row["forward MFLOP G, D"] = f"{generator.flops_per_image / 1e6:.0f}, {discriminator.flops_per_image / 1e6:.0f}"
    return row


def over_seeds(values: list[float | None], digits: int) -> str:
    """ "674.5", or "674.5 (660.1 to 688.9)" of several runs; of those that have the metric."""
    found = [value for value in values if value is not None]
    if not found:
        return ""
    mean = f"{np.mean(found):.{digits}f}"
    return mean if len(found) == 1 else f"{mean} ({min(found):.{digits}f} to {max(found):.{digits}f})"


def save_curves(results: Rows, path: Path) -> None:
    """Score against images and time; D's gradient norms, logits and attention entropy; a colour for each row."""
    from matplotlib.figure import Figure

    kimg, minutes, score = "thousands of images", "minutes of the processor", "score (lower is better)"
    norm = "gradient_norm/discriminator"
    panels: tuple[tuple[str, str, Callable[[MemberResult], Curve]], ...] = (
        (score, kimg, lambda run: run.score()),
        (score, minutes, lambda run: run.score(in_time=True)),
        ("D's gradient norm, mean", kimg, lambda run: run.curve(norm)),
        ("D's gradient norm, largest since the last record", kimg, lambda run: run.curve(f"{norm}_max")),
        ("logit gap, real - fake", kimg, MemberResult.logit_gap),
        ("attention entropy of D's first block (1 = uniform)", kimg, lambda run: run.curve("attention_entropy/0")),
    )
    figure = Figure(figsize=(18, 9), layout="constrained")
    axes = figure.subplots(2, 3).flat
    for axis, (title, label, curve) in zip(axes, panels, strict=True):
        style: dict[str, Any] = {"marker": "o" if title == score else None, "markersize": 3, "lw": 1.2}
        for index, (name, runs) in enumerate(results.items()):
            for run in runs:
                axis.plot(*curve(run), label=name if run is runs[0] else None, color=f"C{index}", **style)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel(label)
        axis.grid(alpha=0.3)
        axis.set_yscale("log" if title == score or "norm" in title else "linear")
    if results:
        figure.axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=100)


def save_grids(results: Rows, path: Path, shown: int = 5) -> None:
    """The first images of the last grid of every row's first run, side by side, with the row's name above."""
    from matplotlib.figure import Figure

    grids = [(name, runs[0], runs[0].grid) for name, runs in results.items() if runs[0].grid is not None]
    if not grids:
        return
    columns = min(4, len(grids))
    rows = -(-len(grids) // columns)
    figure = Figure(figsize=(3.2 * columns, 3.5 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, (name, result, grid) in zip(axes.flat, grids, strict=False):
        with Image.open(grid) as image:
            side = result.config.model.image_size * enlargement(result.config.model.image_size)
            size = min(shown * side, image.width, image.height)
            axis.imshow(np.asarray(image.convert("RGB").crop((0, 0, size, size))), interpolation="nearest")
        axis.set_title(name, fontsize=10)
    figure.savefig(path, dpi=100)
