"""`vitgan info`: presets, runs and models, with what they cost."""

import os
import re
import shutil
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from pydantic import BaseModel

from vitgan.cli.arguments import check_useless
from vitgan.cli.preset_texts import NAMES, PRESETS, SIZES, VARIANTS, summary
from vitgan.cli.progress import losses
from vitgan.errors import UserError, command, one_line
from vitgan.files import read_model, user_error
from vitgan.frozen.vae_spec import VaeSpec
from vitgan.pretrained.names import CONFIG, WEIGHTS, bundled_models, find_model
from vitgan.training.log import EVALUATION, read_metrics

if TYPE_CHECKING:
    from vitgan.models.build import GeneratorSpec, ModelConfig
    from vitgan.models.costs import Costs


def info(name: Annotated[str | None, tyro.conf.Positional] = None, runs: Path = Path("runs")) -> None:
    """Shows presets, bundled models and runs, or one preset, run or model closely.

    examples:
      vitgan info
      vitgan info cifar10
      vitgan info fashion-mnist
      vitgan info runs/00000-quickstart

    Args:
        name: A run, checkpoint or model folder, a preset, a bundled model or a Hub repository user/name; nothing lists
            presets, bundled models and runs.
        runs: Where runs are looked for.
    """
    if name is None:
        _list_all(runs)
        return
    check_useless(info, "beside a name", runs=runs)
    if name in NAMES and not (Path(name) / CONFIG).exists():  # as for every command a model's path comes first
        from vitgan.models.costs import model_costs
        from vitgan.presets import preset

        _print_wrapped(f"preset {name}: ", summary(name), indent=2)
        model = preset(name).model
        _show_networks(model, **dict(zip(("generator", "discriminator"), model_costs(model), strict=True)))
        if name in bundled_models():
            print(f"\nbundled model of the same name ({name}):")
            _show_folder(bundled_models()[name])
        return
    with user_error(f"{name!r} is neither a preset (`vitgan info` lists them) nor a model", UserError):
        folder = find_model(name)
    _show_folder(folder)


class Images(BaseModel):
    """What is said of a model's images. Configurations are not read as a whole, which would import torch."""

    resolution: int
    channels: int
    num_classes: int = 0
    vae: VaeSpec | None = None

    def __str__(self) -> str:
        classes = f", {self.num_classes} classes" if self.num_classes else ""
        colours = {} if self.vae else {1: "grey", 3: "RGB"}
        kind = colours.get(self.channels, f"latents of {self.channels} channels")
        return f"{self.resolution}×{self.resolution} {kind}{classes}"


class Length(BaseModel):
    """How long a run is to train."""

    total_kimg: float
    max_minutes: float | None = None
    max_cpu_minutes: float | None = None


class Times(BaseModel):
    """What a checkpoint says of its run's time."""

    wall_seconds: float
    cpu_seconds: float


class Run(BaseModel):
    """What is said of a run's configuration."""

    preset: str
    data: str
    model: Images
    training: Length


class Best(BaseModel):
    """What is said of a run's best checkpoint."""

    checkpoint: str
    name: str
    score: float


def _list_all(folder: Path) -> None:
    print("presets (`vitgan info PRESET` shows sizes and costs):")
    for name, about in (PRESETS | SIZES).items():
        _print_wrapped(f"  {name:<22} ", about)
    print(f"and, of each of {', '.join(SIZES)}:")
    for name, about in VARIANTS.items():
        _print_wrapped(f"  ...-{name:<18} ", about)
    models = bundled_models()
    print("\nbundled models (`vitgan sample MODEL --grid grid.png`):" if models else "\nno bundled models")
    for name, place in models.items():
        images = read_model(place / CONFIG, Images, "model")
        print(f"  {name:<14} {images}, {(place / WEIGHTS).stat().st_size / 1e6:.1f} MB")
    # os.path answers False, where Path raises, to names that are too long.
    runs = sorted(p.parent for p in folder.glob("*/config.json")) if os.path.isdir(folder) else []  # noqa: PTH112 - False for odd names
    print(f"\n{'run':<40} {'kimg':>9}  newest checkpoint" if runs else f"\nno runs in {folder}")
    for run in runs:
        records = read_metrics(run / "metrics.jsonl")
        images = records[-1]["images"] if records else 0
        print(f"{run!s:<40} {images / 1000:>9.1f}  {(['none', *_checkpoints(run)])[-1]}")


def _checkpoints(run: Path) -> list[str]:
    """Names, oldest first; whether they are whole shows when they are loaded."""
    return sorted(p.name for p in (run / "checkpoints").glob("[0-9]*k[0-9]*"))


