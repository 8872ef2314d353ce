import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from generators import make
from refusals import refused
from vitgan.errors import UserError
from vitgan.explore.latents import (
    crossover,
    interpolate,
    lerp,
    mix,
    mixed_styles,
    read_styles,
    render,
    slerp,
    styles_of,
    truncate,
    walk,
    write_styles,
)
from vitgan.models.generator import Generator


def test_slerp_turns_at_constant_speed_and_keeps_the_length() -> None:
    a, b = torch.tensor([2.0, 0.0, 0.0]), torch.tensor([0.0, 2.0, 0.0])
    angles = torch.tensor([0, 1 / 3, 2 / 3, 1]) * math.pi / 2
    expected = 2 * torch.stack([angles.cos(), angles.sin(), torch.zeros(4)], dim=1)
    torch.testing.assert_close(slerp(a, b, torch.tensor([0, 1 / 3, 2 / 3, 1])), expected)


def test_slerp_of_vectors_in_one_line_is_the_line() -> None:
    a, t = torch.tensor([1.0, 2.0]), torch.tensor([0.0, 0.5, 1.0])
    torch.testing.assert_close(slerp(a, 3 * a, t), torch.stack([a, 2 * a, 3 * a]))
    assert slerp(a, -a, t).isfinite().all()


@pytest.mark.parametrize("way", [lerp, slerp])
def test_a_walk_meets_each_point_once(way: object) -> None:
    points = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    loop = walk(points, 4, way, loop=True)  # pyright: ignore[reportArgumentType]
    assert loop.shape == (12, 5)
    assert torch.equal(loop[::4], points)
    path = walk(points, 4, way, loop=False)  # pyright: ignore[reportArgumentType]
    assert path.shape == (9, 5)
    assert torch.equal(path[::4], points)


def test_styles_of_a_seed_are_those_that_sample_draws(vit: Generator) -> None:
    styles = styles_of(vit, [7, 8], truncation=0.5)
    expected = torch.cat([vit.sample(1, seed, truncation=0.5) for seed in (7, 8)])
    torch.testing.assert_close(vit.synthesis(styles).clamp(-1, 1), expected)


def test_known_styles_stand_among_seeds(vit: Generator) -> None:
    found = torch.randn(vit.num_styles, vit.w_dim, generator=torch.Generator().manual_seed(0))
    styles = styles_of(vit, [7, found])
    torch.testing.assert_close(styles, torch.stack([styles_of(vit, [7])[0], found]))
    half = styles_of(vit, [found], truncation=0.5)[0]
    torch.testing.assert_close(half, (found + vit.w_mean) / 2)
    torch.testing.assert_close(interpolate(vit, [found, 7], steps=3, space="w")[[0, 3]], styles.flip(0))
    assert torch.equal(mix(vit, styles[1:], styles[:1], layer=1)[1, 1], torch.stack([found[0], *styles[0, 1:]]))
    with refused(parameter="space"):
        interpolate(vit, [found, 7], space="z")
    with refused(f"({vit.num_styles}, {vit.w_dim})", parameter="seeds"):
        styles_of(vit, [found[:1]])


def test_known_styles_of_a_class_go_to_its_mean() -> None:
    conditional = make("vit", num_classes=3)
    found = torch.zeros(conditional.num_styles, conditional.w_dim)
    assert torch.equal(styles_of(conditional, [found], 0.0, label=1)[0, 0], conditional.class_means()[1])


def test_a_class_has_a_name_and_a_number() -> None:
    conditional = make("vit", num_classes=3)
    conditional.class_names = ("ant", "bat", "cat")
    plain = styles_of(conditional, [0, 4, 5])
    for place, (seed, names) in enumerate([(0, (0, "0", "ant")), (4, (1, "1", "bat")), (5, (2, "2", "cat"))]):
        for name in names:
            torch.testing.assert_close(styles_of(conditional, [seed], label=name), plain[place : place + 1])


