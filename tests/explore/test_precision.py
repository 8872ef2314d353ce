"""A model in bfloat16 (`Generator.half`) or float64 is explored like any other: each way gives what it gives in float32."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from generators import make
from vitgan.explore.attention import generator_attention
from vitgan.explore.directions import edit, find_directions
from vitgan.explore.invert import invert
from vitgan.explore.latents import interpolate, mix, render, styles_of, truncate
from vitgan.explore.zoom import render_window, zoom
from vitgan.models.generator import Generator

Way = Callable[[Generator], Tensor]

WAYS: dict[str, Way] = {
    "seeds": lambda g: render(g, styles_of(g, [0, 1])),
    "mix": lambda g: render(g, mix(g, styles_of(g, [0, 1]), styles_of(g, [2]))),
    "truncate": lambda g: render(g, truncate(g, [0], (0.5, 1.0))),
    "interpolate": lambda g: render(g, interpolate(g, [0, 1], 2)),
    "directions": lambda g: render(g, edit(g, styles_of(g, [0]), find_directions(g, 2), (0.0, 1.0))[:, :1]),
    "attention": lambda g: generator_attention(g, styles_of(g, [0]))[-1],
    "zoom": lambda g: zoom(g, styles_of(g, [0]), 2),
    "window": lambda g: render_window(g, styles_of(g, [0]), (0.1, 0.2), 0.5, 8),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("cast", "tolerance"), [(Generator.half, 0.06), (Generator.double, 1e-4)])
def test_the_precision_changes_little(way: str, cast: Callable[[Generator], Generator], tolerance: float) -> None:
    expected = WAYS[way](make("vit"))
    found = WAYS[way](cast(make("vit")))
    torch.testing.assert_close(found.float(), expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("cast", [Generator.float, Generator.half, Generator.double])
@pytest.mark.parametrize("kind", ["vit", "stylegan2"])
def test_a_picture_is_found(kind: str, cast: Callable[[Generator], Generator]) -> None:
    generator = cast(make(kind))
    target = render(generator, styles_of(generator, [5])).float()
    early, late = (invert(generator, target, steps=steps).psnr for steps in (1, 60))
    assert late > early + 3
