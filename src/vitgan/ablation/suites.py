"""The tables that can be run: each row is a name and a function of the base configuration."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Self

from vitgan.config import RunConfig
from vitgan.errors import UserError, nearest
from vitgan.models.costs import model_costs
from vitgan.models.stylegan2_discriminator import StyleGAN2DiscriminatorConfig
from vitgan.models.stylegan2_generator import StyleGAN2GeneratorConfig
from vitgan.presets import (
    FAST_OBJECTIVE,
    MODERN_STEPS,
    aligned,
    gat_positions,
    modern,
    projected,
    relativistic,
    replaced,
    scaled_levels,
    stylegan2,
    stylegan2d,
    summed_levels,
    vanilla,
    with_model,
    with_projected_discriminator,
)
from vitgan.training.objective import ObjectiveConfig

Row = Callable[[RunConfig], RunConfig]

PLAIN_OBJECTIVE = ObjectiveConfig(diffaugment=False, bcr_real=0, bcr_fake=0)


@dataclass(frozen=True)
class Suite:
    """A table: what it asks, and its rows in order."""

    name: str
    question: str
    rows: dict[str, Row]

    def only(self, names: Collection[str]) -> Self:
        """The suite with these rows; without names all of them.

        Raises:
            UserError: If it has no such row.
        """
        for name in names:
            if name not in self.rows:
                raise UserError(f"suite {self.name} has no row {name!r}: its rows are {', '.join(self.rows)}", "only")
        return replace(self, rows={name: row for name, row in self.rows.items() if not names or name in names})


def discriminator_row(
    objective: ObjectiveConfig = PLAIN_OBJECTIVE,
    attention: str = "dot",
    weight_norm: str = "none",
    overlap: int | None = 0,
) -> Row:
    """ViTGAN's generator against a ViT discriminator with these regularisers."""

    def row(base: RunConfig) -> RunConfig:
        discriminator = replaced(
            base.model.discriminator, attention=attention, weight_norm=weight_norm, overlap=overlap
        )
        return with_model(base, discriminator=discriminator, objective=objective)

    return row


def generator_row(latent_mapping: str, pixel_mapping: str) -> Row:
    """Another generator against the base's discriminator."""

    def row(base: RunConfig) -> RunConfig:
        generator = replaced(base.model.generator, latent_mapping=latent_mapping, pixel_mapping=pixel_mapping)
        return with_model(base, generator=generator)

    return row


def unchanged(base: RunConfig) -> RunConfig:
    """The base itself."""
    return base


def vanilla_with_spectral_norm(base: RunConfig) -> RunConfig:
    """Vanilla-ViT with plain spectral normalisation of D in place of R1."""
    base = vanilla(base)
    discriminator = replaced(base.model.discriminator, weight_norm="sn")
    return with_model(base, discriminator=discriminator, objective=replaced(base.objective, r1_gamma=0))


def equal_flops(config: RunConfig, base: RunConfig) -> RunConfig:
    """StyleGAN2's networks made as wide as gives them the forward FLOPs of the base's, within a few per cent."""
    targets = [costs.flops_per_image for costs in model_costs(base.model)]
    generator, discriminator = config.model.generator, config.model.discriminator
    for _ in range(3):  # FLOPs grow about with the square of the width
        now = [costs.flops_per_image for costs in model_costs(with_model(config, generator, discriminator).model)]
        if isinstance(generator, StyleGAN2GeneratorConfig):
            generator = replaced(generator, channel_base=scaled_width(generator.channel_base, targets[0] / now[0]))
        if isinstance(discriminator, StyleGAN2DiscriminatorConfig):
            width = scaled_width(discriminator.channel_base, targets[1] / now[1])
            discriminator = replaced(discriminator, channel_base=width)
    return with_model(config, generator, discriminator)


def scaled_width(width: int, flops: float) -> int:
    """A width for this many times the FLOPs, a multiple of 32."""
    return max(32, 32 * round(width * flops**0.5 / 32))


def at_rate(config: RunConfig, learning_rate: float) -> RunConfig:
    """At G's own rate, which depends on how its weights are scaled, and with an average that suits minutes."""
    training = replaced(config.training, learning_rate=learning_rate, ema_half_life_images=5_000)
    return replaced(config, training=training)


