"""Builds G and D from their Configs, by an explicit match."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Literal, Self, TypeVar

import torch
from pydantic import Field, model_validator

from vitgan.errors import UserError
from vitgan.frozen.vae_spec import VaeSpec
from vitgan.models.discriminator import Discriminator
from vitgan.models.generator import Generator
from vitgan.models.projected_discriminator import ProjectedDiscriminator, ProjectedDiscriminatorConfig
from vitgan.models.scaled_discriminator import ScaledDiscriminator
from vitgan.models.stylegan2_discriminator import StyleGAN2Discriminator, StyleGAN2DiscriminatorConfig
from vitgan.models.stylegan2_generator import StyleGAN2Generator, StyleGAN2GeneratorConfig
from vitgan.models.vit_discriminator import ViTDiscriminator, ViTDiscriminatorConfig
from vitgan.models.vit_generator import ViTGenerator, ViTGeneratorConfig
from vitgan.schema import Config

CUSTOM_NETWORKS: dict[str, Callable[..., Generator | Discriminator]] = {}
"""Own networks by name: subclasses of `Generator` or `Discriminator`, built as `network(resolution, channels, num_classes,
**settings)`. Whatever they compute with is a parameter or a persistent buffer, so that a checkpoint holds it."""


class CustomConfig(Config):
    """A network of `CUSTOM_NETWORKS`. A program that loads such a model registers it first: no file names code."""

    kind: Literal["custom"] = "custom"
    name: str = ""
    """Its name there."""
    settings: dict[str, bool | int | float | str] = Field(default={})
    """Keyword arguments of its constructor."""


GeneratorConfig = Annotated[ViTGeneratorConfig | StyleGAN2GeneratorConfig | CustomConfig, Field(discriminator="kind")]
DiscriminatorConfig = Annotated[
    ViTDiscriminatorConfig | StyleGAN2DiscriminatorConfig | ProjectedDiscriminatorConfig | CustomConfig,
    Field(discriminator="kind"),
]


FEATURE_FIELDS = ("features", "alignment_features")
"""Fields of discriminators that name a frozen network."""


class ImageSpec(Config):
    """What the images of a model are."""

    resolution: int = Field(default=32, ge=4)
    """Height and width of the images in pixels."""
    channels: int = Field(default=3, ge=1, le=128)
    """1 (grey) or 3 (RGB); on a latent store as many as the VAE's latents have."""
    num_classes: int = Field(default=0, ge=0)
    """Number of classes of a conditional model; 0 is unconditional."""
    class_counts: tuple[Annotated[int, Field(ge=0, le=1 << 53)], ...] | None = None
    """Training images of each class, in whose shares a conditional model draws classes; taken from the images."""
    class_names: tuple[Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")], ...] | None = None
    """What the classes are called; taken from the images."""
    vae: VaeSpec | None = None
    """The VAE that makes images of what the model makes, latents; taken from the images."""

    @property
    def image_size(self) -> int:
        """Height and width of the images in pixels, those that latents are decoded to."""
        return self.resolution * (self.vae.factor if self.vae else 1)

    @property
    def image_channels(self) -> int:
        """1 (grey) or 3 (RGB)."""
        return self.vae.channels if self.vae else self.channels

    @model_validator(mode="after")
    def _channels_of_the_vae(self) -> Self:
        if self.vae is not None and {len(self.vae.shift), len(self.vae.scale)} != {self.channels}:
            raise ValueError(f"vae must have a shift and a scale for each of {self.channels} channels")
        return self

    @model_validator(mode="after")
    def _one_count_and_name_a_class(self) -> Self:
        if self.class_names is not None and len(self.class_names) != self.num_classes:
            raise ValueError(f"class_names must be {self.num_classes} names")
        if self.class_counts is not None and (len(self.class_counts) != self.num_classes or not sum(self.class_counts)):
            raise ValueError(f"class_counts must be {self.num_classes} numbers of images, not all 0")
        return self


class GeneratorSpec(ImageSpec):
    """All that is needed to build a generator: what its images are, and its sizes. A saved model carries it."""

    generator: GeneratorConfig = ViTGeneratorConfig()


class ModelConfig(ImageSpec):
    """G and D. The defaults are the paper's at 32×32."""

    generator: GeneratorConfig = ViTGeneratorConfig()
    discriminator: DiscriminatorConfig = ViTDiscriminatorConfig()
    conditional: bool = False
    """Train both on class labels; the number of classes is taken from the images. Otherwise a run has no classes."""

    @property
    def num_levels(self) -> int:
        """Images of rising level that D is shown (`vitgan.models.levels`)."""
        return self.generator.num_levels if isinstance(self.generator, ViTGeneratorConfig) else 1

    @property
    def scaled_levels(self) -> bool:
        """Whether they are of several resolutions."""
        return (
            self.num_levels > 1 and isinstance(self.generator, ViTGeneratorConfig) and self.generator.levels == "scaled"
        )

    @property
    def frozen_features(self) -> str | None:
        """The frozen network that D looks through, or is aligned with."""
        return next((name for field in FEATURE_FIELDS if (name := getattr(self.discriminator, field, None))), None)

    def generator_spec(self) -> GeneratorSpec:
        """The generator's part."""
        return GeneratorSpec(**{name: getattr(self, name) for name in GeneratorSpec.model_fields})


def build_generator(spec: GeneratorSpec, seed: int = 0, device: str = "cpu") -> Generator:
    """A new generator with weights drawn from `seed`; torch's global random state is left as it was.

    Args:
        spec: What to build.
        seed: Of the initial weights.
        device: "cpu", or "meta" for shapes without weights (to count with, or to be filled from a file).
    """
    with _seeded(seed), torch.device(device):
        match spec.generator:
            case ViTGeneratorConfig():
                generator = ViTGenerator(spec.generator, spec.resolution, spec.channels, spec.num_classes)
            case StyleGAN2GeneratorConfig():
                generator = StyleGAN2Generator(spec.generator, spec.resolution, spec.channels, spec.num_classes)
            case CustomConfig():
                generator = _build_custom(Generator, spec.generator, spec)
    generator.class_counts, generator.class_names, generator.vae = spec.class_counts, spec.class_names, spec.vae
    generator.spec = spec
    return generator


def build_discriminator(config: ModelConfig, seed: int = 0, device: str = "cpu") -> Discriminator:
    """A new discriminator, of all levels that the generator has; arguments as in `build_generator`.

    Raises:
        UserError: If sizes do not fit, or this kind cannot judge levels.
    """
    num_levels, scaled = config.num_levels, config.scaled_levels
    sizes = (config.resolution, config.channels * (1 if scaled else num_levels), config.num_classes)
    with _seeded(seed), torch.device(device):
        match config.discriminator:
            case ViTDiscriminatorConfig():
                network = ViTDiscriminator(config.discriminator, *sizes)
                discriminator = ScaledDiscriminator(network, num_levels) if scaled else network
            case StyleGAN2DiscriminatorConfig() if not scaled:
                discriminator = StyleGAN2Discriminator(config.discriminator, *sizes)
            case ProjectedDiscriminatorConfig() if num_levels == 1:
                discriminator = ProjectedDiscriminator(config.discriminator, *sizes)
            case CustomConfig() if num_levels == 1:
                discriminator = _build_custom(Discriminator, config.discriminator, config)
            case other:
                levels = "scaled levels" if scaled else "levels"
                raise UserError(
                    f"a discriminator of kind {other.kind} cannot judge {levels}: set generator.num_levels to 1, or take "
                    "one of kind vit",
                    "model.generator.num_levels",
                )
    discriminator.num_levels = num_levels
    return discriminator


Network = TypeVar("Network", Generator, Discriminator)


def _build_custom(base: type[Network], config: CustomConfig, images: ImageSpec) -> Network:
    if config.name not in CUSTOM_NETWORKS:
        raise UserError(
            f"the network {config.name!r} is not in vitgan.models.build.CUSTOM_NETWORKS: put its class there first",
            "name",
        )
    network = CUSTOM_NETWORKS[config.name](images.resolution, images.channels, images.num_classes, **config.settings)
    if not isinstance(network, base):
        raise UserError(f"the network {config.name!r} is no {base.__name__}: make it a subclass", "name")
    return network


SEEDING = threading.RLock()
"""torch's global random state is that of all threads: only one at a time may seed it and set it back."""


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with SEEDING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
