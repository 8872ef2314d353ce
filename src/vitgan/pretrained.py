"""Saved generators: a folder with `config.json` and `model.safetensors`, and how any of their homes is opened.

No pickle is ever read: weights are safetensors, configurations JSON validated against the schema. A folder from a
stranger can run no code, name no other file, and ask for no more memory than `vitgan.weights` allows.
"""

from pathlib import Path

import torch

from vitgan.errors import UserError
from vitgan.files import one_line, read_model, write_json
from vitgan.models.build import GeneratorSpec, ModelConfig, build_generator
from vitgan.models.generator import Generator
from vitgan.training.checkpoint import checkpoints, latest_checkpoint, verify_checkpoint
from vitgan.weights import check_parameters, check_sizes, load_weights, write_tensors

WEIGHTS, CONFIG = "model.safetensors", "config.json"
PICKLES = {".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin"}


def save(generator: Generator, spec: GeneratorSpec, folder: str | Path) -> Path:
    """Writes a generator as a model folder; float32 weights, `w_mean` brought up to date.

    Raises:
        UserError: If the folder cannot be written.
    """
    folder = Path(folder)
    generator.update_w_mean()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_tensors(folder / WEIGHTS, generator.state_dict())
        write_json(folder / CONFIG, spec.model_dump(mode="json"))
    except OSError as error:
        raise UserError(f"cannot write the model {folder}: {error.strerror}; choose another folder") from error
    return folder


def load(path: str | Path, device: str | torch.device = "cpu") -> Generator:
    """Opens a trained generator, in evaluation mode.

    Args:
        path: A model folder, a run folder (its newest whole checkpoint) or a checkpoint folder; the averaged weights
            are taken from a run.
        device: Where to put it.

    Raises:
        UserError: If there is no such model, its files are damaged or do not fit each other, its sizes are beyond what
            is loaded unasked, or the device is not there.
    """
    weights, spec = locate(Path(path))
    generator = build_unfilled(spec, weights)
    load_weights(generator, weights)
    generator = generator.eval().requires_grad_(False)
    try:
        return generator.to(device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(one_line(f"the device {device} cannot be used: {reason}; choose cpu")) from error


def build_unfilled(spec: GeneratorSpec, path: Path) -> Generator:
    """The generator that a stranger's configuration describes, on "meta": shapes, no memory.

    Raises:
        UserError: If its sizes contradict each other or are beyond what is loaded unasked.
    """
    check_sizes(spec, path)
    try:
        generator = build_generator(spec, device="meta")
    except (RuntimeError, ValueError, OverflowError, ArithmeticError) as error:
        raise UserError(one_line(f"{path}: its configuration describes no generator: {error}")) from error
    check_parameters(generator, path)
    return generator


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
    if path.is_file() and path.suffix in PICKLES:
        raise UserError(
            f"{path} may be a pickle, which can run code when it is opened, and is not read: give a folder with "
            f"{WEIGHTS} and {CONFIG}"
        )
    if (path / WEIGHTS).exists():
        spec = read_model(path / CONFIG, GeneratorSpec, "model")
        check_sizes(spec, path / CONFIG)
        return path / WEIGHTS, spec
    if (path / "checkpoints").is_dir():
        checkpoint = latest_checkpoint(path)
        if checkpoint is None:
            for newest in reversed(checkpoints(path)):
                verify_checkpoint(newest)  # says what is wrong with it
            raise UserError(f"the run {path} has no whole checkpoint yet: let it train until its first one")
        return checkpoint / "generator_ema.safetensors", spec_of_run(path)
    if path.parent.name == "checkpoints":
        verify_checkpoint(path)
        return path / "generator_ema.safetensors", spec_of_run(path.parent.parent)
    raise UserError(f"{path} is no model: expected {WEIGHTS} and {CONFIG}, or a run's checkpoints folder, in it")


def spec_of_run(run: Path) -> GeneratorSpec:
    """The generator that a run trains.

    Raises:
        UserError: If the run's configuration cannot be read, or its sizes are beyond what is loaded unasked.
    """
    config = read_model(run / CONFIG, ModelConfig, "run", ("model",))
    check_sizes(config, run / CONFIG)
    return config.generator_spec()
