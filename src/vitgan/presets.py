"""Presets: one function per row of the paper, and the tables that name them.

A docstring says what a row is. A variant is a function of a base, so that it works at every size: `cifar10-vanilla` is
`vanilla(vitgan("cifar10"))`, and an ablation at CPU size is `vanilla(cifar10_tiny())`.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from vitgan.config import RunConfig, changed, check_effect, flat, merged
from vitgan.errors import UserError, one_line, similar
from vitgan.files import read_tree
from vitgan.models.build import DiscriminatorConfig, GeneratorConfig, ModelConfig
from vitgan.models.projected_discriminator import ProjectedDiscriminatorConfig
from vitgan.models.stylegan2_discriminator import StyleGAN2DiscriminatorConfig
from vitgan.models.stylegan2_generator import StyleGAN2GeneratorConfig
from vitgan.models.vit_discriminator import ViTDiscriminatorConfig
from vitgan.models.vit_generator import ViTGeneratorConfig
from vitgan.schema import Config
from vitgan.training.config import TrainingConfig
from vitgan.training.objective import ObjectiveConfig


def quickstart() -> RunConfig:
    """A small ViTGAN on the bundled Fashion-MNIST images: minutes on 2 CPU cores (docs/results/images.md)."""
    base = modern(
        RunConfig(
            data="fashion-mnist",
            model=ModelConfig(
                resolution=32,
                channels=1,
                generator=ViTGeneratorConfig(
                    dim=96,
                    depth=2,
                    num_heads=3,
                    z_dim=96,
                    w_dim=96,
                    mapping_layers=2,
                    latent_tokens=True,
                    bounded=True,
                ),
                discriminator=ViTDiscriminatorConfig(dim=96, depth=2, num_heads=3, fine_detail=2.0, classifier=True),
                conditional=True,
            ),
        )
    )
    training = TrainingConfig(
        batch_size=32,
        total_kimg=45,
        max_minutes=5.5,
        learning_rate=0.002,
        samples_every_kimg=5,
        checkpoint_every_kimg=15,
        ema_half_life_images=3_000,
    )
    # No augmentation: colours would hide from D whether the ground is black, and G learns to draw shifts and squares.
    augmentation = replaced(base.augment, translation=0.0, cutout=0.0)
    objective = replaced(FAST_OBJECTIVE, r1_gamma=0.15, r2_gamma=0.15, classification=0.5)
    return replaced(base, augment=augmentation, objective=objective, training=training)


def cifar10_tiny() -> RunConfig:
    """A small ViTGAN for CIFAR-10 at its real size: hours on a CPU."""
    return RunConfig(
        data="data/cifar10",
        model=ModelConfig(
            resolution=32,
            channels=3,
            generator=ViTGeneratorConfig(
                dim=128, depth=3, num_heads=4, z_dim=128, w_dim=128, mapping_layers=2, inr_dim=128
            ),
            discriminator=ViTDiscriminatorConfig(dim=128, depth=3, num_heads=4),
        ),
        objective=FAST_OBJECTIVE,
        training=TrainingConfig(
            batch_size=32,
            total_kimg=500,
            learning_rate=0.006,
            discriminator_learning_rate=0.003,
            samples_every_kimg=10,
            checkpoint_every_kimg=20,
            ema_half_life_images=2_000,
            horizontal_flip=True,
        ),
    )


def cifar10_tiny_modern() -> RunConfig:
    """The same sizes with our modern recipe: the best pair of ViTs measured here on a CPU."""
    base = modern(cifar10_tiny())
    return replaced(base, training=replaced(base.training, ema_half_life_images=10_000))


def cifar10_tiny_projected() -> RunConfig:
    """The fastest way to things that can be named: a ViT against a D on ImageNet's features (docs/results/images.md).

    Augmentation begins at none, with which G learns fastest, and grows while D is sure: few images need it later. The
    norm of G's gradient is near 12; peaks of 40 to 100 are clipped.
    """
    base = projected(cifar10_tiny())
    training = replaced(
        base.training,
        total_kimg=240,
        learning_rate=0.001,
        lr_decay=0.25,
        ema_half_life_images=10_000,
        gradient_clip=15,
    )
    return replaced(base, training=training, augment=replaced(base.augment, adaptive=0.6))


FAST_OBJECTIVE = ObjectiveConfig(
    loss="relativistic",
    diffaugment=False,
    bcr_real=0,
    bcr_fake=0,
    r1_gamma=0.05,
    r2_gamma=0.05,
    penalty="finite_difference",
)
"""What starts fastest on a CPU: relativistic pairing with first-order R1 and R2 (R3GAN, GAT) in place of the paper's
non-saturating loss with bCR, whose lambda of 10 suits hundreds of thousands of steps, not thousands."""


def vitgan(dataset: str) -> RunConfig:
    """The paper's ViTGAN: 384 wide, 6 heads, bCR 10/10, DiffAugment, batch 128, learning rate 0.002."""
    size = PAPER_SIZES[dataset]
    return RunConfig(
        data=f"data/{dataset}",
        model=ModelConfig(
            resolution=size.resolution,
            channels=3,
            generator=ViTGeneratorConfig(depth=size.depth, patch_size=size.patch_size),
            discriminator=ViTDiscriminatorConfig(
                depth=size.depth, patch_size=size.discriminator_patch_size or size.patch_size
            ),
        ),
        training=TrainingConfig(batch_size=128, learning_rate=0.002),
    )


