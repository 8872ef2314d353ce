"""Weights are read into what they fit exactly, and a damaged or hostile file is one line."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from vitgan.errors import UserError
from vitgan.files.tensors import digest, load_weights, read_tensors, recorded_digest, write_tensors


def sample() -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    return {
        "weight": torch.randn(3, 2, generator=rng),
        "bias": torch.randn(3, generator=rng),
        "scalar": torch.tensor(2.5),
        "half": torch.randn(3, 2, generator=rng).bfloat16(),
        "empty": torch.empty(0, 4),
        "flags": torch.tensor([True, False]),
        "transposed": torch.arange(6).view(2, 3).T,
    }


def with_header(data: bytes, change: Callable[[dict], object]) -> bytes:
    """The file with another header and the same tensors' bytes."""
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    changed = json.dumps(change(header) or header).encode()
    return struct.pack("<Q", len(changed)) + changed + data[8 + length :]


def test_what_is_written_is_read_again_and_the_same_tensors_give_the_same_bytes(tmp_path: Path) -> None:
    first = write_tensors(tmp_path / "a", sample())
    assert write_tensors(tmp_path / "b", dict(reversed(sample().items()))) == first == recorded_digest(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    again = read_tensors(tmp_path / "a", sample())
    assert all(again[name].equal(tensor) for name, tensor in sample().items())
    assert first == digest(again)
    write_tensors(tmp_path / "odd", {"odd": torch.tensor([torch.nan, torch.inf])})
    assert read_tensors(tmp_path / "odd")["odd"].isnan().tolist() == [True, False]


def test_a_digest_depends_on_every_name_type_shape_and_value() -> None:
    base = {"a": torch.zeros(2, 3)}
    others = [{"b": torch.zeros(2, 3)}, {"a": torch.zeros(3, 2)}, {"a": torch.zeros(2, 3).int()}]
    others += [{"a": torch.zeros(2, 3).index_fill(1, torch.tensor([2]), 1e-45)}, base | {"b": torch.zeros(0)}]
    assert len({digest(tensors) for tensors in (base, *others)}) == 1 + len(others)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:7],
        lambda data: data[:40],
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
        lambda data: struct.pack("<Q", 2**63) + data[8:],
        lambda data: struct.pack("<Q", 4) + b"null",
        lambda data: struct.pack("<Q", 100_000) + b"[" * 100_000,
        lambda data: with_header(data, lambda h: h["bias"].update(shape=[3, 10**12])),
        lambda data: with_header(data, lambda h: h["bias"].update(data_offsets=[0, 10**15])),
        lambda data: with_header(data, lambda h: h["bias"].update(dtype="OBJECT")),
        lambda data: with_header(data, lambda h: h["bias"].update(dtype="I32")),
        lambda data: with_header(data, lambda h: {("\x1b[31m" if k == "bias" else k): v for k, v in h.items()}),
        lambda data: with_header(data, lambda h: h.pop("scalar") and None),
        lambda data: with_header(data, lambda h: h["__metadata__"].update(sha256="0" * 64)),
        lambda data: b"\x80\x04" + data,
    ],
)
def test_damaged_and_hostile_files_are_one_line(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    write_tensors(tmp_path / "a", sample())
    (tmp_path / "a").write_bytes(damage((tmp_path / "a").read_bytes()))
    with pytest.raises(UserError) as error:
        read_tensors(tmp_path / "a", sample())
    assert str(error.value).isprintable()
    assert len(str(error.value)) <= 1000


def test_a_module_gets_only_what_fits_it(tmp_path: Path) -> None:
    module = nn.Linear(2, 3)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    weight, bias = torch.ones(3, 2), torch.ones(3)
    for tensors in (
        {"weight": weight},
        {"weight": weight, "bias": bias, "more": bias + 1},
        {"weight": weight.T, "bias": bias},
        {"weight": weight.double(), "bias": bias},
    ):
        write_tensors(tmp_path / "a", tensors)
        with pytest.raises(UserError):
            load_weights(module, tmp_path / "a")
    assert all(tensor.equal(before[name]) for name, tensor in module.state_dict().items())
    save_file({"weight": weight.half(), "bias": bias.bfloat16()}, tmp_path / "halves")  # by others: without a digest
    load_weights(module, tmp_path / "halves")
    assert module.weight.dtype == torch.float32
    assert module.weight.equal(weight)
