"""Model folders: the same model gives the same bytes, and damage is told."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import vitgan
from tiny import tiny_model
from vitgan.errors import UserError
from vitgan.models.build import build_generator
from vitgan.weights import digest, read_tensors, write_tensors


def saved(folder: Path) -> Path:
    spec = tiny_model().generator_spec()
    return vitgan.save(build_generator(spec, seed=3), spec, folder)


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    one, two = saved(tmp_path / "one"), saved(tmp_path / "two")
    assert sorted(path.name for path in one.iterdir()) == ["config.json", "model.safetensors"]
    for path in one.iterdir():
        assert path.read_bytes() == (two / path.name).read_bytes()


def test_any_safetensors_reader_reads_the_weights(tmp_path: Path) -> None:
    tensors = load_file(saved(tmp_path) / "model.safetensors")
    expected = build_generator(tiny_model().generator_spec(), seed=3).state_dict()
    assert tensors.keys() == expected.keys()
    assert all(tensors[name].equal(expected[name]) for name in tensors if name != "w_mean")


def test_a_flipped_bit_in_a_weight_is_noticed(tmp_path: Path) -> None:
    path = saved(tmp_path) / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 4
    path.write_bytes(data)
    with pytest.raises(UserError, match="are damaged"):
        vitgan.load(tmp_path)


def test_digest_covers_names_types_shapes_and_bytes() -> None:
    base = {"a": torch.zeros(2, 3), "b": torch.ones(())}
    others = [
        {"a": torch.zeros(3, 2), "b": torch.ones(())},
        {"a": torch.zeros(2, 3, dtype=torch.int32), "b": torch.ones(())},
        {"c": torch.zeros(2, 3), "b": torch.ones(())},
        {"a": torch.zeros(2, 3), "b": torch.full((), 2.0)},
    ]
    assert digest(base) == digest(dict(reversed(base.items())))
    assert len({digest(tensors) for tensors in (base, *others)}) == 5


def test_tensors_of_all_kinds_go_there_and_back(tmp_path: Path) -> None:
    tensors = {
        "scalar": torch.tensor(1.5),
        "empty": torch.zeros(0, 3),
        "half": torch.randn(3, 2, generator=torch.Generator().manual_seed(0)).bfloat16(),
        "whole": torch.arange(4),
        "turned": torch.arange(6.0).view(2, 3).T,
        "nan": torch.tensor([torch.nan, torch.inf]),
    }
    path = tmp_path / "tensors.safetensors"
    write_tensors(path, tensors)
    found = read_tensors(path)
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0, equal_nan=True)
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {"sha256": digest(found)}