def vanilla(base: RunConfig) -> RunConfig:
    """Vanilla-ViT, G and D: the latent added to the positions, linear patches; dot product, no spectral norm; R1 0.1."""
    return with_model(
        base,
        generator=replaced(base.model.generator, latent_mapping="add", pixel_mapping="linear"),
        discriminator=replaced(base.model.discriminator, attention="dot", weight_norm="none", overlap=0),
        objective=ObjectiveConfig(diffaugment=False, bcr_real=0, bcr_fake=0, r1_gamma=0.1),
    )


def stylegan2d(base: RunConfig) -> RunConfig:
    """ViTGAN's G with StyleGAN2's D: bCR 10/10, DiffAugment, and the R1 of the authors' PyTorch code."""
    discriminator = StyleGAN2DiscriminatorConfig(channel_base=channel_base(base))
    return with_model(base, discriminator=discriminator, objective=replaced(base.objective, r1_gamma=AUTHORS_R1_GAMMA))


def stylegan2(base: RunConfig) -> RunConfig:
    """StyleGAN2, G and D, with bCR, DiffAugment and R1 as there, path length and mixing off."""
    return with_model(stylegan2d(base), generator=StyleGAN2GeneratorConfig(channel_base=channel_base(base)))


AUTHORS_R1_GAMMA = 0.4
"""The authors' PyTorch code has 0.1 for images in [0, 1], where the squared gradient is 4 times that of ours in [-1, 1]."""


def authors_schedule(base: RunConfig) -> RunConfig:
    """The authors' schedule for ViTGAN's G, StyleGAN2's D: R1 each step, bCR 1/1, warm-up, long average, flips.

    It is not their networks. What their PyTorch code has in place of ours:

    - Objective: bCR of D(T1(x)) with D(T2(x)); ours is of D(x) with D(T(x)), as in the paper.
    - DiffAugment: three colours each with 0.8, cutout with 0.3, flips with 0.45; ours colours together and cutout with 0.8,
      and flips outside it.
    - Average: the plain weights until 1M images; ours from the start, with a half-life of at most 5% of the images.
    - G: the residual from normalised tokens (ours from tokens, as in the paper), ISN (none), attention scores plus the
      distance (dot products), SiLU (GELU), epsilon 1e-3 (1e-5), positions from -1 to 1 inclusive (centres of cells), a
      convolutional decoder, or an implicit one of three modulated layers, 512 wide, with noise (one layer).
    - FID: of 10,000 images, three times, against the test split.
    """
    training = replaced(
        base.training,
        batch_size=64,
        learning_rate=0.001,
        lr_warmup_images=3_000 * 64,
        ema_half_life_images=1_000_000,
        horizontal_flip=True,
    )
    objective = ObjectiveConfig(bcr_real=1, bcr_fake=1, r1_gamma=AUTHORS_R1_GAMMA)
    augmentation = replaced(base.augment, scaling=0.0)
    return replaced(stylegan2d(base), objective=objective, augment=augmentation, training=training)


def modern(base: RunConfig) -> RunConfig:
    """Our transformer recipe after GAT and R3GAN: every step of `MODERN_STEPS`, one after the other."""
    for step in MODERN_STEPS.values():
        base = step(base)
    return base


