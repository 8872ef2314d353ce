"""Saved generators: a folder with `config.json` and `model.safetensors`, and how any of their homes is opened.

No pickle is ever read: weights are safetensors, configurations JSON validated against the schema. A folder from a
stranger can run no code, name no other weights than a VAE of a given digest, and ask for no more memory than
`vitgan.files.tensors` allows.
"""

from pathlib import Path
from typing import Literal, TypeVar, get_args

import torch
from torch import Tensor, nn

from vitgan.devices import find_device, usual_torch
from vitgan.errors import UserError
from vitgan.files import read_model, user_error, write_json
from vitgan.files.folders import new_folder
from vitgan.files.tensors import check_parameters, check_sizes, digest, load_weights, read_tensors, write_tensors
from vitgan.frozen.features import name_for_others
from vitgan.frozen.vae import save_copy
from vitgan.models.build import FEATURE_FIELDS, GeneratorSpec, ModelConfig, build_generator
from vitgan.models.draws import checked_choice
from vitgan.models.generator import Generator
from vitgan.pretrained.names import CONFIG, NETWORKS, NETWORKS_CONFIG, VAE, WEIGHTS, find_model, run_of_checkpoint
from vitgan.training.checkpoint import checkpoints, latest_checkpoint, verify_checkpoint

Storage = Literal["float32", "float16"]
Spec = TypeVar("Spec", GeneratorSpec, ModelConfig)
MODEL_FOLDER = "model folder"
"""What a folder's marker (`vitgan.files.folders`) calls it."""
EMA = "generator_ema.safetensors"
SMALL = 4096
PICKLES = {".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin"}


def save(generator: Generator, folder: str | Path, storage: Storage = "float32") -> Path:
    """Writes a generator as a model folder, `w_mean` brought up to date.

    Args:
        generator: The model.
        folder: Where to; it must be new, empty, or a model folder as it was written (`vitgan.files.folders`).
        storage: "float16" halves the file: weights of more than 4096 values are rounded to 11 bits (a trained CIFAR-10
            model's images change by 0.02 of 255 on average, 6 at most); smaller ones, frequencies of positions among
            them, cost nothing and stay float32.

    Raises:
        UserError: If the folder may not be replaced or cannot be written, or there is no such storage.
    """
    with new_folder(Path(folder), MODEL_FOLDER) as place:
        write_model(generator, place, storage)
    return Path(folder)


def write_model(generator: Generator, folder: Path, storage: Storage = "float32") -> None:
    """Writes the two files of a model into a folder that is there; see `save`.

    Raises:
        OSError: If they cannot be written.
    """
    generator.update_w_mean()
    write_tensors(folder / WEIGHTS, _stored(generator.state_dict(), storage))
    spec = generator.spec
    if spec.vae is not None and save_copy(spec.vae, folder / VAE):
        spec = _with_vae_at(spec, VAE)
    write_json(folder / CONFIG, spec.model_dump(mode="json"))


def write_networks(source: Path, folder: Path, storage: Storage = "float32") -> None:
    """Writes G and D as one file, so that others can go on training from the model (`init_from`), and their sizes.

    Args:
        source: A checkpoint, or a model folder that carries its networks.
        folder: Where to.
        storage: See `save`.

    Raises:
        UserError: If there are no networks, they or their configuration cannot be read, or the frozen network that D
            stands on is not here.
        OSError: If a file cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    carried = (source / WEIGHTS).exists()
    for network in ("networks",) if carried else ("generator", "discriminator"):
        file = source / f"{network}.safetensors"
        if not file.exists():
            raise UserError(
                f"{source} has no {file.name}: pass a run, a checkpoint, or a model that carries its networks"
            )
        prefix = "" if carried else f"{network}."
        tensors |= {f"{prefix}{name}": tensor for name, tensor in read_tensors(file).items()}
    config = networks_config(source / (WEIGHTS if carried else EMA))
    config = _with_vae_at(config, VAE) if (folder / VAE).is_dir() else config
    features = {
        field: name_for_others(name)
        for field in FEATURE_FIELDS
        if (name := getattr(config.discriminator, field, None)) is not None
    }
    config = config.model_copy(update={"discriminator": config.discriminator.model_copy(update=features)})
    write_tensors(folder / NETWORKS, _stored(tensors, storage))
    write_json(folder / NETWORKS_CONFIG, config.model_dump(mode="json"))


def _with_vae_at(spec: Spec, place: str) -> Spec:
    return spec.model_copy(update={"vae": spec.vae and spec.vae.model_copy(update={"name": place})})


def weights_digest(generator: Generator) -> str:
    """SHA-256 of a generator's weights, as they are loaded: an evaluation knows them by it. `w_mean` follows from them."""
    tensors = {name: tensor.cpu().contiguous() for name, tensor in generator.state_dict().items() if name != "w_mean"}
    return digest(tensors)


def _stored(tensors: dict[str, Tensor], storage: Storage) -> dict[str, Tensor]:
    checked_choice(storage, get_args(Storage), "storage")

    def stored(tensor: Tensor) -> Tensor:
        if tensor.dtype == torch.float64:  # which `load` refuses
            tensor = tensor.float()
        large = tensor.is_floating_point() and tensor.numel() > SMALL
        return tensor.half() if large and storage == "float16" else tensor

    return {name: stored(tensor) for name, tensor in tensors.items()}


