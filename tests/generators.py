"""Generators of every kind, small."""

from typing import Any

from vitgan.models.build import GeneratorSpec, build_generator
from vitgan.models.generator import Generator
from vitgan.models.stylegan2_generator import StyleGAN2GeneratorConfig
from vitgan.models.vit_generator import ViTGeneratorConfig

VIT: dict[str, Any] = {
    "dim": 16,
    "depth": 2,
    "num_heads": 2,
    "z_dim": 8,
    "w_dim": 12,
    "mapping_layers": 2,
    "inr_dim": 8,
    "mlp_ratio": 2,
}
KINDS = {
    "vit": ViTGeneratorConfig(**VIT),
    "prepend": ViTGeneratorConfig(**VIT, latent_mapping="prepend"),
    "gated": ViTGeneratorConfig(**VIT, gated=True, normalization="rms"),
    "conv": ViTGeneratorConfig(**VIT, pixel_mapping="conv"),
    "latent-tokens": ViTGeneratorConfig(**VIT, latent_tokens=True, pixel_mapping="conv"),
    "interpolated": ViTGeneratorConfig(**VIT, pixel_mapping="interpolated", bounded=True),
    "rotary": ViTGeneratorConfig(**VIT, latent_mapping="prepend", positions="sincos", rotary=True),
    "summed": ViTGeneratorConfig(**VIT, num_levels=2),
    "scaled": ViTGeneratorConfig(**VIT, num_levels=2, levels="scaled"),
    "linear": ViTGeneratorConfig(**VIT, pixel_mapping="linear"),
    "stylegan2": StyleGAN2GeneratorConfig(z_dim=8, w_dim=12, mapping_layers=2, channel_base=64, channel_max=8),
}


def make(kind: str, num_classes: int = 0, **changes: Any) -> Generator:
    config = KINDS[kind].model_copy(update=changes)
    generator = build_generator(GeneratorSpec(resolution=16, num_classes=num_classes, generator=config), seed=1)
    generator.requires_grad_(False).eval()
    generator.update_w_mean()
    return generator


def make_shallow(kind: str, num_classes: int = 0, **changes: Any) -> Generator:
    """With as few layers as can be: graphs are traced in seconds for each."""
    depth = {"depth": getattr(KINDS[kind], "num_levels", 1)} if kind != "stylegan2" else {}
    return make(kind, num_classes, mapping_layers=1, **depth, **changes)
