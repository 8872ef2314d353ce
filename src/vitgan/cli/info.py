"""`vitgan info`: presets, runs and models, with what they cost."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from vitgan.errors import UserError
from vitgan.files import one_line
from vitgan.pretrained.names import WEIGHTS, bundled_models, find_model

if TYPE_CHECKING:
    from vitgan.models.build import GeneratorSpec, ModelConfig


def info(name: Annotated[str | None, tyro.conf.Positional] = None, runs: Path = Path("runs")) -> None:
    """Shows presets, bundled models and runs, or one preset, run or model closely.

    examples:
      vitgan info
      vitgan info cifar10
      vitgan info fashion-mnist
      vitgan info runs/00000-quickstart

    Args:
        name: A preset, a run, checkpoint or model folder, a bundled model or a Hub repository user/name; nothing lists
            presets, bundled models and runs.
        runs: Where runs are looked for.
    """
    if name is None:
        _list_presets()
        _list_bundled()
        _list_runs(runs)
        return
    from vitgan.presets import PRESETS, preset, summary

    if name in PRESETS:
        print(f"preset {name}: {summary(name)}")
        _show_model(preset(name).model)
        if name in bundled_models():
            print(f"\nbundled model of the same name ({name}):")
            _show_folder(bundled_models()[name])
        return
    try:
        folder = find_model(name)
    except UserError as error:
        raise UserError(f"{name!r} is neither a preset ({', '.join(PRESETS)}) nor a model: {error}") from error
    _show_folder(folder)


COMMAND = info


def _list_presets() -> None:
    from vitgan.presets import CPU_PRESETS, PAPER_SIZES, VARIANTS, summary

    print("presets (`vitgan info PRESET` shows sizes and costs):")
    for name in (*CPU_PRESETS, *PAPER_SIZES):
        print(f"  {name:<22} {summary(name)}")
    print(f"and, of each of {', '.join(PAPER_SIZES)}:")
    for name, variant in VARIANTS.items():
        print(f"  ...-{name:<18} {' '.join((variant.__doc__ or '').split())}")


def _list_bundled() -> None:
    from vitgan.pretrained.generators import locate

    models = bundled_models()
    print("\nbundled models (`vitgan sample MODEL --grid grid.png`):" if models else "\nno bundled models")
    for name, folder in models.items():
        weights, spec = locate(folder)
        images = f"{spec.resolution}×{spec.resolution} {'grey' if spec.channels == 1 else 'RGB'}"
        print(f"  {name:<14} {images}, {weights.stat().st_size / 1e6:.1f} MB")


def _list_runs(folder: Path) -> None:
    from vitgan.training.checkpoint import checkpoints
    from vitgan.training.log import read_metrics

    runs = sorted(p.parent for p in folder.glob("*/config.json")) if os.path.isdir(folder) else []  # noqa: PTH112
    if not runs:
        print(f"\nno runs in {folder}")
        return
    print(f"\n{'run':<40} {'kimg':>9}  newest checkpoint")
    for run in runs:
        records = read_metrics(run / "metrics.jsonl")
        images = records[-1]["images"] if records else 0
        newest = checkpoints(run)
        print(f"{run!s:<40} {images / 1000:>9.1f}  {newest[-1].name if newest else 'none'}")


def _show_folder(path: Path) -> None:
    from vitgan.pretrained.generators import locate
    from vitgan.runs.folder import config_of_run
    from vitgan.training.checkpoint import latest_checkpoint
    from vitgan.training.log import read_metrics

    if (path / "config.json").exists() and not (path / WEIGHTS).exists():
        config = config_of_run(path)
        newest = latest_checkpoint(path)
        print(f"run {path}: preset {config.preset}, data {config.data}")
        print(f"newest whole checkpoint: {newest.name if newest else 'none'}")
        records = read_metrics(path / "metrics.jsonl")
        if records:
            print("last log: " + ", ".join(f"{k} {v:.4g}" for k, v in records[-1].items()))
        _show_model(config.model)
        return
    weights, spec = locate(path)
    print(f"model {weights}")
    card = weights.with_name("README.md")
    if card.is_file() and weights.name == WEIGHTS:
        print(f"its card: {card}")
        if training := re.search(r"^## Training\n\n(.+)$", card.read_text("utf-8", "replace"), re.MULTILINE):
            print(f"its training: {one_line(training[1])}")
    _show_generator(spec)


def _show_model(config: "ModelConfig") -> None:
    from vitgan.models.costs import model_costs

    generator, discriminator = model_costs(config)
    print(f"images         {config.resolution}×{config.resolution}, {config.channels} channel(s)")
    for name, costs in (("generator", generator), ("discriminator", discriminator)):
        print(f"{name:<14} {costs.parameters:>12,} parameters, {costs.flops_per_image / 1e9:.3f} GFLOPs per image")
    print(f"generator      {config.generator.model_dump()}")
    print(f"discriminator  {config.discriminator.model_dump()}")


def _show_generator(spec: "GeneratorSpec") -> None:
    from vitgan.models.build import ModelConfig
    from vitgan.models.costs import model_costs

    generator, _ = model_costs(ModelConfig(**spec.model_dump()))
    print(f"images         {spec.resolution}×{spec.resolution}, {spec.channels} channel(s)")
    print(f"generator      {generator.parameters:,} parameters, {generator.flops_per_image / 1e9:.3f} GFLOPs per image")
    print(f"               {spec.generator.model_dump()}")
