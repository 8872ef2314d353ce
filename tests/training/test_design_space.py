"""Every generator with every discriminator, loss and regulariser takes finite steps; contradictions are refused."""

import itertools
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from reference.draws import normal
from refusals import refused
from tiny import TINY_DISCRIMINATOR, TINY_GENERATOR, tiny_run
from vitgan.cli.main import dispatch
from vitgan.config import RunConfig
from vitgan.models.build import DiscriminatorConfig, GeneratorConfig, build_discriminator, build_generator
from vitgan.models.projected_discriminator import ProjectedDiscriminatorConfig
from vitgan.models.stylegan2_discriminator import StyleGAN2DiscriminatorConfig
from vitgan.models.stylegan2_generator import StyleGAN2GeneratorConfig
from vitgan.presets import VARIANTS, cifar10_tiny, quickstart, replaced, with_model
from vitgan.training.loop import Trainer
from vitgan.training.losses import LOSSES
from vitgan.training.objective import ObjectiveConfig
from vitgan.training.randomness import StepRandomness

STYLEGAN2_GENERATOR = StyleGAN2GeneratorConfig(channel_base=64, z_dim=8, w_dim=8, mapping_layers=2)
STYLEGAN2_DISCRIMINATOR = StyleGAN2DiscriminatorConfig(channel_base=64)
MODERN = {"normalization": "rms", "mlp": "swiglu", "qk_norm": True, "equalized_lr": False}

GENERATORS: dict[str, GeneratorConfig] = {
    f"{latent}-{pixel}": replaced(TINY_GENERATOR, latent_mapping=latent, pixel_mapping=pixel)
    for latent, pixel in itertools.product(("sln", "add", "prepend"), ("inr", "linear", "conv", "interpolated"))
}
GENERATORS |= {
    "modern": replaced(TINY_GENERATOR, gated=True, mapping_lr_multiplier=1.0, **MODERN),
    "latent-tokens": replaced(TINY_GENERATOR, latent_tokens=True),
    "rotary": replaced(TINY_GENERATOR, positions="sincos", rotary=True),
    "summed": replaced(TINY_GENERATOR, depth=2, num_levels=2, levels="summed"),
    "stylegan2": STYLEGAN2_GENERATOR,
}

DISCRIMINATORS: dict[str, DiscriminatorConfig] = {
    f"{attention}-{norm}-overlap{overlap}{'-conv' if conv else ''}": replaced(
        TINY_DISCRIMINATOR, attention=attention, weight_norm=norm, overlap=overlap, convolutional_projection=conv
    )
    for attention, norm, overlap, conv in itertools.product(
        ("l2", "dot"), ("isn", "sn", "none"), (0, 2, 4), (False, True)
    )
}
DISCRIMINATORS |= {
    "modern": replaced(TINY_DISCRIMINATOR, attention="dot", weight_norm="none", layer_scale=0.1, **MODERN),
    "rotary-l2": replaced(TINY_DISCRIMINATOR, positions="sincos", rotary=True),
    "rotary": replaced(TINY_DISCRIMINATOR, positions="none", rotary=True, attention="dot", weight_norm="none"),
    "stylegan2": STYLEGAN2_DISCRIMINATOR,
    "projected": ProjectedDiscriminatorConfig(input_size=32, width=4),
}

PLAIN: dict[str, object] = {"bcr_real": 0, "bcr_fake": 0, "diffaugment": False}
REGULARIZERS: dict[str, dict[str, object]] = {
    "none": PLAIN,
    "diffaugment": PLAIN | {"diffaugment": True},
    "bcr": PLAIN | {"bcr_real": 10, "bcr_fake": 10},
    "r1": PLAIN | {"r1_gamma": 1},
    "r2": PLAIN | {"r2_gamma": 1},
    "r1-r2-finite-difference": PLAIN | {"r1_gamma": 1, "r2_gamma": 1, "penalty": "finite_difference"},
    "wgan-gp": PLAIN | {"wgan_gp": 10},
    "lecam": PLAIN | {"lecam": 0.3},
    "path-length": PLAIN | {"path_length": 2, "path_length_interval": 2},
    "style-mixing": PLAIN | {"style_mixing": 0.9},
    "all": {"r1_gamma": 1, "r2_gamma": 1, "wgan_gp": 10, "lecam": 0.3, "path_length": 2, "style_mixing": 0.9},
}


