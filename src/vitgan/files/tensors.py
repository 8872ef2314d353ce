"""Weights in safetensors files: written whole, read only into modules that they fit exactly.

A file may be a stranger's. Nothing in it can name code or another file; its tensors' names, shapes and types must be
the module's own, and a SHA-256 over all of them in the header tells a damaged file, where whoever wrote it put it there.
One that cannot be read or does not fit is a UserError.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from pydantic import BaseModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from vitgan.errors import UserError, one_line
from vitgan.files.reading import regular_size, user_error
from vitgan.files.writing import write_bytes
from vitgan.schema import flat

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
    kinds = OSError, SafetensorError, ValueError, TypeError, RuntimeError, OverflowError, MemoryError
    with user_error(f"cannot read the weights {path}", *kinds):
        regular_size(path)
        with safe_open(path, framework="pt") as file:
            yield file


def recorded_digest(path: Path) -> str | None:
    """The digest in the header of a safetensors file of the length that the header announces."""
    with _opened(path) as file:
        return (file.metadata() or {}).get(DIGEST)


def read_tensors(path: Path, expected: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
    """All tensors of a safetensors file, mapped into memory.

    Args:
        path: The file.
        expected: Tensors (on "meta", say) whose names, shapes and types the file's must have, see `misfit`.
    """
    with _opened(path) as file:
        tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
        recorded = (file.metadata() or {}).get(DIGEST)
    if expected is not None:
        check_tensors(path, tensors, expected)
    if recorded is not None and recorded != digest(tensors):
        raise UserError(f"the weights {path} are damaged: their SHA-256 is not the one in the header; fetch them again")
    return tensors


def check_tensors(path: Path, tensors: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Refuses tensors that were read from `path` and do not fit."""
    if (odd := misfit(tensors, expected)) is not None:
        raise UserError(f"{path} is of another configuration: {odd}")


def misfit(tensors: dict[str, Tensor], expected: dict[str, Tensor]) -> str | None:
    """The first tensor of another name, shape or type than expected, but for halves, in words; None if all fit."""
    for name in sorted(tensors.keys() | expected.keys()):
        if name not in tensors or name not in expected:
            return f"{one_line(name)!r} is in only one of the file and the model"
        if (found := tuple(tensors[name].shape)) != (shape := tuple(expected[name].shape)):
            return f"{one_line(name)!r} has the shape {found}, the model {shape}"
        if tensors[name].dtype not in (dtype := expected[name].dtype, *(HALVES if dtype == torch.float32 else ())):
            return f"{one_line(name)!r} has the type {tensors[name].dtype}, the model's is {dtype}"
    return None


def load_weights(module: nn.Module, path: Path) -> None:
    """Loads a safetensors file into a module that it fits exactly, but for halves where the module has float32."""
    expected = module.state_dict()
    fill(module, {name: tensor.to(expected[name].dtype) for name, tensor in read_tensors(path, expected).items()})


def fill(module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Gives a module its tensors: one on "meta" gets these as its own, into another they are copied, wherever it is."""
    module.load_state_dict(tensors, assign=any(tensor.is_meta for tensor in module.state_dict().values()))


def check_sizes(config: BaseModel, path: Path) -> None:
    """Refuses a configuration from a file whose sizes would exhaust memory or time before anything is built from it.

    Set the environment variable VITGAN_TRUST_SIZES=1 to load it all the same.
    """
    for name, value in flat(config.model_dump()):
        if not isinstance(value, int | float):
            continue
        field = name.rsplit(".", 1)[-1]
        repeated = field in ("depth", "mapping_layers", "label_mapping_layers")
        largest = LARGEST_REPEATED if repeated else LARGEST_RESOLUTION if field == "resolution" else LARGEST_SIZE
        _bound(path, name, value, largest)
    resolution = getattr(config, "resolution", 0)
    for network in ("generator", "discriminator"):
        patch_size = getattr(getattr(config, network, None), "patch_size", LARGEST_RESOLUTION)
        _bound(path, f"the {network}'s number of tokens", (resolution // patch_size) ** 2, LARGEST_TOKENS)


def check_parameters(module: nn.Module, path: Path) -> None:
    """Refuses a module, built on "meta" from a file, with more than 1,000,000,000 weights."""
    count = sum(tensor.numel() for tensor in module.state_dict().values())
    _bound(path, "the number of weights", count, LARGEST_PARAMETERS)


def _bound(path: Path, name: str, value: float, largest: int) -> None:
    if value > largest and os.environ.get(TRUST_SIZES, "") in ("", "0"):
        raise UserError(
            f"{path}: {name} is {value:.6g}, more than the {largest:,} that are loaded from a file unasked; "
            f"if you trust it, set {TRUST_SIZES}=1"
        )