@usual_torch()
def load(name: str | Path, device: str | torch.device = "cpu") -> Generator:
    """Opens a trained generator, in evaluation mode; weights stored in half precision become float32.

    Args:
        name: A model folder, a run folder (its newest whole checkpoint), a checkpoint folder, the name of a bundled
            model ("fashion-mnist"; `vitgan info` lists them), or a Hub repository "user/name", optionally
            "user/name@revision". An existing path comes first. The averaged weights are taken from a run.
        device: Where to put it: "cpu", "cuda", "cuda:1", "mps", or "auto".

    Raises:
        UserError: If there is no such model, its files are damaged or do not fit each other, its sizes are beyond what
            is loaded unasked, or the device is not there.
    """
    place = find_device(str(device))
    weights, spec = locate(name)
    generator = build_unfilled(spec, weights)
    try:
        load_weights(generator, weights)
    except UserError:
        if weights.exists():
            raise
        load_weights(
            generator, locate(name)[0]
        )  # of a run in training, whose next checkpoint took the place of this one
    return generator.eval().requires_grad_(False).to(place)


def locate_networks(name: str | Path) -> Path:
    """As `locate`, the weights file of the averaged generator, with G and D beside it.

    Raises:
        UserError: If `name` is no model, or has the averaged generator alone.
    """
    weights, _ = locate(name, networks=True)
    if weights.name == WEIGHTS and not weights.with_name(NETWORKS).exists():
        raise UserError(
            f"{name} has the averaged generator alone, and no discriminator: give a run, a checkpoint, or a model exported "
            "with `vitgan export hub --networks`"
        )
    return weights


def load_networks(weights: Path, generator: nn.Module, discriminator: nn.Module) -> None:
    """Fills G and D from beside a weights file of `locate_networks`.

    Raises:
        UserError: If they cannot be read, or are of other sizes.
    """
    networks = {"generator": generator, "discriminator": discriminator}
    if weights.name == WEIGHTS:
        load_weights(nn.ModuleDict(networks), weights.with_name(NETWORKS))
    else:
        for network, module in networks.items():
            load_weights(module, weights.with_name(f"{network}.safetensors"))


def networks_config(weights: Path) -> ModelConfig:
    """The sizes of the G and D beside a weights file of `locate_networks`.

    Raises:
        UserError: If they cannot be read, or are beyond what is loaded unasked.
    """
    run = None if weights.name == WEIGHTS else run_of_checkpoint(weights.parent)
    file, keys = (weights.with_name(NETWORKS_CONFIG), ()) if run is None else (run / CONFIG, ("model",))
    config = read_model(file, ModelConfig, "model with its networks" if run is None else "run", keys)
    _check_said(config, file)
    check_sizes(config, file)
    return config


def _check_said(spec: GeneratorSpec | ModelConfig, file: Path) -> None:
    """Refuses a file without what no default can stand for: weights often fit another resolution too."""
    if missing := sorted({"resolution", "channels", "num_classes", "generator"} - spec.model_fields_set):
        raise UserError(f"{file} does not say the model's {' and '.join(missing)}: take the whole file of the model")


def build_unfilled(spec: GeneratorSpec, path: Path) -> Generator:
    """The generator that a stranger's configuration describes, on "meta": shapes, no memory.

    Raises:
        UserError: If its sizes contradict each other or are beyond what is loaded unasked.
    """
    check_sizes(spec, path)
    with user_error(f"{path}: its configuration describes no generator", RuntimeError, ValueError, ArithmeticError):
        generator = build_generator(spec, device="meta")
    check_parameters(generator, path)
    return generator


def locate(name: str | Path, networks: bool = False) -> tuple[Path, GeneratorSpec]:
    """The weights file and the description of the generator in any of its homes; `networks` as in `find_model`.

    Raises:
        UserError: If `name` is none of them.
    """
    path = find_model(name, networks=networks)
    if path.is_file() and path.suffix in PICKLES:
        raise UserError(
            f"{path} may be a pickle, which can run code when it is opened, and is not read: give a folder with "
            f"{WEIGHTS} and {CONFIG}"
        )
    if (path / WEIGHTS).exists():
        spec = read_model(path / CONFIG, GeneratorSpec, "model")
        _check_said(spec, path / CONFIG)
        check_sizes(spec, path / CONFIG)
        return path / WEIGHTS, _with_vae_at(spec, str(path / VAE)) if (path / VAE).is_dir() else spec
    if (path / "checkpoints").is_dir():
        checkpoint = latest_checkpoint(path)
        if checkpoint is None:
            for newest in reversed(checkpoints(path)):
                verify_checkpoint(newest)  # says what is wrong with it
            raise UserError(f"the run {path} has no whole checkpoint yet: let it train until its first one")
    elif run_of_checkpoint(path) is not None:
        verify_checkpoint(path)
        checkpoint = path
    else:
        raise UserError(f"{path} is no model: expected {WEIGHTS} and {CONFIG}, or a run's checkpoints folder, in it")
    return checkpoint / EMA, networks_config(checkpoint / EMA).generator_spec()
