import math

import pytest
import torch

from generators import make
from vitgan.errors import UserError
from vitgan.explore.latents import labels_for, lerp, slerp, styles_of_seeds, walk
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


def test_labels() -> None:
    conditional = make("vit", num_classes=3)
    assert labels_for(make("vit"), 2, None) is None
    assert labels_for(conditional, 2, 2).tolist() == [2, 2]  # pyright: ignore[reportOptionalMemberAccess]
    assert not torch.equal(styles_of_seeds(conditional, [0], label=0), styles_of_seeds(conditional, [0], label=1))
    with pytest.raises(UserError, match="0 to 2"):
        labels_for(conditional, 1, 3)
    with pytest.raises(UserError, match="unconditional"):
        labels_for(make("vit"), 1, 0)
