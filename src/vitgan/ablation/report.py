"""One report of an ablation: a Markdown table, the same as CSV, curves and grids as PNG."""

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vitgan.ablation.run import Plan, minutes_spent, run_of_row
from vitgan.ablation.suites import Suite
from vitgan.config import RunConfig
from vitgan.files import read_model
from vitgan.grid import save_image
from vitgan.models.costs import model_costs
from vitgan.training.log import read_metrics


@dataclass(frozen=True)
class RowResult:
    """What one row's run left behind."""

    name: str
    config: RunConfig
    records: list[dict[str, float]]
    grid: Path | None
    minutes: float

    def curve(self, key: str) -> tuple[list[float], list[float]]:
        """(thousands of images, values) of a logged figure."""
        points = [(r["images"] / 1000, r[key]) for r in self.records if key in r]
        return [x for x, _ in points], [y for _, y in points]

    def last(self, key: str) -> float | None:
        """A figure's last value."""
        values = self.curve(key)[1]
        return values[-1] if values else None

    def figure(self, name: str) -> float | None:
        """The last value of an evaluation's figure, whichever features it was measured by ("precision-lite0")."""
        pattern = re.compile(rf"evaluation/{name}(-(?!std|infinity)\w+)?")
        values = [value for record in self.records for key, value in record.items() if pattern.fullmatch(key)]
        return values[-1] if values else None

    @property
    def score_key(self) -> str | None:
        """Name of the logged Fréchet distance."""
        keys = [k for r in self.records for k in r if k.startswith(("evaluation/FD-", "evaluation/FID"))]
        plain = [k for k in keys if "infinity" not in k]
        return plain[0] if plain else None


def collect(suite: Suite, folder: Path) -> list[RowResult]:
    """The rows that have begun, in the suite's order."""
    results = []
    for name in suite.rows:
        run = run_of_row(folder, name)
        if run is not None:
            grids = sorted((run / "samples").glob("*.png"))
            config = read_model(run / "config.json", RunConfig, "run")
            records = read_metrics(run / "metrics.jsonl")
            results.append(RowResult(name, config, records, grids[-1] if grids else None, minutes_spent(run)))
    return results


def write_report(suite: Suite, plan: Plan, folder: Path, command: str) -> Path:
    """Writes report.md, report.csv, curves.png and grids.png into `folder`; returns the Markdown file."""
    results = collect(suite, folder)
    score = next((result.score_key for result in results if result.score_key), None)
    rows = [table_row(result, score) for result in results]
    budget = f"{plan.kimg:g} thousand images" if plan.kimg is not None else f"{plan.minutes:g} minutes"
    text = io.StringIO()
    print(f"# Ablation: {suite.name}\n\n{suite.question}\n", file=text)
    print(
        f"Each row: {budget}, base {plan.base.preset}, data {plan.base.data}, seed {plan.base.training.seed}. Figures by "
        f"protocol {plan.base.protocol}, of the averaged generator.\n\n```\n{command}\n```\n",
        file=text,
    )
    if rows:
        print("| " + " | ".join(rows[0]) + " |\n|" + " --- |" * len(rows[0]), file=text)
        for row in rows:
            print("| " + " | ".join(row.values()) + " |", file=text)
    print("\n![Curves](curves.png)\n\n![Images of the same latents](grids.png)", file=text)
    (folder / "report.md").write_text(text.getvalue(), encoding="utf-8")
    with (folder / "report.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else ["row"])
        writer.writeheader()
        writer.writerows(rows)
    save_curves(results, folder / "curves.png")
    save_grids(results, folder / "grids.png")
    return folder / "report.md"


def table_row(result: RowResult, score: str | None) -> dict[str, str]:
    """One row of the table, formatted; `score` names the figure that all rows are compared by, once one has it."""
    row = {"row": result.name, "kimg": f"{(result.last('images') or 0) / 1000:.1f}", "minutes": f"{result.minutes:.1f}"}
    name = score.removeprefix("evaluation/") if score else "score"
    scores = result.curve(score)[1] if score else []
    row[name] = f"{scores[-1]:.1f}" if scores else "none yet"
    row[f"best {name}"] = f"{min(scores):.1f}" if scores else "none yet"
    for figure, digits in (("KD", 3), ("IS", 2), ("precision", 2), ("recall", 2), ("coverage", 2)):
        value = result.figure(figure)
        row[figure] = "" if value is None else f"{value:.{digits}f}"
    norms = result.curve("gradient_norm/discriminator")[1]
    maxima = result.curve("gradient_norm/discriminator_max")[1]
    real, fake = result.last("logits/real"), result.last("logits/fake")
    row["D gradient, mean"] = f"{np.mean(norms):.2f}" if norms else ""
    row["D gradient, max"] = f"{np.max(maxima):.1f}" if maxima else ""
    row["logits real, fake"] = f"{real:.2f}, {fake:.2f}" if real is not None and fake is not None else ""
    generator, discriminator = model_costs(result.config.model)
    row["parameters G, D"] = f"{generator.parameters / 1e6:.2f} M, {discriminator.parameters / 1e6:.2f} M"
    return row


def save_curves(results: list[RowResult], path: Path) -> None:
    """Score, logits, D's gradient norm and its attention entropy against images, a line for each row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 9), layout="constrained")
    axes = figure.subplots(2, 2)
    panels = (
        (axes[0, 0], "score", "score (lower is better)", True),
        (axes[0, 1], "gradient_norm/discriminator_max", "largest D gradient norm since the last record", True),
        (axes[1, 0], "logits", "logit gap, real - fake", False),
        (axes[1, 1], "attention_entropy/0", "attention entropy of D's first block (1 = uniform)", False),
    )
    for axis, key, title, logarithmic in panels:
        for index, result in enumerate(results):
            if key == "logits":
                x, real = result.curve("logits/real")
                y = [a - b for a, b in zip(real, result.curve("logits/fake")[1], strict=True)]
            else:
                x, y = result.curve((result.score_key or "") if key == "score" else key)
            axis.plot(x, y, label=result.name, color=f"C{index}", marker="o" if key == "score" else None, markersize=3)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("thousands of images")
        axis.grid(alpha=0.3)
        if logarithmic:
            axis.set_yscale("log")
    axes[0, 0].legend(fontsize=8)
    figure.savefig(path, dpi=100)


def save_grids(results: list[RowResult], path: Path, shown: int = 5) -> None:
    """The first images of every row's last grid, side by side, with the row's name above."""
    from matplotlib.figure import Figure

    grids = [(result, result.grid) for result in results if result.grid is not None]
    if not grids:
        return
    columns = min(4, len(grids))
    rows = -(-len(grids) // columns)
    figure = Figure(figsize=(3.2 * columns, 3.5 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, (result, grid) in zip(axes.flat, grids, strict=False):
        with Image.open(grid) as image:
            per_row = int(np.ceil(np.sqrt(result.config.training.sample_count)))
            size = image.width // per_row * min(shown, per_row)
            axis.imshow(np.asarray(image.convert("RGB").crop((0, 0, size, size))), interpolation="nearest")
        axis.set_title(result.name, fontsize=10)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=100, format="png")
    with Image.open(buffer) as image:
        save_image(image.convert("RGB"), path)
