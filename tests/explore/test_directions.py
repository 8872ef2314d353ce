from typing import Any

import pytest
import torch

from generators import make
from refusals import refused
from vitgan.explore.directions import edit, find_directions, modulation_weights, style_spread
from vitgan.explore.latents import render, styles_of
from vitgan.layers.linear import EqualizedLinear
from vitgan.models.generator import Generator

ROWS = {
    "vit": 5 * 2 * 16,  # two norms in each of two blocks and the final one; gamma and beta of 16 rows
    "gated": 5 * 16 + 2 * 2 * 16,  # RMSNorm has no beta; two gates per block
    "prepend": 16,
    "conv": 5 * 2 * 16 + 16 + 16 + 16,  # three modulated convolutions onto styles of their inputs
    "latent-tokens": 5 * 2 * 16 + 16 + 16 + 16 + 16 * 16,  # and a map of z onto each of 4×4 tokens
    "stylegan2": None,
}


@pytest.mark.parametrize("kind", ROWS)
def test_directions_are_orthonormal(kind: str) -> None:
    vectors, strengths = find_directions(make(kind), 12)
    torch.testing.assert_close(vectors @ vectors.T, torch.eye(12), atol=1e-5, rtol=0)
    assert (strengths[:-1] >= strengths[1:]).all()


@pytest.mark.parametrize("kind", ROWS)
def test_every_map_of_a_style_is_counted(kind: str) -> None:
    """The stacked weights are those of all the layers that are handed a style while an image is made."""
    generator, seen = make(kind), []
    sizes = {(1, generator.w_dim), (1, 12), (1, 8)} if kind == "latent-tokens" else {(1, 12)}
    for name, module in generator.named_modules():
        if isinstance(module, EqualizedLinear) and "mapping_network" not in name:
            module.register_forward_hook(
                lambda layer, inputs, _: (
                    seen.append(layer) if tuple(inputs[0].shape) in sizes and layer not in seen else None
                )
            )
    w = generator.mapping(torch.randn(1, 8, generator=torch.Generator().manual_seed(0)))
    generator.synthesis(generator.styles(w))
    assert sum(layer.out_features for layer in seen) == len(modulation_weights(generator))
    if ROWS[kind]:
        assert len(modulation_weights(generator)) == ROWS[kind]


def test_strengths_are_the_singular_values(vit: Generator) -> None:
    vectors, strengths = find_directions(vit, 3)
    a = modulation_weights(vit)
    torch.testing.assert_close(strengths, torch.linalg.svdvals(a)[:3], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close((a @ vectors.T).norm(dim=0), strengths, atol=1e-4, rtol=1e-4)


def test_amount_zero_is_the_plain_image_and_steps_move(vit: Generator) -> None:
    grid = render(vit, edit(vit, styles_of(vit, [3]), find_directions(vit, 2), [-1, 0, 1]))
    assert grid.shape == (2, 3, 3, 16, 16)
    for row in grid:
        torch.testing.assert_close(row[1], vit.sample(1, 3)[0], atol=1e-5, rtol=0)
    assert not torch.allclose(grid[0, 0], grid[0, 2])


def test_spread(vit: Generator) -> None:
    before = style_spread(vit)
    vit.mapping = lambda z, labels=None: z * 2  # pyright: ignore[reportAttributeAccessIssue]
    assert before > 0
    assert style_spread(vit) == pytest.approx(2 * 8**0.5, rel=0.03)  # 8 independent normals of deviation 2


def test_too_many(vit: Generator) -> None:
    with refused(13, 1, 12, parameter="count"):
        find_directions(vit, 13)


def test_an_edit_is_of_one_image(vit: Generator) -> None:
    with refused((3, 3, 12), (1, 3, 12), parameter="styles"):
        edit(vit, styles_of(vit, [0, 1, 2]), find_directions(vit, 2), (-1, 0, 1))


def test_amounts_are_finite(vit: Generator) -> None:
    with refused("nan", parameter="amounts"):
        edit(vit, styles_of(vit, [0]), find_directions(vit, 2), (0, float("nan")))


@pytest.mark.parametrize("count", [0, 2.5])
def test_a_count_is_a_whole_number(vit: Generator, count: Any) -> None:
    with refused(count, parameter="count"):
        find_directions(vit, count)


def test_directions_of_broken_weights(vit: Generator) -> None:
    for parameter in vit.parameters():
        parameter.fill_(torch.nan)
    with refused():
        find_directions(vit, 2)