def modern_row(count: int) -> Row:
    """The first `count` steps of the modern recipe."""

    def row(base: RunConfig) -> RunConfig:
        for step in tuple(MODERN_STEPS.values())[:count]:
            base = step(base)
        return base

    return row


def stylegan2_of_equal_flops(base: RunConfig) -> RunConfig:
    """StyleGAN2, G and D, of the base's FLOPs."""
    return equal_flops(stylegan2(base), base)


def heads(base: RunConfig) -> RunConfig:
    """Small heads on frozen features in place of D, of the base's classes or none."""
    config = with_projected_discriminator(base)
    return replaced(config, model=replaced(config.model, conditional=base.model.conditional))


def bcr(weight: float, diffaugment: bool = False) -> ObjectiveConfig:
    """The paper's loss with bCR, with or without DiffAugment."""
    return ObjectiveConfig(bcr_real=weight, bcr_fake=weight, diffaugment=diffaugment)


SUITES = {
    suite.name: suite
    for suite in (
        Suite(
            "discriminator",
            "Do existing regularisers fail with a ViT discriminator, and what does each of ViTGAN's techniques add?",
            {
                "none": discriminator_row(),
                "sn": discriminator_row(weight_norm="sn"),
                "r1": discriminator_row(replaced(PLAIN_OBJECTIVE, r1_gamma=0.1)),
                "l2": discriminator_row(attention="l2"),
                "l2+isn": discriminator_row(attention="l2", weight_norm="isn"),
                "l2+isn+overlap": discriminator_row(attention="l2", weight_norm="isn", overlap=None),
                "l2+isn+overlap+bcr": discriminator_row(bcr(10), "l2", "isn", None),
                "l2+isn+overlap+bcr+diffaug": discriminator_row(bcr(10, True), "l2", "isn", None),
            },
        ),
        Suite(
            "generator",
            "Which latent mapping and which pixel mapping make the better generator?",
            {
                f"{latent}+{pixel}": generator_row(latent, pixel)
                for latent in ("sln", "add", "prepend")
                for pixel in ("inr", "linear", "conv")
            },
        ),
        Suite(
            "pairs",
            "Does a GAN made of ViTs match one made of CNNs, and what does ViTGAN have over plain ViTs?",
            {
                "vanilla-r1": vanilla,
                "vanilla-sn": vanilla_with_spectral_norm,
                "vitgan": unchanged,
                "vitgan-fast": lambda base: replaced(base, objective=FAST_OBJECTIVE),
                "vit-stylegan2": lambda base: equal_flops(stylegan2d(base), base),
                "stylegan2": stylegan2_of_equal_flops,
                "modern": modern,
                # Whether the modern losses and augmentation or its transformer make the difference.
                "stylegan2-modern": lambda base: relativistic(stylegan2_of_equal_flops(base)),
                # Both generators against one discriminator on frozen features.
                "projected": lambda base: at_rate(projected(base), 0.001),
                "stylegan2-projected": lambda base: at_rate(
                    equal_flops(with_projected_discriminator(stylegan2(base)), base), 0.0025
                ),
            },
        ),
        Suite(
            "modern",
            "What does each later idea (GAT, R3GAN) add to ViTGAN, one on the other; then levels, or frozen features?",
            {"vitgan": unchanged}
            | {f"+{name}": modern_row(n) for n, name in enumerate(MODERN_STEPS, start=1)}
            | {
                "+positions": lambda base: gat_positions(modern(base)),
                "+summed-levels": lambda base: summed_levels(gat_positions(modern(base))),
                "+scaled-levels": lambda base: scaled_levels(gat_positions(modern(base))),
                # D looks at what a frozen network sees; then it is nothing else.
                "+alignment": lambda base: aligned(gat_positions(modern(base))),
                "+heads": lambda base: heads(gat_positions(modern(base))),
            },
        ),
    )
}


def find_suite(name: str) -> Suite:
    """The suite of that name.

    Raises:
        UserError: If there is none, with the nearest name.
    """
    if name not in SUITES:
        raise UserError(f"there is no suite {name!r}: {nearest(name, SUITES)}", "suite")
    return SUITES[name]