def gat_positions(base: RunConfig) -> RunConfig:
    """Rotary attention in both ViTs, fixed sines and cosines as G's input, nothing added to D's patches (GAT)."""
    generator = replaced(base.model.generator, positions="sincos", rotary=True)
    return with_model(base, generator, replaced(base.model.discriminator, positions="none", rotary=True))


def summed_levels(base: RunConfig) -> RunConfig:
    """GAT's levels after each quarter of G's depth (each block, if there are fewer than four), with noise that falls."""
    num_levels = min(4, vit(base).depth)
    generator = replaced(base.model.generator, num_levels=num_levels, levels="summed", bounded=False)
    return with_model(base, generator)


def scaled_levels(base: RunConfig) -> RunConfig:
    """CAT's: as many levels, each at twice the resolution of the one before, and their consistency."""
    base = summed_levels(base)
    objective = replaced(base.objective, level_consistency=10)
    discriminator = replaced(base.model.discriminator, classifier=False)
    return with_model(base, replaced(base.model.generator, levels="scaled"), discriminator, objective)


def aligned(base: RunConfig) -> RunConfig:
    """D's tokens aligned with a frozen EfficientNet-Lite, an option of GAT's."""
    discriminator = replaced(base.model.discriminator, alignment_features="lite2")
    return with_model(base, discriminator=discriminator, objective=replaced(base.objective, alignment=0.5))


def cat(base: RunConfig) -> RunConfig:
    """CAT's images of each level at its own resolution, in GAT's recipe: CAT's own is not public."""
    return scaled_levels(gat(base))


def gat(base: RunConfig) -> RunConfig:
    """GAT's recipe as far as our options go, class-conditional; docs/paper_map.md lists what differs."""
    base = summed_levels(gat_positions(modern(base)))
    generator = replaced(
        base.model.generator,
        pixel_mapping="linear",
        mapping_layers=2,
        mapping_lr_multiplier=0.01,
        modulation_silu=True,
        modulation_init=0.1,
        gate_bias=0,
        **GAT_ATTENTION,
    )
    discriminator = replaced(base.model.discriminator, overlap=0, class_token_init=0.02, **GAT_ATTENTION)
    objective = replaced(base.objective, r1_gamma=0.1, r2_gamma=0.1, penalty_noise=0.01)
    training = replaced(base.training, batch_size=512, ema_half_life_images=355_000, gradient_clip=1)
    model = replaced(base.model, generator=generator, discriminator=discriminator, conditional=True)
    return replaced(base, model=model, objective=objective, training=training)


GAT_ATTENTION = {"key_bias": True, "attention_init": 0.5**0.5}


def projected(base: RunConfig) -> RunConfig:
    """Our modern generator, with the latent in each token and convolutions onto pixels, against Projected GAN's D."""
    base = modern(base)
    generator = replaced(base.model.generator, latent_tokens=True, pixel_mapping="conv")
    return with_projected_discriminator(with_model(base, generator))


def with_projected_discriminator(base: RunConfig) -> RunConfig:
    """A class-conditional D on frozen ImageNet features, hinge loss (Sauer et al. 2021), energy, classifier, batch 64."""
    model = replaced(base.model, discriminator=ProjectedDiscriminatorConfig(classifier=True), conditional=True)
    objective = ObjectiveConfig(loss="hinge", bcr_real=0, bcr_fake=0, energy=8, classification=0.5)
    training = replaced(base.training, batch_size=64, discriminator_learning_rate=0.001)
    augmentation = replaced(base.augment, scaling=0.0)
    return replaced(base, model=model, objective=objective, augment=augmentation, training=training)


def both_vits(**changes: object) -> Callable[[RunConfig], RunConfig]:
    """A step that changes the same fields of G and D."""

    def step(base: RunConfig) -> RunConfig:
        model = base.model
        return with_model(base, replaced(model.generator, **changes), replaced(model.discriminator, **changes))

    return step


def relativistic(base: RunConfig) -> RunConfig:
    """Relativistic pairing loss with first-order R1 and R2, DiffAugment without scaling, no bCR (R3GAN, GAT).

    Scaling interpolates: it blurs the borders of patches and the texture that D is to judge. Through cutout and
    shifts a penalty is 0.7 of what it is without, so gamma is larger by as much.
    """
    base = replaced(base, augment=replaced(base.augment, scaling=0.0))
    return with_model(base, objective=replaced(FAST_OBJECTIVE, diffaugment=True, r1_gamma=0.07, r2_gamma=0.07))


