from typing import Any

import pytest
import torch

from generators import make
from refusals import refused
from vitgan.explore.invert import Inversion, invert, psnr
from vitgan.models.generator import Generator


@pytest.mark.parametrize("space", ["w", "w+"])
def test_an_image_of_the_model_is_recovered(vit: Generator, space: Any) -> None:
    target = vit.sample(1, seed=123)
    done: list[int] = []
    found = invert(vit, target, None, space, steps=120, on_step=lambda k, _: done.append(k))
    start = invert(vit, target, None, space, steps=1, learning_rate=0)
    assert found.psnr > start.psnr + 10
    assert found.psnr > 30
    assert done == list(range(1, 121))
    torch.testing.assert_close(vit.synthesis(found.styles).clamp(-1, 1), found.image, atol=1e-5, rtol=0)
    if space == "w":
        assert (found.styles == found.styles[:, :1]).all()


def test_features_pull_as_well(vit: Generator) -> None:
    """Where features outweigh pixels, their distance falls further than by pixels alone, over several images."""

    def features(images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(2, 3))

    def distance(found: Inversion, target: torch.Tensor) -> float:
        return (features(vit.synthesis(found.styles)) - features(target)).norm().item()

    by_pixels = by_features = 0.0
    for seed in (5, 6, 7):
        target = vit.sample(1, seed=seed)
        by_pixels += distance(invert(vit, target, None, "w", steps=60), target)
        by_features += distance(invert(vit, target, features, "w", steps=60, perceptual_weight=1e4), target)
    assert by_features < 0.8 * by_pixels


def test_the_same_seed_finds_the_same(vit: Generator) -> None:
    target = vit.sample(1, seed=9)
    first = invert(vit, target, None, steps=5, seed=3)
    with torch.inference_mode():  # which a program may be in
        second = invert(vit, target, None, steps=5, seed=3)
    assert torch.equal(first.styles, second.styles)


def test_a_conditional_model() -> None:
    generator = make("vit", num_classes=3)
    assert invert(generator, generator.sample(1), None, steps=3).image.shape == (1, 3, 16, 16)


def test_psnr() -> None:
    assert psnr(torch.zeros(1), torch.full((1,), 0.2)) == pytest.approx(20.0, abs=1e-4)


def test_another_size_is_refused(vit: Generator) -> None:
    with refused((1, 3, 8, 8), (1, 3, 16, 16), parameter="target"):
        invert(vit, torch.zeros(1, 3, 8, 8), None)


@pytest.mark.parametrize(("option", "value"), [("space", "W+"), ("space", "z"), ("steps", 0), ("steps", 2.5)])
def test_a_search_that_there_is_not(vit: Generator, option: str, value: Any) -> None:
    with refused(value, parameter=option):
        invert(vit, torch.zeros(1, 3, 16, 16), **{option: value})


def test_a_target_is_finite(vit: Generator) -> None:
    with refused(parameter="target"):
        invert(vit, torch.full((1, 3, 16, 16), torch.nan), steps=1)


@pytest.mark.parametrize("place", [0, -1])
def test_a_broken_model_finds_nothing(vit: Generator, place: int) -> None:
    target = vit.sample(1)
    [*vit.parameters()][place].view(-1)[0] = torch.nan
    with refused():
        invert(vit, target, steps=2)


def test_features_that_are_not_finite_find_nothing(vit: Generator) -> None:
    with refused():
        invert(vit, vit.sample(1), lambda images: images.flatten(1) * torch.nan, steps=2)
