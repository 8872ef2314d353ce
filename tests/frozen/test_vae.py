import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL  # pyright: ignore[reportPrivateImportUsage]

from refusals import refused
from tiny import write_vae
from vitgan.errors import UserError
from vitgan.files.tensors import TRUST_SIZES
from vitgan.frozen import vae
from vitgan.frozen.vae import decode, encode, load_decoder, open_vae


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_vae(tmp_path_factory.mktemp("vae") / "vae")


def images(count: int = 3, side: int = 16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 3, side, side), dtype=np.uint8)


def test_latents_and_images_are_diffusers_own(folder: Path) -> None:
    network, spec = open_vae(str(folder))
    assert (spec.factor, spec.channels, spec.shift, spec.scale) == (2, 3, (0.1,) * 4, (0.5,) * 4)
    own: Any = AutoencoderKL.from_pretrained(folder)
    latents = encode(network, spec, images())
    with torch.no_grad():
        mean = own.encode(torch.from_numpy(images()) / 127.5 - 1).latent_dist.mean
        expected = own.decode(mean).sample
    torch.testing.assert_close(torch.from_numpy(latents), (mean - 0.1) * 0.5)
    torch.testing.assert_close(decode(spec, torch.from_numpy(latents)), expected, atol=1e-5, rtol=1e-5)


def test_means_and_deviations_of_channels_count(tmp_path: Path) -> None:
    means, deviations = [0.1, 0.2, 0.3, 0.4], [1.0, 2.0, 4.0, 8.0]
    network, spec = open_vae(str(write_vae(tmp_path, latents_mean=means, latents_std=deviations)))
    assert spec.shift == tuple(means)
    assert spec.scale == (0.5, 0.25, 0.125, 0.0625)
    latents = encode(network, spec, images())
    raw = network.encode(torch.from_numpy(images()) / 127.5 - 1).latent_dist.mean.detach().numpy()
    shape = (1, 4, 1, 1)
    expected = (raw - np.reshape(means, shape)) * 0.5 / np.reshape(deviations, shape)
    np.testing.assert_allclose(latents, expected, atol=1e-5)


def test_a_device_has_one_decoder_whatever_it_is_called(folder: Path) -> None:
    spec = open_vae(str(folder))[1]
    assert load_decoder(spec, "cpu:0") is load_decoder(spec, "cpu")


def test_images_do_not_depend_on_how_many_are_decoded_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, spec = open_vae(str(folder))
    latents = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    whole = decode(spec, latents)
    monkeypatch.setitem(vae.PIXELS_AT_ONCE, "cpu", 1)
    torch.testing.assert_close(decode(spec, latents), whole)


def test_a_gradient_goes_through_a_decoder_that_was_loaded_to_sample(folder: Path) -> None:
    _, spec = open_vae(str(folder))
    vae._decoder.cache_clear()
    with torch.inference_mode():
        decode(spec, torch.zeros(1, 4, 8, 8))
    latents = torch.zeros(1, 4, 8, 8, requires_grad=True)
    decode(spec, latents).square().sum().backward()
    assert latents.grad is not None
    assert latents.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in load_decoder(spec).parameters())


def test_loading_draws_nothing(folder: Path) -> None:
    vae._decoder.cache_clear()
    before = torch.random.get_rng_state()
    load_decoder(open_vae(str(folder))[1])
    assert torch.equal(torch.random.get_rng_state(), before)


def test_another_vae_is_refused_and_the_same_one_taken_from_elsewhere(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, spec = open_vae(str(folder))
    moved = spec.model_copy(update={"name": str(tmp_path / "gone")})
    vae._decoder.cache_clear()
    with pytest.raises(UserError):
        load_decoder(moved)
    monkeypatch.setenv(vae.VAE_VARIABLE, str(write_vae(tmp_path / "other", seed=1)))
    with refused(parameter="vae"):
        load_decoder(moved)
    monkeypatch.setenv(vae.VAE_VARIABLE, str(folder))
    assert load_decoder(moved)(torch.zeros(1, 4, 8, 8)).shape == (1, 3, 16, 16)


def test_what_is_no_autoencoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        open_vae(str(tmp_path))
    folder = write_vae(tmp_path / "vae")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"_class_name": "VQModel"}))
    with refused(folder, "VQModel", parameter="vae"):
        open_vae(str(folder))
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "diffusion_pytorch_model.safetensors").write_bytes(b"no weights")
    with pytest.raises(UserError):
        open_vae(str(folder))


def test_a_strangers_vae_asks_for_no_more_memory_than_is_allowed(tmp_path: Path) -> None:
    folder = write_vae(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"block_out_channels": [200_000, 200_000]}))
    with refused(folder, TRUST_SIZES):
        open_vae(str(folder))


def test_without_diffusers_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with refused("pip install 'vitgan[latent]'"):
        open_vae(str(folder))
