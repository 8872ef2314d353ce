"""DINOv2 and CLIP, tiny and with weights out of seeds; skipped where `transformers` is not installed."""

import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from refusals import refused
from vitgan.metrics.features import check_features, load_extractor
from vitgan.metrics.transformer_features import load_transformer

os.environ.setdefault("HF_HUB_OFFLINE", "1")

Saved = Callable[[str], Path]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """Kind -> the folder of a network that `transformers` wrote."""
    transformers = pytest.importorskip("transformers")
    place = tmp_path_factory.mktemp("networks")
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = sizes | {"intermediate_size": 32, "image_size": 28, "patch_size": 14, "projection_dim": 10}
    text = sizes | {"intermediate_size": 32, "vocab_size": 40, "projection_dim": 10}

    def make(kind: str) -> Any:
        if kind == "dinov2":
            return transformers.Dinov2Model(transformers.Dinov2Config(**sizes, image_size=42, patch_size=14))
        if kind == "clip":
            return transformers.CLIPModel(
                transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=10)
            )
        if kind == "clip-vision":
            return transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**vision))
        return transformers.ViTModel(transformers.ViTConfig(**sizes, image_size=28, patch_size=14))

    def folder(kind: str) -> Path:
        path = place / kind
        if not path.exists():
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(1)
                make(kind).save_pretrained(path)
        return path

    return folder


def images(side: int) -> torch.Tensor:
    return torch.randint(0, 256, (3, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("kind", "side", "name"), [("dinov2", 224, "dinov2"), ("clip", 28, "clip"), ("clip-vision", 28, "clip")]
)
def test_features_are_those_of_transformers_own_preparation(saved: Saved, kind: str, side: int, name: str) -> None:
    """Its image processor on images of the network's size, then the model's field."""
    import transformers

    folder, pixels = saved(kind), images(side)
    extractor = load_extractor(str(folder))
    features, logits = extractor(pixels)
    constants: Any = transformers.image_utils
    mean, std = (
        (constants.IMAGENET_DEFAULT_MEAN, constants.IMAGENET_DEFAULT_STD)
        if name == "dinov2"
        else (constants.OPENAI_CLIP_MEAN, constants.OPENAI_CLIP_STD)
    )
    prepared = (pixels.double() / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    with torch.no_grad():
        if name == "dinov2":
            hidden = transformers.Dinov2Model.from_pretrained(folder)(prepared.float()).last_hidden_state
            expected = hidden[:, 0]
        else:
            model = transformers.CLIPVisionModelWithProjection.from_pretrained(folder)
            expected = model.visual_projection(model.vision_model(prepared.float()).pooler_output)
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)
    assert features.shape == (3, extractor.dimension)
    assert logits.shape == (3, 0)
    assert extractor.name.startswith(f"{name}-")
    assert not extractor.paper_comparable


def test_images_are_resized_as_pillow_does(saved: Saved) -> None:
    """Smooth images, on which Pillow's rounding to bytes costs least."""
    coarse = Image.fromarray(images(3)[0].permute(1, 2, 0).numpy())
    picture = coarse.resize((64, 64), Image.Resampling.BILINEAR)
    resized = picture.resize((28, 28), Image.Resampling.BICUBIC)
    extractor = load_extractor(str(saved("clip")))
    small, large = (
        extractor(torch.from_numpy(np.array(p)).permute(2, 0, 1).unsqueeze(0))[0] for p in (resized, picture)
    )
    torch.testing.assert_close(large, small, rtol=0.02, atol=0.02 * small.abs().max().item())


def test_loading_leaves_the_random_state_and_names_the_weights(saved: Saved, tmp_path: Path) -> None:
    folder = saved("dinov2")
    before = torch.get_rng_state()
    name = load_extractor(str(folder)).name
    assert torch.equal(before, torch.get_rng_state())
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text((folder / "config.json").read_text())
    weights = load_file(folder / "model.safetensors")
    save_file({key: 1.5 * value for key, value in weights.items()}, other / "model.safetensors")
    assert load_extractor(str(other)).name != name


def test_folders_of_another_kind_are_refused(saved: Saved, tmp_path: Path) -> None:
    part = tmp_path / "part"
    part.mkdir()
    (part / "config.json").write_text((saved("dinov2") / "config.json").read_text())
    weights = load_file(saved("dinov2") / "model.safetensors")
    for index, content in enumerate(({}, weights, dict(list(weights.items())[1:]))):
        if index == 1:
            (part / "model.safetensors").write_bytes(b"\x08")
        elif content:
            save_file(content, part / "model.safetensors")
        _refused(part)
    (part / "config.json").write_text(json.dumps(["dinov2"]))
    _refused(part)
    _refused(saved("vit"))
    _refused(tmp_path / "nowhere")


def _refused(folder: Path) -> None:
    with refused(folder, parameter="features"):
        load_transformer(str(folder))


def test_the_package_is_named_where_it_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with refused("pip install 'vitgan[transformers]'", parameter="features"):
        load_extractor("facebook/dinov2-large")


def test_only_paths_and_repositories_are_names() -> None:
    assert check_features("./dinov2") == "./dinov2"
    with refused("dinov2", parameter="features"):
        check_features("dinov2")
