"""What the first hour leaves to carry away: a page, two pictures, and generators in parts."""

import io
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

import vitgan
from benchmarks.table import Table
from vitgan.files.pictures import save_image
from vitgan.training.log import read_metrics

Results = dict[str, dict[str, Any]]

PART_BYTES = 15_000_000

INTRODUCTION = """# On a GPU

Made by `python -m benchmarks.first_hour` on {machine}. Medians; shares are of the rate of matrix products measured beside.

CUDA tests (`pytest -m cuda`): {tests}
"""
REHEARSAL = "\n**A rehearsal on a CPU: nothing here is about a GPU.**\n"


def write_report(out: Path, presets: tuple[str, ...], results: Results) -> None:
    """Writes gpu.md, curves.png, grids.png and the newest generators of all runs into `out`/carry."""
    carry = out / "carry"
    pieces = {name: of_preset for name in presets if (of_preset := pieces_of(name, results))}
    (carry / "gpu.md").write_text(page(presets, results, pieces), "utf-8")
    runs = {name: Path(done[-1]["run"]) for name, done in pieces.items()}
    if runs:
        save_curves(runs, pieces, carry / "curves.png")
        save_grids(list(runs.values()), carry / "grids.png")
    for name, run in runs.items():
        pack(run, name, carry)


def pieces_of(preset: str, results: Results) -> list[dict[str, Any]]:
    """Results of a preset's pieces that were trained, in order."""
    return [found for name, found in results.items() if name.startswith(f"piece {preset} ") and "run" in found]


def page(presets: tuple[str, ...], results: Results, pieces: dict[str, list[dict[str, Any]]]) -> str:
    """The Markdown page."""
    machine, tests = results["machine"], results.get("tests", {})
    card = f"one {machine['card']} ({machine.get('memory_gib')} GiB)" if machine["card"] else "a CPU"
    text = INTRODUCTION.format(machine=f"{card}, torch {machine['torch']}", tests=tests.get("said", "not run"))
    text += "".join(f"\n- {line}" for line in tests.get("failures", ()))
    text += "" if machine["card"] else REHEARSAL
    parts = [text, *map(str, (table_of_steps(presets, results), table_of_batches(presets, results)))]
    if pieces:
        parts.append(str(table_of_pieces(pieces)))
        parts.append(
            "![Scores and losses over images](curves.png)\n\n![The same latents after the last piece](grids.png)\n"
        )
    return "\n".join(parts)


def table_of_steps(presets: tuple[str, ...], results: Results) -> Table:
    """A row for each preset and mode."""
    columns = ("preset", "mode", "precision", "batch", "images/s", "share", "spread", "first step, s", "peak, GiB")
    table = Table("A step", columns)
    keys = ("precision", "batch", "images_per_second", "share", "spread", "first_step_seconds", "peak_gib")
    for name, found in results.items():
        preset, _, mode = name.removeprefix("step ").partition(" ")
        if name.startswith("step ") and preset in presets:
            table.add(f"`{preset}`", mode, *(str(found.get(key, "—")) for key in keys))
            if "failed" in found:
                table.remarks.append(f"`{preset}`, {mode}, failed: {found['failed']}")
    return table


def table_of_batches(presets: tuple[str, ...], results: Results) -> Table:
    """The largest batches."""
    table = Table("The largest batch", ("preset", "plain", "with `checkpoint_activations`"))
    for preset in presets:
        found = results.get(f"batch {preset}", {})
        table.add(f"`{preset}`", *(str(found.get(key, "—")) for key in ("plain", "checkpoint_activations")))
    return table


def table_of_pieces(pieces: dict[str, list[dict[str, Any]]]) -> Table:
    """A row for each piece."""
    name = next(iter(pieces.values()))[-1]["score"]["name"]
    table = Table("Training", ("preset", "piece", "options", "minutes", "kimg", "images/s", name))
    for preset, done in pieces.items():
        for number, piece in enumerate(done, 1):
            options = ", ".join(f"{key}={value}" for key, value in piece["options"].items())
            numbers = f"{piece['seconds'] / 60:.1f}", f"{piece['kimg']:.0f}", f"{piece['images_per_second']:.0f}"
            table.add(f"`{preset}`", str(number), options, *numbers, f"{piece['score']['value']:.2f}")
    table.remarks.append(
        "Minutes are a piece's own, with its start and its evaluation; images/s are of the last record."
    )
    return table


def save_curves(runs: dict[str, Path], pieces: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """The score after each piece, and both losses, over thousands of images."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4), layout="constrained")
    score, losses = figure.subplots(1, 2)
    for index, (preset, run) in enumerate(runs.items()):
        done, records = pieces[preset], [r for r in read_metrics(run / "metrics.jsonl") if "loss/generator" in r]
        color = f"C{index}"
        score.plot([p["kimg"] for p in done], [p["score"]["value"] for p in done], "o-", color=color, label=preset)
        for key, style in (("loss/discriminator", "-"), ("loss/generator", ":")):
            x = [record["images"] / 1000 for record in records]
            losses.plot(x, [record[key] for record in records], style, color=color, lw=1)
    for axis, title in ((score, "score (lower is better)"), (losses, "losses of D (solid) and G (dotted)")):
        axis.set(title=title, xlabel="thousands of images")
    score.legend()
    with path.open("wb") as file:
        figure.savefig(file, format="png", dpi=110)


def save_grids(runs: list[Path], path: Path) -> None:
    """The newest sample grids, side by side."""
    grids = [Image.open(max((run / "samples").glob("*.png"))).convert("RGB") for run in runs]
    picture = Image.new("RGB", (sum(grid.width + 8 for grid in grids) - 8, max(grid.height for grid in grids)), "white")
    left = 0
    for grid in grids:
        picture.paste(grid, (left, 0))
        left += grid.width + 8
    save_image(picture, path)


def pack(run: Path, name: str, carry: Path) -> None:
    """The newest averaged generator in half precision, as a tar in parts of at most 15 MB, in place of earlier ones."""
    packed = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder:
        model = vitgan.save(vitgan.load(run), Path(folder) / name, "float16")
        with tarfile.open(fileobj=packed, mode="w") as tar:
            tar.add(model, name)
    for part in carry.glob(f"{name}.tar.*"):
        part.unlink()
    content = packed.getvalue()
    for number, start in enumerate(range(0, len(content), PART_BYTES)):
        (carry / f"{name}.tar.{number:02d}").write_bytes(content[start : start + PART_BYTES])
