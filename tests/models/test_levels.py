"""Levels against their slow forms: heads, noise, resolutions, and what D makes of them."""

from typing import Any

import pytest
import torch
from torch import Tensor

from reference import vitgan as reference
from reference.draws import normal, perturb
from vitgan.config import RunConfig
from vitgan.errors import UserError
from vitgan.models.build import ModelConfig, build_discriminator, build_generator
from vitgan.models.costs import model_costs
from vitgan.models.levels import accumulated, noise_deviations, shown
from vitgan.models.projected_discriminator import ProjectedDiscriminatorConfig
from vitgan.models.scaled_discriminator import ScaledDiscriminator
from vitgan.models.stylegan2_discriminator import StyleGAN2DiscriminatorConfig
from vitgan.models.vit_generator import ViTGenerator
from vitgan.presets import gat, replaced
from vitgan.training.augment import AugmentConfig, augment
from vitgan.training.randomness import StepRandomness

KINDS = ("summed", "scaled")


def with_levels(model: ModelConfig, num_levels: int, levels: str, **changes: Any) -> ModelConfig:
    """At 16×16, of three blocks if nothing else is said."""
    generator = replaced(model.generator, **{"num_levels": num_levels, "levels": levels, "depth": 3} | changes)
    return replaced(model, resolution=16, generator=generator)


def vit(model: ModelConfig) -> ViTGenerator:
    generator = perturb(build_generator(model.generator_spec())).double()
    assert isinstance(generator, ViTGenerator)
    return generator


def test_noise_falls_as_gat_has_it() -> None:
    assert noise_deviations(4) == pytest.approx([0.885, 0.76, 0.51, 0.01])
    assert noise_deviations(2) == pytest.approx([0.885, 0.01])


@pytest.mark.parametrize("count", [2, 3, 4])
def test_noise_equals_its_slow_form_and_has_its_deviations(count: int) -> None:
    normals = normal(500, count, 3, 4, 4)
    noise = accumulated(normals)
    torch.testing.assert_close(noise, torch.stack([reference.mng_noise(each) for each in normals]))
    for level, deviation in enumerate(noise_deviations(count)):
        assert noise[:, level].std().item() == pytest.approx(deviation, rel=0.03)
    added = noise[:, :-1] - noise[:, 1:]  # what makes a level noisier than the next is independent of that one's noise
    assert ((added * noise[:, 1:]).mean(dim=(0, 2, 3, 4)).abs() < 0.02).all()