def dot_attention(base: RunConfig) -> RunConfig:
    """Dot-product attention with QK-norm in G and D, no spectral norm (Henry et al. 2020; GAT)."""
    discriminator = replaced(base.model.discriminator, attention="dot", weight_norm="none", qk_norm=True)
    return with_model(base, replaced(base.model.generator, qk_norm=True), discriminator)


def gates(base: RunConfig) -> RunConfig:
    """Residual branches times gate(w) in G, times a learned factor that starts at 0.1 in D (LayerScale) (GAT)."""
    return with_model(
        base, replaced(base.model.generator, gated=True), replaced(base.model.discriminator, layer_scale=0.1)
    )


def width_scaled_rate(base: RunConfig) -> RunConfig:
    """Ordinary weights in place of equalised ones, and GAT's learning rate 2e-4 at width 768, scaled by 768 / width."""
    rate = 2e-4 * 768 / vit(base).dim
    training = replaced(base.training, learning_rate=rate, discriminator_learning_rate=None)
    base = both_vits(equalized_lr=False)(base)
    generator = replaced(base.model.generator, mapping_lr_multiplier=1.0)
    return replaced(with_model(base, generator), training=training)


def interpolated(base: RunConfig) -> RunConfig:
    """The interpolated decoder in place of the implicit one, half as wide as the tokens (docs/results/images.md)."""
    return with_model(base, replaced(base.model.generator, pixel_mapping="interpolated", inr_dim=vit(base).dim // 2))


MODERN_STEPS: dict[str, Callable[[RunConfig], RunConfig]] = {
    "relativistic": relativistic,
    "dot+qk-norm": dot_attention,
    "rms-norm": both_vits(normalization="rms"),
    "swiglu": both_vits(mlp="swiglu"),
    "gates": gates,
    "width-scaled-rate": width_scaled_rate,
    "interpolated": interpolated,
}
"""What makes up `-modern`, in order; `vitgan ablate modern` measures the steps one on top of the other."""


def imagenet256(
    recipe: Callable[[RunConfig], RunConfig], dim: int, depth: int, num_heads: int, epochs: int
) -> RunConfig:
    """A pair of such ViTs on 32×32×4 latents of ImageNet at 256×256, patches of 2. The sizes are ours."""
    sizes = {"dim": dim, "depth": depth, "num_heads": num_heads, "patch_size": 2}
    base = RunConfig(
        data="data/imagenet256-latents",
        model=ModelConfig(
            resolution=32,
            channels=4,
            num_classes=1000,
            generator=ViTGeneratorConfig.model_validate(sizes | {"z_dim": dim, "w_dim": dim}),
            discriminator=ViTDiscriminatorConfig.model_validate(sizes),
        ),
    )
    base = recipe(base)
    return replaced(base, training=replaced(base.training, total_kimg=round(epochs * IMAGENET_KIMG)))


IMAGENET_KIMG = 1281.167
"""Training images of ImageNet, in thousands."""


class PaperSize(NamedTuple):
    """One column of the paper's table of sizes."""

    resolution: int
    depth: int
    patch_size: int
    discriminator_patch_size: int | None = None
    """D's, where its grid is finer than G's: the paper raises D's sequence length first to go to higher resolutions."""


PAPER_SIZES = {
    "cifar10": PaperSize(32, 4, 4),
    "celeba64": PaperSize(64, 6, 8),
    "lsun64": PaperSize(64, 6, 8),
    "lsun128": PaperSize(128, 6, 8),
    "lsun256": PaperSize(256, 6, 16, 8),
}

VARIANTS: dict[str, Callable[[RunConfig], RunConfig]] = {
    "vanilla": vanilla,
    "stylegan2d": stylegan2d,
    "stylegan2": stylegan2,
    "authors-schedule": authors_schedule,
    "modern": modern,
    "gat": gat,
    "projected": projected,
}

CPU_PRESETS: dict[str, Callable[[], RunConfig]] = {
    "quickstart": quickstart,
    "cifar10-tiny": cifar10_tiny,
    "cifar10-tiny-modern": cifar10_tiny_modern,
    "cifar10-tiny-projected": cifar10_tiny_projected,
}

IMAGENET_PRESETS: dict[str, Callable[[], RunConfig]] = {
    # DiT's sizes, which for XL give GAT's published counts; CAT-M's width and depth give its parameters, see
    # docs/results/at-scale.md. 60 and 40 epochs are GAT-XL's and CAT-M's.
    "imagenet256-gat-s": partial(imagenet256, gat, dim=384, depth=12, num_heads=6, epochs=60),
    "imagenet256-gat-b": partial(imagenet256, gat, dim=768, depth=12, num_heads=12, epochs=60),
    "imagenet256-gat-xl": partial(imagenet256, gat, dim=1152, depth=28, num_heads=16, epochs=60),
    "imagenet256-cat-m": partial(imagenet256, cat, dim=896, depth=20, num_heads=14, epochs=40),
}

PRESET_NAMES = (
    *(CPU_PRESETS | IMAGENET_PRESETS),
    *(size + variant for size in PAPER_SIZES for variant in ("", *(f"-{name}" for name in VARIANTS))),
)


def preset(name: str, **changes: object) -> RunConfig:
    """The preset of that name, its name written into it, with some fields changed.

        vitgan.preset("quickstart", **{"training.total_kimg": 1, "model.generator.depth": 3})

    Args:
        name: One of `PRESET_NAMES`.
        changes: Values by the fields' dotted names; for a part of the configuration, a whole Config.

    Raises:
        UserError: If there is no such preset or field, with the nearest name, or a value does not fit.
    """
    if name not in PRESET_NAMES:
        hint = "".join(f"did you mean {near!r}? " for near in similar(name, PRESET_NAMES)[:1])
        raise UserError(
            f"unknown preset {name!r}: {hint}for a CPU there are {', '.join(CPU_PRESETS)}; `vitgan train --help` lists all"
        )
    own = CPU_PRESETS | IMAGENET_PRESETS
    if name in own:
        base = own[name]()
    else:
        dataset, _, variant = name.partition("-")
        base = VARIANTS[variant](vitgan(dataset)) if variant else vitgan(dataset)
    return changed(base, {"preset": name} | changes)


def from_file(path: str | Path, base: RunConfig | None = None) -> RunConfig:
    """The configuration in a file .json or .yaml: all fields, as a run's config.json has them, or some.

    Args:
        path: The file.
        base: What the file leaves out is taken from; default: the preset that the file names in `preset`, else the
            defaults.

    Raises:
        UserError: If the file cannot be read, names an unknown preset or field, or a value does not fit.
    """
    path = Path(path)
    tree = read_tree(path, "configuration")
    try:
        named = tree.get("preset", "custom") if isinstance(tree, dict) else "custom"
        if base is None and named not in ("custom", *PRESET_NAMES) and {*RunConfig.model_fields} > {*tree}:
            preset(named)  # says what is wrong with it
        new = merged(base or (preset(named) if named in PRESET_NAMES else RunConfig()), tree)
        if {*RunConfig.model_fields} > {*tree}:  # a run's own file has all fields, whether or not somebody set them
            check_effect(new, dict(flat(tree)))
        return new
    except UserError as error:
        raise UserError(one_line(f"{path}: {error}"), error.parameter) from error


Replaced = TypeVar("Replaced", bound=Config)


def replaced(config: Replaced, **changes: object) -> Replaced:
    """A copy with some fields changed, validated.

    Raises:
        UserError: If it is a network of a kind that has no such field.
    """
    unknown = [name for name in changes if name not in type(config).model_fields]
    if unknown and "kind" in type(config).model_fields:
        raise UserError(f"a network of kind {getattr(config, 'kind', '')} has no {', '.join(unknown)}")
    return type(config).model_validate(dict(config) | changes)


def with_model(
    base: RunConfig,
    generator: GeneratorConfig | None = None,
    discriminator: DiscriminatorConfig | None = None,
    objective: ObjectiveConfig | None = None,
) -> RunConfig:
    """A copy with another player or objective."""
    model = replaced(
        base.model,
        generator=generator or base.model.generator,
        discriminator=discriminator or base.model.discriminator,
    )
    return replaced(base, model=model, objective=objective or base.objective)


def vit(base: RunConfig) -> ViTGeneratorConfig:
    """A base's generator.

    Raises:
        UserError: If it is no ViT.
    """
    if not isinstance(base.model.generator, ViTGeneratorConfig):
        raise UserError(f"the generator is of kind {base.model.generator.kind}, not vit")
    return base.model.generator


def channel_base(base: RunConfig) -> int:
    """StyleGAN2's width beside a given ViT: 512, 512, 256, 128 maps from 4² to 32² beside the paper's 384."""
    return round(4096 * vit(base).dim / 384)
