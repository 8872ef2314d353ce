"""What is measured, and against what, is what was prepared."""

import json
from pathlib import Path

import numpy as np
import pytest

from refusals import refused
from tiny import tiny_model, tiny_run, write_vae
from toy_features import toy_extractor
from vitgan.data.encode import encode_store
from vitgan.data.store import ImageStore
from vitgan.data.writer import StoreWriter
from vitgan.presets import replaced
from vitgan.runs.evaluation import CACHE_FOLDER, check_evaluation, measure

COUNT = 24


@pytest.fixture(autouse=True)
def toy_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """Features that cost nothing, for what does not depend on them."""
    monkeypatch.setattr("vitgan.runs.evaluation.load_extractor", lambda name, *_, **__: toy_extractor(name))


@pytest.fixture
def protocol(tmp_path: Path) -> Path:
    fields = {"name": "small", "purpose": "test", "features": "lite0", "generated_images": COUNT}
    fields |= {"least_store_images": COUNT, "splits": 2, "kernel_subsets": 2, "manifold_images": COUNT}
    file = tmp_path / "small.json"
    file.write_text(json.dumps(fields))
    return file


def write_store(path: Path, seed: int = 0, side: int = 8) -> ImageStore:
    images = np.random.default_rng(seed).integers(0, 256, (COUNT, 3, side, side), dtype=np.uint8)
    with StoreWriter(path, resolution=side, channels=3) as writer:
        writer.append(images)
        return writer.finish(source="test")


def alter(store: Path) -> None:
    data = bytearray((store / "images.npy").read_bytes())
    data[-1] ^= 1
    (store / "images.npy").write_bytes(data)


@pytest.mark.parametrize("cached", [False, True])
def test_an_altered_store_is_refused_on_either_side(tmp_path: Path, protocol: Path, cached: bool) -> None:
    """Also where statistics of the unaltered images lie beside it."""
    whole, altered = (write_store(tmp_path / name, seed).path for seed, name in enumerate(("whole", "altered")))
    if cached:
        measure(whole, altered, protocol)
    alter(altered)
    for source, data in ((whole, altered), (altered, whole), (altered, altered)):
        with refused(altered, "SHA-256"):
            measure(source, data, protocol)
    assert (altered / CACHE_FOLDER).exists() == cached


def test_altered_images_are_refused_where_their_latents_are_named(tmp_path: Path, protocol: Path) -> None:
    pixels = write_store(tmp_path / "pixels", side=16)
    latents = encode_store(pixels, str(write_vae(tmp_path / "vae")), tmp_path / "latents")
    config = replaced(tiny_run(str(latents.path)), model=tiny_model(channels=4), protocol=str(protocol))
    check_evaluation(config, latents)
    alter(pixels.path)
    with refused(pixels.path, "SHA-256"):
        check_evaluation(config, latents)
    with refused(pixels.path, "SHA-256"):
        measure(write_store(tmp_path / "others", 1, side=16).path, latents.path, protocol)
    alter(pixels.path)  # as they were
    alter(latents.path)
    with refused(latents.path, "SHA-256"):
        measure(latents.path, pixels.path, protocol)