@pytest.mark.parametrize("label", [3, "3", "-1", "dog", "", "9" * 5000])
@pytest.mark.parametrize("classes", [0, 3])
def test_no_such_class(classes: int, label: int | str) -> None:
    with refused(parameter="label"):
        styles_of(make("vit", classes), [0], label=label)


def test_seeds_have_classes_that_the_model_has_seen() -> None:
    conditional = make("vit", num_classes=4)
    conditional.class_counts = (5, 0, 1, 0)
    assert conditional.classes_of_seeds([0, 1, 2, 2**62 + 1]).tolist() == [0, 2, 0, 2]  # pyright: ignore[reportOptionalMemberAccess]


@pytest.mark.parametrize("seeds", [[], [-1], [2**63]])
def test_seeds_out_of_range(vit: Generator, seeds: list[int]) -> None:
    with refused(parameter="seeds"):
        styles_of(vit, seeds)


@pytest.mark.parametrize("space", ["z", "w"])
@pytest.mark.parametrize("way", ["spherical", "linear"])
def test_the_walk_passes_through_the_seeds_images(vit: Generator, space: Any, way: Any) -> None:
    frames = render(vit, interpolate(vit, [3, 4, 5], steps=4, space=space, way=way))
    assert frames.shape == (12, 3, 16, 16)
    expected = torch.cat([vit.sample(1, seed) for seed in (3, 4, 5)])
    torch.testing.assert_close(frames[::4], expected, atol=1e-5, rtol=0)
    assert not torch.allclose(frames[1], frames[0])


def test_straight_styles_lie_between_the_ends(vit: Generator) -> None:
    start, middle, end = interpolate(vit, [0, 1], steps=2, space="w", way="linear", loop=False)[:, 0]
    torch.testing.assert_close(middle, (start + end) / 2)


def test_an_open_walk_ends_on_the_last_seed(vit: Generator) -> None:
    frames = render(vit, interpolate(vit, [3, 4], steps=5, loop=False))
    assert len(frames) == 6
    torch.testing.assert_close(frames[-1:], vit.sample(1, 4), atol=1e-5, rtol=0)


def test_a_conditional_walk_stays_in_its_class() -> None:
    generator = make("vit", num_classes=4)
    frames = render(generator, interpolate(generator, [0, 1], steps=2, label=2))
    torch.testing.assert_close(frames[:1], generator.sample(1, 0, labels=torch.tensor([2])), atol=1e-5, rtol=0)


def test_a_walk_among_styles_of_several_classes_passes_through_each() -> None:
    generator = make("vit", num_classes=4)
    frames = render(generator, interpolate(generator, [0, 3], steps=2, space="w"))
    for seed, frame in ((0, frames[:1]), (3, frames[2:3])):
        torch.testing.assert_close(frame, generator.sample(1, seed, labels=torch.tensor([seed])), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("seeds", "steps"), [([1], 3), ([1, 2], 0)])
def test_too_few_seeds_or_steps(vit: Generator, seeds: list[int], steps: int) -> None:
    with pytest.raises(UserError):
        interpolate(vit, seeds, steps)


