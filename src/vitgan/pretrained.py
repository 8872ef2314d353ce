"""Saved generators: a folder with `config.json` and `model.safetensors`, and how any of their homes is opened.

No pickle is ever read: weights are safetensors, configurations JSON validated against the schema.
"""

from pathlib import Path

import torch
from safetensors.torch import save_file

from vitgan.errors import UserError
from vitgan.files import read_model, write_json
from vitgan.models.build import GeneratorSpec, ModelConfig, build_generator
from vitgan.models.generator import Generator
from vitgan.training.checkpoint import latest_checkpoint, verify_checkpoint
from vitgan.weights import load_weights

WEIGHTS, CONFIG = "model.safetensors", "config.json"


def save(generator: Generator, spec: GeneratorSpec, folder: str | Path) -> Path:
    """Writes a generator as a model folder; float32 weights, `w_mean` brought up to date."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    generator.update_w_mean()
    save_file({name: t.contiguous() for name, t in generator.state_dict().items()}, folder / WEIGHTS)
    write_json(folder / CONFIG, spec.model_dump(mode="json"))
    return folder


def load(path: str | Path, device: str | torch.device = "cpu") -> Generator:
    """Opens a trained generator, in evaluation mode.

    Args:
        path: A model folder, a run folder (its newest whole checkpoint) or a checkpoint folder; the averaged weights
            are taken from a run.
        device: Where to put it.

    Raises:
        UserError: If there is no such model, or its files do not fit each other.
    """
    weights, spec = locate(Path(path))
    generator = build_generator(spec, device="meta")
    load_weights(generator, weights)
    return generator.eval().requires_grad_(False).to(device)


def locate(path: Path) -> tuple[Path, GeneratorSpec]:
    """The weights file and the description of the generator in any of its homes.

    Raises:
        UserError: If `path` is none of them.
    """
    if not path.exists():
        raise UserError(
            f"there is no model or run at {path}: give a model folder, a run folder or a checkpoint "
            "(`vitgan info` lists the runs)"
        )
    if (path / WEIGHTS).exists():
        return path / WEIGHTS, read_model(path / CONFIG, GeneratorSpec, "model")
    if (path / "checkpoints").is_dir():
        checkpoint = latest_checkpoint(path)
        if checkpoint is None:
            raise UserError(f"the run {path} has no whole checkpoint yet: let it train until its first one")
        return checkpoint / "generator_ema.safetensors", spec_of_run(path)
    if path.parent.name == "checkpoints":
        verify_checkpoint(path)
        return path / "generator_ema.safetensors", spec_of_run(path.parent.parent)
    raise UserError(f"{path} is no model: expected {WEIGHTS} and {CONFIG}, or a run's checkpoints folder, in it")


def spec_of_run(run: Path) -> GeneratorSpec:
    """The generator that a run trains."""
    return read_model(run / CONFIG, ModelConfig, "run", ("model",)).generator_spec()
