import pytest
import torch

from generators import make
from refusals import refused
from tiny import TINY_DISCRIMINATOR
from vitgan.explore.attention import attention_rows, generator_attention, heat
from vitgan.explore.latents import styles_of
from vitgan.layers.attention import SelfAttention
from vitgan.models.build import ModelConfig, build_discriminator
from vitgan.models.vit_generator import GeneratorBlock


@pytest.mark.parametrize("kind", ["vit", "gated", "conv"])
def test_the_generators_maps_are_those_of_its_forward_pass(kind: str) -> None:
    generator, seen = make(kind), []

    def look(layer: SelfAttention, inputs: tuple[torch.Tensor, ...], _: object) -> None:
        seen.append(layer.weights(*layer.project(inputs[0])[:2]))

    for block in generator.blocks:  # pyright: ignore[reportGeneralTypeIssues]
        assert isinstance(block, GeneratorBlock)
        block.attention.register_forward_hook(look)
    styles = styles_of(generator, [0, 1])
    maps = generator_attention(generator, styles)
    seen.clear()
    generator.synthesis(styles)
    assert [m.shape for m in maps] == [(2, 2, 16, 16)] * 2
    for found, expected in zip(maps, seen, strict=True):
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(found.sum(-1), torch.ones(2, 2, 16))


def test_a_latent_token_is_left_out() -> None:
    generator = make("prepend")
    maps = generator_attention(generator, styles_of(generator, [0]))
    assert maps[0].shape == (1, 2, 16, 16)
    assert (maps[0].sum(-1) < 1).all()


def test_a_conditional_discriminator_shows_its_attention_without_classes() -> None:
    config = ModelConfig(resolution=8, num_classes=3, discriminator=TINY_DISCRIMINATOR)
    maps = build_discriminator(config).eval().attention_maps(torch.zeros(2, 3, 8, 8))
    assert all(weights.shape[0] == 2 for weights in maps)
    assert len(maps) == TINY_DISCRIMINATOR.depth


def test_cnns_have_none() -> None:
    generator = make("stylegan2")
    with refused("ViT"):
        generator_attention(generator, styles_of(generator, [0]))


def test_heat_marks_the_patch_attended_to_and_the_one_that_attends() -> None:
    weights = torch.zeros(16)
    weights[6] = 1.0  # row 1, column 2 of 4×4 patches
    shown = heat(weights, torch.zeros(3, 16, 16), query=0)
    assert shown.shape == (3, 128, 128)
    redness = (shown[0] - shown[2])[4:124:32, 20:128:32]
    assert redness.argmax() == 6
    assert shown[:, 0, 0].tolist() == [-1, 1, 1]


def test_attention_that_is_not_finite_is_not_shown() -> None:
    generator = make("vit")
    styles = styles_of(generator, [0])
    with refused():
        attention_rows(torch.zeros(3, 16, 16), generator_attention(generator, styles * torch.nan), [0])