@pytest.mark.parametrize(
    "variant", [{}, {"pixel_mapping": "linear"}, {"pixel_mapping": "conv"}, {"latent_mapping": "prepend"}]
)
@pytest.mark.parametrize("kind", KINDS)
def test_levels_equal_their_slow_form(tiny_model, kind: str, variant: dict) -> None:
    """Of four blocks in three levels, which end after 1, 2 and 4; with another style at every place."""
    generator = vit(with_levels(tiny_model, 3, kind, **variant | {"depth": 4}))
    assert generator.level_ends == [1, 2, 4]
    w, noise = normal(2, generator.num_styles, 5), normal(2, 3, 3, 16, 16, seed=1)
    mapping = variant.get("latent_mapping", "sln")
    heads = reference.generator(generator.state_dict(), w, 2, 4, 4, 1.0, 1.0, mapping, lower_ends=(1, 2))
    if kind == "summed":
        images = torch.stack([heads[:, : i + 1].sum(dim=1) for i in range(3)], dim=1)
        expected = images + torch.stack([reference.mng_noise(each) for each in noise])
    else:
        images = expected = torch.stack(
            [torch.stack([reference.blocky(heads[n, i], 2 ** (2 - i)) for i in range(3)]) for n in range(2)]
        )
    torch.testing.assert_close(generator.levels(w), images, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        generator.levels(w, lambda place, *shape: noise.view(shape)), expected, rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(generator.synthesis(w), images[:, -1], rtol=1e-5, atol=1e-5)


def test_all_of_gat_together_equals_its_slow_form(tiny_model) -> None:
    """Mapping, four levels and their noise in G, D on all levels: in float64, by class, weights far from their start."""
    four = {"num_levels": 1, "levels": "summed", "depth": 4, "equalized_lr": True}
    model = gat(RunConfig(model=with_levels(tiny_model, **four))).model
    equalized = {name: replaced(getattr(model, name), equalized_lr=True) for name in ("generator", "discriminator")}
    model = replaced(model, num_classes=3, **equalized)
    generator, labels = vit(model), torch.tensor([2, 0])
    p, z = generator.state_dict(), normal(2, generator.z_dim)
    torch.testing.assert_close(generator.mapping(z, labels), reference.mapping(p, z, labels, 0.01))
    w, noise = normal(2, generator.num_styles, 5), normal(2, 4, 3, 16, 16, seed=1)
    options = {"rotary": True, "lower_ends": (1, 2, 3), "modulation_silu": True}
    heads = reference.generator(p, w, 2, 4, 4, 1.0, 1.0, **options)
    levels = generator.levels(w, lambda place, *shape: noise.view(shape))
    slow = heads.cumsum(dim=1) + torch.stack([reference.mng_noise(each) for each in noise])
    torch.testing.assert_close(levels, slow, rtol=1e-5, atol=1e-5)
    discriminator = perturb(build_discriminator(model)).double()
    q = discriminator.state_dict()
    logits = reference.discriminator(q, q, slow.flatten(1, 2), 2, 4, 0, 1.0, labels, "none", rotary=True)
    torch.testing.assert_close(discriminator(levels, labels), logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_real_images_become_levels_as_fakes_do(tiny_model, kind: str) -> None:
    generator = vit(with_levels(tiny_model, 3, kind))
    real, noise = normal(2, 3, 16, 16), normal(2, 3, 3, 16, 16, seed=1)
    levels = generator.levels_of(real, lambda place, *shape: noise.view(shape))
    if kind == "summed":
        expected = real[:, None] + torch.stack([reference.mng_noise(each) for each in noise])
    else:
        expected = torch.stack(
            [torch.stack([reference.blocky(image, 2 ** (2 - i)) for i in range(3)]) for image in real]
        )
    torch.testing.assert_close(levels, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_one_level_is_the_plain_network(tiny_model, kind: str) -> None:
    """Bit for bit: the same weights from the same seed, the same images, the same logits."""
    model = with_levels(tiny_model, 1, kind)
    plain = replaced(model, generator=replaced(tiny_model.generator, depth=3))
    ours, theirs = build_generator(model.generator_spec()), build_generator(plain.generator_spec())
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    w, real = normal(2, ours.num_styles, 5, dtype=torch.float32), normal(2, 3, 16, 16, dtype=torch.float32)
    noise = StepRandomness(0, 0).normal
    assert torch.equal(ours.levels(w, noise), theirs.synthesis(w))
    assert torch.equal(ours.synthesis(w), theirs.synthesis(w))
    assert ours.levels_of(real, noise) is real
    assert torch.equal(build_discriminator(model)(real), build_discriminator(plain)(real))


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_of_a_generator_of_levels_trains(tiny_model, kind: str) -> None:
    generator = vit(with_levels(tiny_model, 2, kind))
    w = generator.styles(generator.mapping(normal(2, 6)))
    (generator.levels(w) * normal(2, 2, 3, 16, 16, seed=1)).sum().backward()
    for name, parameter in generator.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 1e-8, name


def test_summed_levels_are_channels_of_one_discriminator(tiny_model) -> None:
    """The state dict of a D of 9 channels, and its logits of the levels laid on each other."""
    levels = normal(2, 3, 3, 16, 16, dtype=torch.float32)
    for kind in (tiny_model.discriminator, StyleGAN2DiscriminatorConfig(channel_base=64)):
        model = replaced(with_levels(tiny_model, 3, "summed"), discriminator=kind)
        discriminator = build_discriminator(model)
        assert (discriminator.channels, discriminator.num_levels) == (9, 3)
        torch.testing.assert_close(discriminator(levels), discriminator(levels.reshape(2, 9, 16, 16)))


def test_scaled_levels_are_judged_alone(tiny_model) -> None:
    """Each by the same network, at its own resolution; no level's logit sees another level."""
    discriminator = build_discriminator(with_levels(tiny_model, 3, "scaled"))
    assert isinstance(discriminator, ScaledDiscriminator)
    levels = shown(normal(2, 3, 3, 16, 16, dtype=torch.float32), "scaled").requires_grad_()
    logits = discriminator(levels)
    assert isinstance(logits, Tensor)
    assert logits.shape == (2, 3)
    for level, side in enumerate((4, 2, 1)):
        small = levels[:, level, :, ::side, ::side]  # blocks of equal pixels
        torch.testing.assert_close(logits[:, level], discriminator.network(small))
        (gradient,) = torch.autograd.grad(logits[:, level].sum(), levels, retain_graph=True)
        seen = gradient.abs().amax(dim=(0, 2, 3, 4)) > 0
        assert seen.tolist() == [i == level for i in range(3)]


@pytest.mark.parametrize("kind", KINDS)
def test_attention_maps_are_of_the_last_level(tiny_model, kind: str) -> None:
    discriminator, images = build_discriminator(with_levels(tiny_model, 3, kind)), normal(2, 3, 16, 16).float()
    maps = discriminator.attention_maps(images)
    assert [m.shape for m in maps] == [(2, 2, 17, 17)] * 2
    if isinstance(discriminator, ScaledDiscriminator):
        torch.testing.assert_close(maps, discriminator.network.attention_maps(images))


def test_all_levels_are_augmented_alike() -> None:
    config, levels = AugmentConfig(probability=0.7), normal(20, 3, 3, 16, 16, dtype=torch.float32)
    parameters = StepRandomness(0, 0).augmentation("levels", config, 20, 16)
    expected = torch.stack([augment(level, parameters, config) for level in levels.unbind(1)], dim=1)
    assert torch.equal(augment(levels, parameters, config), expected)


@pytest.mark.parametrize(
    ("num_levels", "levels", "discriminator"),
    [
        (5, "summed", None),  # of four blocks
        (4, "scaled", None),  # the first is 2 pixels wide, a patch 4
        (2, "summed", ProjectedDiscriminatorConfig()),
        (2, "scaled", StyleGAN2DiscriminatorConfig()),
    ],
)
def test_what_cannot_have_levels_is_refused(tiny_model, num_levels: int, levels: str, discriminator) -> None:
    generator = replaced(tiny_model.generator, num_levels=num_levels, levels=levels, depth=4)
    discriminator = discriminator or tiny_model.discriminator
    model = replaced(tiny_model, resolution=16, generator=generator, discriminator=discriminator)
    with pytest.raises(UserError) as caught:
        model_costs(model)
    assert caught.value.parameter == "model.generator.num_levels"
