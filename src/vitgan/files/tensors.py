"""Weights in safetensors files: written whole, read only into modules that they fit exactly.

A file may be a stranger's. Nothing in it can name code or another file; its tensors' names, shapes and types must be
the module's own, and a SHA-256 over all of them in the header tells a damaged file, where whoever wrote it put it there.
"""

import hashlib
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from pydantic import BaseModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from vitgan.errors import UserError
from vitgan.files.reading import one_line, regular_size
from vitgan.files.writing import write_bytes

DIGEST = "sha256"
HALVES = (torch.float16, torch.bfloat16)
"""Types that are loaded as float32."""
TRUST_SIZES = "VITGAN_TRUST_SIZES"

LARGEST_PARAMETERS = 1_000_000_000
LARGEST_REPEATED = 256
LARGEST_RESOLUTION = 4096
LARGEST_TOKENS = 16_384
LARGEST_SIZE = 1 << 20


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> str:
    """Writes tensors as a safetensors file, whole or not at all; the same tensors give the same bytes.

    Returns:
        Their digest, which the file's header holds too.

    Raises:
        OSError: If the file cannot be written.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    found = digest(tensors)
    write_bytes(path, save(tensors, metadata={DIGEST: found}))
    return found


def digest(tensors: dict[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes of contiguous tensors on the CPU, in order of names."""
    result = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        result.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        result.update(tensor.flatten().view(torch.uint8).numpy().data)
    return result.hexdigest()


@contextmanager
def _opened(path: Path) -> Iterator[safe_open]:
    try:
        regular_size(path)
        with safe_open(path, framework="pt") as file:
            yield file
    except (OSError, SafetensorError, ValueError, TypeError, RuntimeError, OverflowError, MemoryError) as error:
        raise UserError(one_line(f"cannot read the weights {path}: {error}")) from error


def recorded_digest(path: Path) -> str | None:
    """The digest in the header of a safetensors file of the length that the header announces.

    Raises:
        UserError: If the file cannot be read, or is cut short.
    """
    with _opened(path) as file:
        return (file.metadata() or {}).get(DIGEST)


def read_tensors(path: Path, expected: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
    """All tensors of a safetensors file, mapped into memory.

    Args:
        path: The file.
        expected: Tensors (on "meta", say) whose names, shapes and types the file's must have; looked at before any
            tensor is read.

    Raises:
        UserError: If the file cannot be read, is damaged, or holds other tensors than expected.
    """
    with _opened(path) as file:
        names = sorted(file.keys())
        if expected is not None:
            _check_names(path, set(names), expected)
            for name, tensor in expected.items():
                _check_shape(path, name, tuple(file.get_slice(name).get_shape()), tuple(tensor.shape))
        tensors = {name: file.get_tensor(name) for name in names}
        recorded = (file.metadata() or {}).get(DIGEST)
    if expected is not None:
        check_tensors(path, tensors, expected)
    if recorded is not None and recorded != digest(tensors):
        raise UserError(f"the weights {path} are damaged: their SHA-256 is not the one in the header; fetch them again")
    return tensors


def check_tensors(path: Path, tensors: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Refuses tensors that were read from `path` and are of other names, shapes or types than expected, but for halves.

    Raises:
        UserError: Naming the first one.
    """
    _check_names(path, set(tensors), expected)
    for name, tensor in expected.items():
        _check_shape(path, name, tuple(tensors[name].shape), tuple(tensor.shape))
        halved = tensor.dtype == torch.float32 and tensors[name].dtype in HALVES
        if tensors[name].dtype != tensor.dtype and not halved:
            types = f"{tensors[name].dtype}, the model's is {tensor.dtype}"
            raise UserError(one_line(f"{path} is of another configuration: {name!r} has the type {types}"))


def load_weights(module: nn.Module, path: Path) -> None:
    """Loads a safetensors file into a module that it fits exactly, but for halves where the module has float32.

    A module on "meta" gets the file's tensors as its own; into another they are copied, wherever it is.

    Raises:
        UserError: If the file cannot be read, is damaged, or holds other names, shapes or types.
    """
    expected = module.state_dict()
    tensors = {name: tensor.to(expected[name].dtype) for name, tensor in read_tensors(path, expected).items()}
    module.load_state_dict(tensors, assign=any(tensor.is_meta for tensor in expected.values()))


def check_sizes(config: BaseModel, path: Path) -> None:
    """Refuses a configuration from a file whose sizes would exhaust memory or time before anything is built from it.

    Set the environment variable VITGAN_TRUST_SIZES=1 to load it all the same.

    Raises:
        UserError: Naming the field.
    """
    if trusts_sizes():
        return
    for name, value in _numbers(config, ""):
        field = name.rsplit(".", 1)[-1]
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{path}: {name} is {value}: expected a finite number")
        repeated = field in ("depth", "mapping_layers", "label_mapping_layers")
        largest = LARGEST_REPEATED if repeated else LARGEST_RESOLUTION if field == "resolution" else LARGEST_SIZE
        if value > largest:
            raise _too_large(path, name, value, largest)
    resolution = getattr(config, "resolution", 0)
    for network in ("generator", "discriminator"):
        tokens = (resolution // getattr(getattr(config, network, None), "patch_size", LARGEST_RESOLUTION)) ** 2
        if tokens > LARGEST_TOKENS:
            raise _too_large(path, f"the {network}'s number of tokens", tokens, LARGEST_TOKENS)


def check_parameters(module: nn.Module, path: Path) -> None:
    """Refuses a module, built on "meta" from a file, with more than 1,000,000,000 weights.

    Raises:
        UserError: If it has more, and VITGAN_TRUST_SIZES is not set.
    """
    count = sum(tensor.numel() for tensor in module.state_dict().values())
    if count > LARGEST_PARAMETERS and not trusts_sizes():
        raise _too_large(path, "the number of weights", count, LARGEST_PARAMETERS)


def trusts_sizes() -> bool:
    """Whether the user said that sizes from files are not to be bounded."""
    return os.environ.get(TRUST_SIZES, "") not in ("", "0")


def _too_large(path: Path, name: str, value: float, largest: int) -> UserError:
    return UserError(
        f"{path}: {name} is {value:.6g}, more than the {largest:,} that are loaded from a file unasked; "
        f"if you trust it, set {TRUST_SIZES}=1"
    )


def _numbers(config: BaseModel, prefix: str) -> list[tuple[str, int | float]]:
    found: list[tuple[str, int | float]] = []
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, BaseModel):
            found += _numbers(value, f"{prefix}{name}.")
        elif isinstance(value, int | float):
            found.append((prefix + name, value))
    return found


def _check_names(path: Path, names: set[str], expected: dict[str, Tensor]) -> None:
    if names != expected.keys():
        odd = min(names ^ expected.keys())
        found = f"{odd!r} is in only one of the file and the model"
        raise UserError(one_line(f"{path} is of another configuration: {found}"))


def _check_shape(path: Path, name: str, found: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if found != expected:
        shapes = f"{found}, the model {expected}"
        raise UserError(one_line(f"{path} is of another configuration: {name!r} has the shape {shapes}"))