def take_steps(config: RunConfig, folder: Path, steps: int = 2) -> None:
    """The first step with all lazy terms, the second without them and from weights that were moved."""
    AcceleratorState._reset_state()
    accelerator = Accelerator(cpu=True, mixed_precision="no")
    trainer = Trainer(config.model, config.objective, config.augment, config.training, accelerator, folder)
    resolution = config.model.resolution
    images = torch.rand(4, 3, resolution, resolution, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for step in range(steps):
        parts = trainer.step(images, None, StepRandomness(0, step))
        assert all(torch.isfinite(value) for value in parts.values()), (step, parts)
    for player in (trainer.state.generator, trainer.state.discriminator):
        assert all(torch.isfinite(p).all() for p in player.parameters())
    assert torch.isfinite(trainer.state.generator_ema.sample(2)).all()


PLAYERS = tuple(itertools.product((TINY_GENERATOR, STYLEGAN2_GENERATOR), (TINY_DISCRIMINATOR, STYLEGAN2_DISCRIMINATOR)))


@pytest.mark.parametrize("loss", range(len(LOSSES)), ids=[*LOSSES])
@pytest.mark.parametrize("regularizer", range(len(REGULARIZERS)), ids=[*REGULARIZERS])
def test_any_loss_and_regularizer_with_any_players(tmp_path: Path, regularizer: int, loss: int) -> None:
    """Every loss with every regulariser, and with each of them every pair of players once."""
    terms = [*REGULARIZERS.values()][regularizer] | {"loss": [*LOSSES][loss]}
    generator, discriminator = PLAYERS[(regularizer + loss) % len(PLAYERS)]
    objective = ObjectiveConfig.model_validate(terms)
    take_steps(with_model(tiny_run("unused"), generator, discriminator, objective), tmp_path)


@pytest.mark.parametrize("regularizer", [*REGULARIZERS, "level-consistency"])
@pytest.mark.parametrize("levels", ["summed", "scaled"])
def test_any_regularizer_with_levels(tmp_path: Path, levels: str, regularizer: str) -> None:
    generator = replaced(TINY_GENERATOR, depth=3, num_levels=2, levels=levels)
    terms = REGULARIZERS.get(regularizer, PLAIN | {"level_consistency": 10})
    objective = ObjectiveConfig.model_validate(terms | {"loss": "relativistic"})
    if regularizer == "level-consistency" and levels == "summed":
        with refused(parameter="objective.level_consistency"):
            with_model(tiny_run("unused"), generator, objective=objective)
    else:
        take_steps(with_model(tiny_run("unused"), generator, objective=objective), tmp_path)


@pytest.mark.parametrize("discriminator", [name for name, config in DISCRIMINATORS.items() if config.kind == "vit"])
def test_scaled_levels_with_any_vit(tmp_path: Path, discriminator: str) -> None:
    generator = replaced(TINY_GENERATOR, depth=2, num_levels=2, levels="scaled")
    take_steps(with_model(tiny_run("unused"), generator, DISCRIMINATORS[discriminator]), tmp_path, steps=1)


@pytest.mark.parametrize("generator", GENERATORS)
def test_any_generator_with_any_discriminator(tmp_path: Path, generator: str) -> None:
    for discriminator in ("l2-isn-overlap2", "dot-none-overlap0", "modern", "rotary", "stylegan2"):
        config = with_model(tiny_run("unused"), GENERATORS[generator], DISCRIMINATORS[discriminator])
        take_steps(config, tmp_path)


@pytest.mark.parametrize("discriminator", DISCRIMINATORS)
def test_any_discriminator_under_exact_penalties(tmp_path: Path, discriminator: str) -> None:
    objective = ObjectiveConfig(r1_gamma=1, r2_gamma=1)
    take_steps(
        with_model(tiny_run("unused"), discriminator=DISCRIMINATORS[discriminator], objective=objective), tmp_path
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_trains_at_small_size(tmp_path: Path, variant: str) -> None:
    generator = replaced(TINY_GENERATOR, dim=48, num_heads=2)
    discriminator = replaced(TINY_DISCRIMINATOR, dim=48, num_heads=2)
    base = with_model(tiny_run("unused"), generator, discriminator)
    config = VARIANTS[variant](base)
    take_steps(replaced(config, training=replaced(config.training, batch_size=4)), tmp_path)


def test_the_authors_r1_is_theirs_of_images_between_0_and_1() -> None:
    """0.1 / 2 ||∇_y D(2 y - 1)||² at y = (x + 1) / 2 is our weight times ||∇_x D(x)||²."""
    config = VARIANTS["authors-schedule"](cifar10_tiny())
    x = normal(1, 12).requires_grad_()
    y = ((x.detach() + 1) / 2).requires_grad_()
    (ours,) = torch.autograd.grad((x**3).sum(), x)
    (theirs,) = torch.autograd.grad(((2 * y - 1) ** 3).sum(), y)
    expected = 0.1 / 2 * theirs.square().sum().item()
    assert config.objective.r1_gamma / 2 * ours.square().sum().item() == pytest.approx(expected)


@pytest.mark.parametrize("variant", sorted(VARIANTS.keys() - {"vanilla"}))  # whose latent mapping has no gates
def test_variants_of_the_demo_can_be_built(variant: str) -> None:
    """What the demo has of its own, bounds and a classifier, is left out where a variant has no place for it."""
    model = replaced(VARIANTS[variant](quickstart()).model, num_classes=10)
    build_discriminator(model, device="meta")
    build_generator(model.generator_spec(), device="meta")


def test_variants_keep_the_size_of_their_base() -> None:
    for variant in VARIANTS.values():
        model = variant(cifar10_tiny()).model
        assert (model.resolution, model.channels) == (32, 3)
        if model.generator.kind == "vit":
            assert (model.generator.dim, model.generator.depth) == (128, 3)


@pytest.mark.parametrize(
    ("overrides", "parameter", "others"),
    [
        (
            "--objective.r1-gamma 1 --model.discriminator.attention-kernel fused",
            "model.discriminator.attention_kernel",
            ["fused"],
        ),
        (
            "--objective.path-length 2 --model.generator.attention-kernel fused",
            "model.generator.attention_kernel",
            ["fused"],
        ),
        ("--model.discriminator.patch-size 5", "model.discriminator.patch_size", [5, 32]),
        ("--model.generator.num-heads 5", "model.generator.num_heads", [5, "generator.dim 384"]),
        ("--model.generator.mlp-ratio 0.001", "model.generator.mlp_ratio", [0.001, "generator.dim 384"]),
        ("--model.discriminator.mlp-ratio 0.001", "model.discriminator.mlp_ratio", [0.001]),
        ("--model.discriminator.overlap 5", "model.discriminator.overlap", [5, 4]),
        (
            "--model.generator.gated --model.generator.latent-mapping add",
            "model.generator.gated",
            ["generator.latent_mapping sln"],
        ),
        ("--model.generator.rotary --model.generator.num-heads 64", "model.generator.rotary", [4, 6]),
        ("--model.discriminator.rotary --model.discriminator.num-heads 64", "model.discriminator.rotary", [4, 6]),
        ("--augment.probability 0", "augment.probability", ["diffaugment"]),
        ("--augment.adaptive 0.6 --objective.loss wasserstein", "augment.adaptive", ["wasserstein"]),
        ("--augment.adaptive 0.6 --objective.no-diffaugment", "augment.adaptive", ["objective.diffaugment"]),
        (
            "--objective.bcr-ramp-images 9 --objective.bcr-real 0 --objective.bcr-fake 0",
            "objective.bcr_ramp_images",
            ["bcr_real", "bcr_fake"],
        ),
    ],
)
def test_contradictions_are_refused_in_one_line(overrides: str, parameter: str, others: list[object]) -> None:
    with refused(*others, parameter=parameter):
        dispatch(["train", "cifar10", "--dry-run", *overrides.split()])


def test_exact_penalties_take_a_kernel_with_a_second_derivative(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import vitgan.layers.attention as attention

    monkeypatch.setitem(
        attention.FUSED_FROM_TOKENS, "cpu", {"l2": 1, "dot": 1}
    )  # so that "auto" would take the fused kernel
    take_steps(tiny_run("unused"), tmp_path, steps=1)
    objective = ObjectiveConfig(r1_gamma=1, path_length=2)
    take_steps(with_model(tiny_run("unused"), objective=objective), tmp_path, steps=1)
