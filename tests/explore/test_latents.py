import math

import pytest
import torch

from generators import make
from vitgan.errors import UserError
from vitgan.explore.latents import lerp, slerp, styles_of_seeds, walk
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
    w = styles_of_seeds(vit, [7, 8], truncation=0.5)
    expected = torch.cat([vit.sample(1, seed, truncation=0.5) for seed in (7, 8)])
    torch.testing.assert_close(vit.synthesis(vit.styles(w)).clamp(-1, 1), expected)


def test_a_class_has_a_name_and_a_number() -> None:
    conditional = make("vit", num_classes=3)
    conditional.class_names = ("ant", "bat", "cat")
    plain = styles_of_seeds(conditional, [0, 4, 5])
    for place, (seed, names) in enumerate([(0, (0, "0", "ant")), (4, (1, "1", "bat")), (5, (2, "2", "cat"))]):
        for name in names:
            torch.testing.assert_close(styles_of_seeds(conditional, [seed], label=name), plain[place : place + 1])


@pytest.mark.parametrize("label", [3, "3", "-1", "dog", "", "9" * 5000])
@pytest.mark.parametrize("classes", [0, 3])
def test_no_such_class(classes: int, label: int | str) -> None:
    with pytest.raises(UserError) as error:
        styles_of_seeds(make("vit", classes), [0], label=label)
    assert error.value.parameter == "label"


def test_seeds_have_classes_that_the_model_has_seen() -> None:
    conditional = make("vit", num_classes=4)
    conditional.class_counts = (5, 0, 1, 0)
    assert conditional.classes_of_seeds([0, 1, 2, 2**62 + 1]).tolist() == [0, 2, 0, 2]  # pyright: ignore[reportOptionalMemberAccess]


@pytest.mark.parametrize("seeds", [[], [-1], [2**63]])
def test_seeds_out_of_range(vit: Generator, seeds: list[int]) -> None:
    with pytest.raises(UserError) as error:
        styles_of_seeds(vit, seeds)
    assert error.value.parameter == "seeds"
