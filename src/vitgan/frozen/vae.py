"""The VAE's networks: images -> scaled latents, and back. `diffusers` is imported where it is used."""

import hashlib
import importlib.util
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vitgan.errors import UserError
from vitgan.files.pictures import to_uint8
from vitgan.files.reading import user_error
from vitgan.files.tensors import check_parameters
from vitgan.frozen.vae_spec import Numbers, VaeSpec
from vitgan.layers.precision import full_precision

VAE_VARIABLE = "VITGAN_VAE"
"""Environment variable: where the VAE is, if it is no longer where the latents' description says."""
PIXELS_AT_ONCE = {"cpu": 1 << 18, "cuda": 1 << 21}
"""Image pixels that go through a VAE at once: Stable Diffusion's takes about 1 KB of memory for each."""


class Decoder(nn.Module):
    """The half of a VAE that makes images.

    Args:
        network: An AutoencoderKL.
        spec: How its latents were scaled.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, network: Any, spec: VaeSpec) -> None:
        super().__init__()
        self.first = network.post_quant_conv or nn.Identity()
        self.decoder = network.decoder
        self.register_buffer("shift", _each_channel(spec.shift))
        self.register_buffer("scale", _each_channel(spec.scale))

    def forward(self, latents: Tensor) -> Tensor:
        """Scaled latents (B, C, h, w) float32 -> images (B, 3 or 1, factor · h, factor · w), nominally in [-1, 1]."""
        return self.decoder(self.first(latents / self.scale + self.shift))


def open_vae(name: str) -> tuple[Any, VaeSpec]:
    """Opens a VAE for encoding.

    Args:
        name: A folder that `AutoencoderKL.save_pretrained` wrote, or a Hub repository "user/name" or
            "user/name/subfolder". Only safetensors are read.

    Returns:
        The AutoencoderKL in float32, frozen, on the CPU; and what describes it.

    Raises:
        UserError: If `diffusers` is absent, or there is no such VAE, it is of another kind, or cannot be read.
    """
    if importlib.util.find_spec("diffusers") is None:
        raise UserError("latents of a VAE need the package diffusers: pip install 'vitgan[latent]'")
    from diffusers import AutoencoderKL  # pyright: ignore[reportPrivateImportUsage]

    kind: Any = AutoencoderKL
    place, inside = _place(name)
    advice = "give a folder that AutoencoderKL.save_pretrained wrote, or a Hub repository user/name"
    # Built here and not as inference tensors, whoever asks: an inversion takes gradients through it.
    with torch.inference_mode(False), user_error(f"cannot open the VAE {name}", Exception, advice=advice):
        config = kind.load_config(place, subfolder=inside)
        if (found := config.get("_class_name")) != "AutoencoderKL":
            raise UserError(f"{name} is no AutoencoderKL but a {found}: choose a VAE of that class", "vae")
        with torch.device("meta"):
            check_parameters(kind.from_config(config), Path(name))
        network = kind.from_pretrained(place, subfolder=inside, use_safetensors=True, torch_dtype=torch.float32)
        spec = _describe(str(Path(name).absolute()) if Path(name).is_dir() else name, network)
    return network.eval().requires_grad_(False), spec


@torch.inference_mode()
def encode(network: Any, spec: VaeSpec, images: np.ndarray) -> np.ndarray:
    """Images (B, C, H, W) uint8 -> the means of their latents, scaled: (B, latent channels, h, w) float32."""
    means = network.encode(torch.from_numpy(images).to(network.device).float() / 127.5 - 1).latent_dist.mode()
    return ((means - _each_channel(spec.shift).to(means)) * _each_channel(spec.scale).to(means)).cpu().numpy()


@torch.inference_mode()
def decode_bytes(spec: VaeSpec, latents: np.ndarray, device: str = "cpu") -> np.ndarray:
    """Scaled latents (B, C, h, w) of any float type -> images (B, 3 or 1, factor · h, factor · w) uint8."""
    return to_uint8(decode(spec, torch.from_numpy(latents).to(device))).cpu().numpy()


def decode(spec: VaeSpec, latents: Tensor) -> Tensor:
    """Scaled latents (B, C, h, w) -> images, float32, nominally in [-1, 1]; differentiable in the latents.

    Raises:
        UserError: See `load_decoder`.
    """
    decoder = load_decoder(spec, str(latents.device))
    with full_precision(latents):
        parts = latents.float().split(images_at_once(spec.factor * latents.shape[-1], latents.device.type))
        return torch.cat([decoder(part) for part in parts])


def load_decoder(spec: VaeSpec, device: str = "cpu") -> Decoder:
    """The decoder of the very VAE that is described.

    Raises:
        UserError: If it cannot be opened, or what is found is another.
    """
    place = torch.empty(0, device=device).device  # of "cuda" and "cuda:0" there is one decoder
    return _decoder(spec.model_dump_json(), str(place))


@lru_cache(maxsize=2)
def _decoder(described: str, device: str) -> Decoder:
    spec = VaeSpec.model_validate_json(described)
    with torch.inference_mode(False):
        return Decoder(_open_same(spec), spec).to(device)


def save_copy(spec: VaeSpec, folder: Path) -> bool:
    """Writes the VAE into a new folder, unless it is on the Hub, where everybody can get it; whether it was written.

    Raises:
        UserError: See `load_decoder`.
        OSError: If it cannot be written.
    """
    if not Path(os.environ.get(VAE_VARIABLE) or spec.name).is_dir():
        return False
    _open_same(spec).save_pretrained(folder)
    return True


def _open_same(spec: VaeSpec) -> Any:
    """The AutoencoderKL that is described, and no other."""
    place = os.environ.get(VAE_VARIABLE) or spec.name
    advice = f"set the environment variable {VAE_VARIABLE} to where the VAE of these latents is"
    with user_error(f"these latents need the VAE {spec.name}", UserError, advice=advice):
        network, found = open_vae(place)
        if found.sha256 != spec.sha256:
            numbers = f"SHA-256 {found.sha256[:12]}…, expected {spec.sha256[:12]}…"
            raise UserError(f"{place} is another one ({numbers})", "vae")
    return network


def images_at_once(side: int, device: str) -> int:
    """How many images of a side go through a VAE at once."""
    return max(1, PIXELS_AT_ONCE.get(device, PIXELS_AT_ONCE["cpu"]) // side**2)


def _place(name: str) -> tuple[str, str | None]:
    """A folder; or a Hub repository and its subfolder."""
    parts = name.split("/")
    return (name, None) if Path(name).exists() else ("/".join(parts[:2]), "/".join(parts[2:]) or None)


def _describe(name: str, network: Any) -> VaeSpec:
    config = network.config
    count, scaling = config.latent_channels, config.scaling_factor
    shift = tuple(config.latents_mean or (config.shift_factor or 0.0,) * count)
    return VaeSpec(
        name=name,
        sha256=_fingerprint(network),
        factor=2 ** (len(config.block_out_channels) - 1),
        channels=config.out_channels,
        shift=shift,
        scale=tuple(scaling / deviation for deviation in config.latents_std or (1.0,) * count),
    )


def _fingerprint(network: Any) -> str:
    """SHA-256 of the weights by name, as float32, and of what else the computation depends on."""
    digest = hashlib.sha256(f"{network.config.act_fn} {network.config.norm_num_groups}".encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _each_channel(values: Numbers) -> Tensor:
    return torch.tensor(values).view(1, -1, 1, 1)
