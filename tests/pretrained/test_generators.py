"""Model folders: the same model gives the same bytes, and damage is told."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import vitgan
from generators import KINDS, VIT, make
from refusals import refused
from tiny import tiny_model
from vitgan.files.tensors import read_tensors, write_tensors
from vitgan.models.build import GeneratorSpec, build_generator
from vitgan.models.stylegan2_generator import StyleGAN2GeneratorConfig
from vitgan.models.vit_generator import ViTGeneratorConfig
from vitgan.pretrained.generators import build_unfilled

# Wide enough for most weights to be in large tensors.
WIDE = {
    "vit": ViTGeneratorConfig(**{**VIT, "dim": 96, "inr_dim": 96, "w_dim": 96, "z_dim": 96}),
    "stylegan2": StyleGAN2GeneratorConfig(z_dim=64, w_dim=64, mapping_layers=2, channel_base=512, channel_max=64),
}


def saved(folder: Path) -> Path:
    spec = tiny_model().generator_spec()
    return vitgan.save(build_generator(spec, seed=3), folder)


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    one, two = saved(tmp_path / "one"), saved(tmp_path / "two")
    assert sorted(path.name for path in one.iterdir()) == [".vitgan.json", "config.json", "model.safetensors"]
    for path in one.iterdir():
        assert path.read_bytes() == (two / path.name).read_bytes()


def test_any_safetensors_reader_reads_the_weights(tmp_path: Path) -> None:
    tensors = load_file(saved(tmp_path) / "model.safetensors")
    expected = build_generator(tiny_model().generator_spec(), seed=3).state_dict()
    assert tensors.keys() == expected.keys()
    assert all(tensors[name].equal(expected[name]) for name in tensors if name != "w_mean")


@pytest.mark.parametrize("kind", ["vit", "stylegan2"])
def test_half_precision_storage_is_smaller_and_loads_as_float32(tmp_path: Path, kind: str) -> None:
    spec = GeneratorSpec(resolution=16, generator=WIDE[kind])
    generator = build_generator(spec, seed=1).eval().requires_grad_(False)
    full = vitgan.load(vitgan.save(generator, tmp_path / "full"))
    assert full.spec == generator.spec
    half = vitgan.load(vitgan.save(generator, tmp_path / "half", storage="float16"))
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("full", "half")]
    assert sizes[1] < 0.65 * sizes[0]
    for name, tensor in full.state_dict().items():
        found = half.state_dict()[name]
        assert found.dtype == tensor.dtype
        # 11 bits of mantissa: half a unit in the last place of a float16.
        torch.testing.assert_close(found, tensor, rtol=2**-11, atol=1e-7)
        assert tensor.numel() > 4096 or torch.equal(found, tensor)
    assert (half.sample(4) - full.sample(4)).abs().max() < 0.02


def test_a_float64_model_is_stored_as_what_load_reads(tmp_path: Path) -> None:
    generator = make("vit")
    images = generator.sample(2)
    torch.testing.assert_close(vitgan.load(vitgan.save(generator.double(), tmp_path / "m")).sample(2), images)


def test_an_unknown_storage_is_refused_and_not_taken_for_half(tmp_path: Path) -> None:
    with refused(parameter="storage"):
        vitgan.save(make("vit"), tmp_path / "m", storage="bf16")  # pyright: ignore[reportArgumentType]
    assert not any(tmp_path.iterdir())


def test_weights_in_bf16_from_elsewhere_load_as_float32(tmp_path: Path) -> None:
    tensors = read_tensors(saved(tmp_path) / "model.safetensors")
    write_tensors(tmp_path / "model.safetensors", {name: tensor.bfloat16() for name, tensor in tensors.items()})
    loaded = vitgan.load(tmp_path).state_dict()
    for name, tensor in tensors.items():
        assert loaded[name].dtype == torch.float32
        assert torch.equal(loaded[name], tensor.bfloat16().float())


@pytest.mark.parametrize("field", ["resolution", "channels", "num_classes", "generator"])
def test_a_configuration_that_lost_a_field_is_no_other_models(tmp_path: Path, field: str) -> None:
    """An implicit decoder's weights fit any resolution, and 32 is the default."""
    folder = saved(tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    del config[field]
    (folder / "config.json").write_text(json.dumps(config))
    with refused(folder / "config.json", field):
        vitgan.load(folder)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_generator_built_for_its_shapes_has_those_of_a_real_one(kind: str) -> None:
    spec = GeneratorSpec(resolution=16, num_classes=3, generator=KINDS[kind])
    shapes, real = build_unfilled(spec, Path("config.json")).state_dict(), build_generator(spec).state_dict()
    assert {n: (t.shape, t.dtype) for n, t in shapes.items()} == {n: (t.shape, t.dtype) for n, t in real.items()}
    assert all(tensor.is_meta for tensor in shapes.values())


def test_loading_a_vit_imports_no_compiler(tmp_path: Path) -> None:
    """torch's compiler and sympy take longer to import than a model takes to sample."""
    code = f"import sys, vitgan; vitgan.load({str(saved(tmp_path))!r}).sample(1); sys.exit('sympy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
