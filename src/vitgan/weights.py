"""Weights from safetensors files into modules that must fit them exactly."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from vitgan.errors import UserError


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file.

    Raises:
        UserError: If the file cannot be read.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot read the weights {path}: {error}") from error


def load_weights(module: nn.Module, path: Path) -> None:
    """Loads a safetensors file into a module that must fit it exactly; one built on "meta" gets the file's tensors.

    Raises:
        UserError: If the file cannot be read, or holds other names or shapes.
    """
    tensors = read_tensors(path)
    expected = module.state_dict()
    if tensors.keys() != expected.keys():
        odd = sorted(tensors.keys() ^ expected.keys())[0]
        raise UserError(f"{path} is of another configuration: {odd!r} is in only one of the file and the model")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            shapes = f"{tuple(tensor.shape)}, the model {tuple(expected[name].shape)}"
            raise UserError(f"{path} is of another configuration: {name!r} has the shape {shapes}")
    module.load_state_dict(tensors, assign=any(p.is_meta for p in module.parameters()))