def _show_folder(path: Path) -> None:
    if (path / CONFIG).exists() and not (path / WEIGHTS).exists():
        _show_run(path)
        return
    from vitgan.models.costs import generator_costs
    from vitgan.pretrained.generators import locate

    weights, spec = locate(path)
    print(f"model {weights}")
    card = weights.with_name("README.md")
    if card.is_file() and weights.name == WEIGHTS:
        print(f"its card: {card}")
        if training := re.search(r"^## Training\n\n(.+)$", card.read_text("utf-8", "replace"), re.MULTILINE):
            _print_wrapped("its training: ", one_line(training[1], 1000), indent=2)
    _show_networks(spec, generator=generator_costs(spec))


def _show_run(path: Path) -> None:
    run = read_model(path / CONFIG, Run, "run")
    records = read_metrics(path / "metrics.jsonl")
    last = {key: value for record in records for key, value in record.items()}
    pictures = sorted((path / "samples").glob("*.png"))
    rows: dict[str, object] = {"run": path, "preset": run.preset, "data": run.data, "images": run.model}
    kimg = f"{last.get('images', 0) / 1000:.1f} of {run.training.total_kimg:g} kimg"
    rows["trained"] = ", ".join([kimg, *_minutes(path, run.training)])
    if "images_per_second" in last:
        rows["speed"] = f"{last['images_per_second']:.0f} images/s"
        rows["last log"] = losses(last)
    if scores := [f"{key.removeprefix(EVALUATION)} {value:.4g}" for key, value in last.items() if EVALUATION in key]:
        rows["last evaluation"] = scores[0]
    if (path / "best.json").exists():
        try:
            best = read_model(path / "best.json", Best, "best checkpoint")
            rows["best"] = f"{best.name} {best.score:.4g} at {best.checkpoint}"
        except UserError as error:
            rows["best"] = f"{error}: delete the file, and the next evaluation begins it anew"
    rows["checkpoints"] = ", ".join(_checkpoints(path)[-3:]) or "none"
    rows["picture"] = pictures[-1] if pictures else "none"
    rows["go on"] = command("train", "--resume", path)
    rows["sizes, costs"] = command("train", "--resume", path, "--dry-run")
    for name, value in rows.items():
        if name == "last log":
            _print_wrapped(f"{name:<16} ", str(value))
        else:  # paths and commands are copied
            print(f"{name:<16} {one_line(str(value))}")


def _minutes(path: Path, length: Length) -> list[str]:
    """How much of a run's minutes its newest checkpoint has used, where they are limited."""
    try:
        times = read_model(path / "checkpoints" / _checkpoints(path)[-1] / "state.json", Times, "checkpoint")
    except (IndexError, UserError):
        return []  # none yet, or a resume says what is wrong with it
    budgets = (
        (times.wall_seconds, length.max_minutes, "minutes"),
        (times.cpu_seconds, length.max_cpu_minutes, "CPU minutes"),
    )
    return [f"{seconds / 60:.1f} of {minutes:g} {unit}" for seconds, minutes, unit in budgets if minutes is not None]


def _print_wrapped(before: str, text: str, indent: int | None = None) -> None:
    """In lines that fit the terminal, those after the first below the text or at an indent."""
    width, following = shutil.get_terminal_size().columns - 1, " " * (len(before) if indent is None else indent)
    print(textwrap.fill(before + text, width, subsequent_indent=following, break_on_hyphens=False))


def _show_networks(config: "GeneratorSpec | ModelConfig", **costs: "Costs") -> None:
    """A column for each network: what it costs, its sizes, and what else is not the default of its kind."""
    from vitgan.config import flat, idle_beside

    images, values = Images.model_validate(config, from_attributes=True), dict(flat({"model": config.model_dump()}))
    rows: dict[str, list[str]] = {
        "kind": [getattr(config, name).kind for name in costs],
        "parameters": [f"{cost.parameters:,}" for cost in costs.values()],
        "GFLOPs per image": [f"{cost.flops_per_image / 1e9:.3f}" for cost in costs.values()],
    }
    for column, name in enumerate(costs):
        network = getattr(config, name)
        for field, about in type(network).model_fields.items():
            value = getattr(network, field)
            if idle_beside(f"model.{name}.{field}", values):
                continue
            if field != "kind" and (type(value) is int or value != about.default):
                shown = f"{value:g}" if isinstance(value, float) else one_line(str(value), 60)
                rows.setdefault(field, [""] * len(costs))[column] = shown
    _print_wrapped("", f"images: {images}; not listed: what is the default of its kind", indent=2)
    for name, values in {"": list(costs), **rows}.items():
        print(f"{name:<28}{''.join(f'{value:>16}' for value in values)}".rstrip())
