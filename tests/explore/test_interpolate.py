from typing import Any

import pytest
import torch

from generators import make
from vitgan.errors import UserError
from vitgan.explore.latents import interpolate
from vitgan.models.generator import Generator


@pytest.mark.parametrize("space", ["z", "w"])
@pytest.mark.parametrize("way", ["spherical", "linear"])
def test_the_walk_passes_through_the_seeds_images(vit: Generator, space: Any, way: Any) -> None:
    frames = interpolate(vit, [3, 4, 5], steps=4, space=space, way=way)
    assert frames.shape == (12, 3, 16, 16)
    expected = torch.cat([vit.sample(1, seed) for seed in (3, 4, 5)])
    torch.testing.assert_close(frames[::4], expected, atol=1e-5, rtol=0)
    assert not torch.allclose(frames[1], frames[0])


def test_straight_styles_lie_between_the_ends(vit: Generator) -> None:
    seen: list[torch.Tensor] = []
    synthesis = vit.synthesis
    vit.synthesis = lambda w: (seen.append(w), synthesis(w))[1]  # pyright: ignore[reportAttributeAccessIssue]
    interpolate(vit, [0, 1], steps=2, space="w", way="linear", loop=False)
    start, middle, end = torch.cat(seen)[:, 0]
    torch.testing.assert_close(middle, (start + end) / 2)


def test_an_open_walk_ends_on_the_last_seed(vit: Generator) -> None:
    frames = interpolate(vit, [3, 4], steps=5, loop=False)
    assert len(frames) == 6
    torch.testing.assert_close(frames[-1:], vit.sample(1, 4), atol=1e-5, rtol=0)


def test_a_conditional_walk_stays_in_its_class() -> None:
    generator = make("vit", num_classes=4)
    frames = interpolate(generator, [0, 1], steps=2, label=2)
    torch.testing.assert_close(frames[:1], generator.sample(1, 0, labels=torch.tensor([2])), atol=1e-5, rtol=0)


def test_a_walk_among_styles_of_several_classes_passes_through_each() -> None:
    generator = make("vit", num_classes=4)
    frames = interpolate(generator, [0, 3], steps=2, space="w")
    for seed, frame in ((0, frames[:1]), (3, frames[2:3])):
        torch.testing.assert_close(frame, generator.sample(1, seed, labels=torch.tensor([seed])), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("seeds", "steps"), [([1], 3), ([1, 2], 0)])
def test_too_few(vit: Generator, seeds: list[int], steps: int) -> None:
    with pytest.raises(UserError):
        interpolate(vit, seeds, steps)
