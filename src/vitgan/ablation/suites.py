"""The tables that can be run: each row is a name and a function of the base configuration."""

from collections.abc import Callable
from dataclasses import dataclass

from vitgan.config import RunConfig
from vitgan.errors import UserError
from vitgan.models.costs import model_costs
from vitgan.models.stylegan2_discriminator import StyleGAN2DiscriminatorConfig
from vitgan.models.stylegan2_generator import StyleGAN2GeneratorConfig
from vitgan.models.vit_discriminator import ViTDiscriminatorConfig
from vitgan.presets import (
    FAST_OBJECTIVE,
    MODERN_STEPS,
    both_vits,
    modern,
    projected,
    relativistic,
    replaced,
    stylegan2,
    stylegan2d,
    vanilla,
    with_model,
    with_projected_discriminator,
)
from vitgan.training.objective import ObjectiveConfig

Row = Callable[[RunConfig], RunConfig]

PLAIN_OBJECTIVE = ObjectiveConfig(diffaugment=False, bcr_real=0, bcr_fake=0)
R1_GAMMA = 0.1
"""R1's gamma in the rows that have it [choice]."""


@dataclass(frozen=True)
class Suite:
    """A table: what it asks, and its rows in order."""

    name: str
    question: str
    rows: dict[str, Row]


def discriminator_row(
    objective: ObjectiveConfig = PLAIN_OBJECTIVE,
    attention: str = "dot",
    weight_norm: str = "none",
    overlap: int | None = 0,
) -> Row:
    """ViTGAN's generator against a ViT discriminator with these regularisers."""

    def row(base: RunConfig) -> RunConfig:
        assert isinstance(base.model.discriminator, ViTDiscriminatorConfig)
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


def fast(base: RunConfig) -> RunConfig:
    """ViTGAN's players under the objective of the CPU presets."""
    return replaced(base, objective=FAST_OBJECTIVE)


def equal_flops(config: RunConfig, base: RunConfig) -> RunConfig:
    """StyleGAN2's players made as wide as gives them the forward FLOPs of the base's, within a few per cent."""
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


def with_rates(row: Row, generator: float, discriminator: float) -> Row:
    """A row at other learning rates."""

    def changed(base: RunConfig) -> RunConfig:
        config = row(base)
        training = replaced(config.training, learning_rate=generator, discriminator_learning_rate=discriminator)
        return replaced(config, training=training)

    return changed


def modern_row(count: int) -> Row:
    """The first `count` steps of the modern recipe."""

    def row(base: RunConfig) -> RunConfig:
        for step in tuple(MODERN_STEPS.values())[:count]:
            base = step(base)
        return base

    return row


def modern_with(section: str, **changes: object) -> Row:
    """The modern recipe with fields of one section (training, objective, augment) changed."""

    def row(base: RunConfig) -> RunConfig:
        config = modern(base)
        return replaced(config, **{section: replaced(getattr(config, section), **changes)})

    return row


def modern_at_rate(factor: float) -> Row:
    """The modern recipe with its learning rate times a factor."""

    def row(base: RunConfig) -> RunConfig:
        config = modern(base)
        rate = config.training.learning_rate * factor
        return replaced(config, training=replaced(config.training, learning_rate=rate))

    return row


def sized_modern(**changes: object) -> Row:
    """The modern recipe at other sizes of both players; its learning rate follows the width."""
    return lambda base: modern(both_vits(**changes)(base))


def stylegan2_under_modern_objective(base: RunConfig) -> RunConfig:
    """StyleGAN2 under the modern recipe's losses and augmentation: whether they or the transformer made the difference."""
    return relativistic(PLAYERS["stylegan2"](base))


def projected_at_cpu_rate(base: RunConfig) -> RunConfig:
    """The recipe of `cifar10-tiny-projected`."""
    config = projected(base)
    training = replaced(config.training, learning_rate=0.001, ema_half_life_images=5_000)
    return replaced(config, training=training)


def stylegan2_against_projected_discriminator(base: RunConfig) -> RunConfig:
    """StyleGAN2's generator with the same discriminator, objective, classes and average, at its own learning rate."""
    config = equal_flops(with_projected_discriminator(stylegan2(base)), base)
    training = replaced(config.training, learning_rate=0.0025, ema_half_life_images=5_000)
    return replaced(config, training=training)