@pytest.mark.parametrize("kind", ["vit", "gated", "conv", "stylegan2"])
def test_mixing_at_the_ends_equals_the_pure_images(kind: str) -> None:
    generator = make(kind)
    one, two = styles_of(generator, [1]), styles_of(generator, [2])
    strip = render(generator, crossover(generator, one, two))
    assert len(strip) == generator.num_styles + 1
    torch.testing.assert_close(strip[:1], generator.sample(1, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(strip[-1:], generator.sample(1, 1), atol=1e-5, rtol=0)
    assert all(not torch.allclose(a, b, atol=1e-6) for a, b in itertools.pairwise(strip))


def test_styles_change_over_at_the_layer(vit: Generator) -> None:
    early, late = torch.zeros(1, 3, 12), torch.ones(1, 3, 12)
    assert mixed_styles(vit, early, late, 1)[0, :, 0].tolist() == [0, 1, 1]


def test_the_grid_has_pure_images_at_its_edges(vit: Generator) -> None:
    styles = mix(vit, styles_of(vit, [0, 1]), styles_of(vit, [5, 6, 7]), layer=1)
    grid = render(vit, styles)
    assert grid.shape == (3, 4, 3, 16, 16)
    torch.testing.assert_close(grid[2, 0], vit.sample(1, 1)[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(grid[0, 3], vit.sample(1, 7)[0], atol=1e-5, rtol=0)
    pair = crossover(vit, styles_of(vit, [1]), styles_of(vit, [7]))
    torch.testing.assert_close(styles[2, 3], pair[1])


def test_layers_that_cannot_be_mixed(vit: Generator) -> None:
    for layer in (4, 1.5, -1):
        with refused(layer, 0, 3, parameter="layer"):
            mix(vit, vit.w_mean[None], vit.w_mean[None], layer=layer)  # pyright: ignore[reportArgumentType]
    with refused(cause=type(None)):
        mix(make("prepend"), vit.w_mean[None], vit.w_mean[None])


def test_from_the_mean_image_to_the_plain_one(vit: Generator) -> None:
    grid = render(vit, truncate(vit, [0, 1], [0.0, 0.5, 1.0]))
    assert grid.shape == (2, 3, 3, 16, 16)
    torch.testing.assert_close(grid[0, 0], grid[1, 0], atol=1e-6, rtol=0)  # one mean image for all
    mean = vit.synthesis(vit.w_mean.expand(1, vit.num_styles, -1))[0].clamp(-1, 1)
    torch.testing.assert_close(grid[0, 0], mean, atol=1e-5, rtol=0)
    torch.testing.assert_close(grid[:, 2], torch.cat([vit.sample(1, 0), vit.sample(1, 1)]), atol=1e-5, rtol=0)
    torch.testing.assert_close(grid[1, 1], vit.sample(1, 1, truncation=0.5)[0], atol=1e-5, rtol=0)


def test_no_psi(vit: Generator) -> None:
    with pytest.raises(UserError):
        truncate(vit, [0], [])


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_psi_is_finite(vit: Generator, number: float) -> None:
    for point in (0, torch.zeros(vit.num_styles, vit.w_dim)):
        with refused(number, parameter="truncation"):
            styles_of(vit, [point], number)
        with refused(number, parameter="psis"):
            truncate(vit, [point], [1, number])
    for space in ("z", "w"):
        with refused(number, parameter="truncation"):
            interpolate(vit, [0, 1], 2, space, truncation=number)


@pytest.mark.parametrize(
    ("option", "value"), [("way", "slerp"), ("space", "W"), ("space", "w+"), ("steps", 2.5), ("steps", 0)]
)
def test_a_walk_that_there_is_not(vit: Generator, option: str, value: Any) -> None:
    with refused(value, parameter=option):
        interpolate(vit, [0, 1], **{option: value})


def test_what_is_not_finite_is_not_rendered(vit: Generator) -> None:
    styles = styles_of(vit, [0, 1]).clone()
    styles[1, -1, 0] = torch.nan
    assert render(vit, styles[:1]).isfinite().all()
    with refused():
        render(vit, styles)


def test_a_crossover_is_of_two_images(vit: Generator) -> None:
    one, two = styles_of(vit, [0]), styles_of(vit, [0, 1])
    with refused((2, 3, 12), (1, 3, 12), parameter="early"):
        crossover(vit, two, one)
    with refused((2, 3, 12), parameter="late"):
        crossover(vit, one, two)


def test_styles_in_a_file_are_of_one_model(vit: Generator, tmp_path: Path) -> None:
    file, other = tmp_path / "found.safetensors", make("vit")
    write_styles(file, vit, styles_of(vit, [3]))
    assert torch.equal(read_styles(file, other), styles_of(vit, [3])[0])  # the same weights
    next(other.parameters()).mul_(1.01)
    with refused(file):
        read_styles(file, other)
