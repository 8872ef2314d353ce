from typing import Any

import pytest
import torch

from generators import make
from refusals import refused
from vitgan.explore.latents import render, styles_of
from vitgan.explore.zoom import bicubic, render_window, zoom, zoom_frames
from vitgan.models.generator import Generator


@pytest.fixture
def styles(vit: Generator) -> torch.Tensor:
    return styles_of(vit, [0, 1])


def test_factor_one_is_the_plain_image(vit: Generator, styles: torch.Tensor) -> None:
    assert torch.equal(zoom(vit, styles, 1), render(vit, styles))


def test_an_odd_factor_passes_through_the_plain_pixels(vit: Generator, styles: torch.Tensor) -> None:
    """The centre of 3×3 pixels is the centre of the pixel they divide."""
    dense = zoom(vit, styles, 3)
    assert dense.shape == (2, 3, 48, 48)
    torch.testing.assert_close(dense[:, :, 1::3, 1::3], zoom(vit, styles, 1), atol=1e-5, rtol=0)


def test_the_mean_of_denser_pixels_is_near_the_plain_image(vit: Generator, styles: torch.Tensor) -> None:
    plain = zoom(vit, styles, 1)
    error = (torch.nn.functional.avg_pool2d(zoom(vit, styles, 2), 2) - plain).square().mean()
    assert error < 0.05 * plain.var()


@pytest.mark.parametrize("size", [16, 32])
def test_the_whole_window_is_the_image(vit: Generator, styles: torch.Tensor, size: int) -> None:
    window = render_window(vit, styles[:1], (8, 8), 16, size)
    torch.testing.assert_close(window, zoom(vit, styles[:1], size // 16), atol=1e-5, rtol=0)


def test_a_window_is_a_part_of_the_denser_image(vit: Generator, styles: torch.Tensor) -> None:
    window = render_window(vit, styles[:1], (6, 11), 8, 32)
    torch.testing.assert_close(window, zoom(vit, styles[:1], 4)[:, :, 28:60, 8:40], atol=1e-5, rtol=0)
    corner = render_window(vit, styles[:1], (0, 100), 8, 32)  # moved inside
    torch.testing.assert_close(corner, zoom(vit, styles[:1], 4)[:, :, 32:, :32], atol=1e-5, rtol=0)


def test_frames_go_in_and_come_back(vit: Generator, styles: torch.Tensor) -> None:
    frames = list(zoom_frames(vit, styles[:1], frames=4, largest=2, size=16))
    torch.testing.assert_close(frames[0], zoom(vit, styles[:1], 1), atol=1e-5, rtol=0)
    torch.testing.assert_close(frames[2], zoom(vit, styles[:1], 2)[:, :, 8:24, 8:24], atol=1e-5, rtol=0)
    torch.testing.assert_close(frames[1], frames[3], atol=1e-4, rtol=0)


def test_bicubic_keeps_a_constant() -> None:
    torch.testing.assert_close(bicubic(torch.full((1, 3, 4, 4), 0.5), 2), torch.full((1, 3, 8, 8), 0.5))


@pytest.mark.parametrize("kind", ["conv", "stylegan2", "summed"])
def test_only_implicit_decoders_zoom(kind: str) -> None:
    generator = make(kind)
    with refused("pixel_mapping inr"):
        zoom(generator, styles_of(generator, [0]), 2)


def test_a_window_is_of_one_image(vit: Generator, styles: torch.Tensor) -> None:
    with refused((2, 3, 12), (1, 3, 12), parameter="styles"):
        render_window(vit, styles, (8, 8), 16, 16)
    with refused((2, 3, 12), parameter="styles"):
        next(zoom_frames(vit, styles))


@pytest.mark.parametrize("number", [0, 2.5])
def test_sizes_are_whole_numbers(vit: Generator, styles: torch.Tensor, number: Any) -> None:
    with refused(number, parameter="factor"):
        zoom(vit, styles, number)
    with refused(number, parameter="size"):
        render_window(vit, styles[:1], (8, 8), 16, number)
    with refused(number, parameter="frames"):
        next(zoom_frames(vit, styles[:1], number))


def test_what_is_not_finite_is_not_shown(vit: Generator, styles: torch.Tensor) -> None:
    broken = styles[:1] * torch.nan
    with refused():
        zoom(vit, broken, 2)
    with refused():
        render_window(vit, broken, (8, 8), 16, 16)