def modern_with_fine_generator(base: RunConfig) -> RunConfig:
    """The modern recipe with patches of 8 in D alone: a quarter of its tokens."""
    config = modern(base)
    return with_model(config, discriminator=replaced(config.model.discriminator, patch_size=8))


def bcr(weight: float, diffaugment: bool = False, ramp_images: int = 0) -> ObjectiveConfig:
    """The paper's loss with bCR, with or without DiffAugment, at once or rising."""
    return ObjectiveConfig(bcr_real=weight, bcr_fake=weight, diffaugment=diffaugment, bcr_ramp_images=ramp_images)


def with_objective(objective: ObjectiveConfig) -> Row:
    """The base's players under another objective."""
    return lambda base: replaced(base, objective=objective)


PLAYERS: dict[str, Row] = {
    "vanilla-r1": vanilla,
    "vanilla-sn": vanilla_with_spectral_norm,
    "vitgan": unchanged,
    "vitgan-fast": fast,
    "vit-stylegan2": lambda base: equal_flops(stylegan2d(base), base),
    "stylegan2": lambda base: equal_flops(stylegan2(base), base),
}
"""The pairs of players that the paper compares, without the later ideas."""

RATES = ((0.006, 0.003), (0.002, 0.002))
"""Learning rates of G and D: those of `cifar10-tiny`, and the paper's."""


SUITES = {
    suite.name: suite
    for suite in (
        Suite(
            "discriminator",
            "Do existing regularisers fail with a ViT discriminator, and what does each of ViTGAN's techniques add?",
            {
                "none": discriminator_row(),
                "sn": discriminator_row(weight_norm="sn"),
                "r1": discriminator_row(replaced(PLAIN_OBJECTIVE, r1_gamma=R1_GAMMA)),
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
            "players",
            "Does a GAN made of ViTs match one made of CNNs, and what does ViTGAN have over plain ViTs?",
            PLAYERS
            | {
                "modern": modern,
                "stylegan2-modern": stylegan2_under_modern_objective,
                "projected": projected_at_cpu_rate,
                "stylegan2-projected": stylegan2_against_projected_discriminator,
            },
        ),
        Suite(
            "rates",
            "Which learning rates suit each pair of players?",
            {
                f"{name}@{generator:g}+{discriminator:g}": with_rates(row, generator, discriminator)
                for name, row in PLAYERS.items()
                for generator, discriminator in RATES
            },
        ),
        Suite(
            "recipes",
            "What makes the best of a small budget? The modern recipe, and the paper's, with one thing changed.",
            {
                "modern": modern,
                "patch-8": sized_modern(patch_size=8),
                "patch-8-in-d": modern_with_fine_generator,
                "width-96": sized_modern(dim=96, num_heads=3),
                "width-192": sized_modern(dim=192, num_heads=6),
                "depth-2": sized_modern(depth=2),
                "depth-5": sized_modern(depth=5),
                "batch-16": modern_with("training", batch_size=16),
                "batch-64": modern_with("training", batch_size=64),
                "rate-x0.5": modern_at_rate(0.5),
                "rate-x2": modern_at_rate(2),
                "gamma-0.01": modern_with("objective", r1_gamma=0.01, r2_gamma=0.01),
                "gamma-0.2": modern_with("objective", r1_gamma=0.2, r2_gamma=0.2),
                "augment-0.4": modern_with("augment", probability=0.4),
                "bcr-1": modern_with("objective", bcr_real=1, bcr_fake=1),
                "paper": unchanged,
                "paper-bcr-1": with_objective(bcr(1, True)),
                "paper-bcr-0": with_objective(bcr(0, True)),
                "paper-bcr-rising": with_objective(bcr(10, True, 50_000)),
            },
        ),
        Suite(
            "modern",
            "What does each later idea (GAT, R3GAN) add to ViTGAN, one on top of the other?",
            {"vitgan": unchanged} | {f"+{name}": modern_row(n) for n, name in enumerate(MODERN_STEPS, start=1)},
        ),
    )
}


def find_suite(name: str) -> Suite:
    """The suite of that name.

    Raises:
        UserError: If there is none.
    """
    if name not in SUITES:
        raise UserError(f"there is no suite {name!r}: choose one of {', '.join(SUITES)}")
    return SUITES[name]
