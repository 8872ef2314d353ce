import itertools

import pytest
import torch

from generators import make
from vitgan.errors import UserError
from vitgan.explore.latents import crossover, mix, mixed_styles, styles_of_seeds
from vitgan.models.generator import Generator


@pytest.mark.parametrize("kind", ["vit", "gated", "conv", "stylegan2"])
def test_mixing_at_the_ends_equals_the_pure_images(kind: str) -> None:
    generator = make(kind)
    strip = crossover(generator, styles_of_seeds(generator, [1]), styles_of_seeds(generator, [2]))
    assert len(strip) == generator.num_styles + 1
    torch.testing.assert_close(strip[:1], generator.sample(1, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(strip[-1:], generator.sample(1, 1), atol=1e-5, rtol=0)
    assert all(not torch.allclose(a, b, atol=1e-6) for a, b in itertools.pairwise(strip))


def test_styles_change_over_at_the_layer(vit: Generator) -> None:
    early, late = torch.zeros(1, 12), torch.ones(1, 12)
    assert mixed_styles(vit, early, late, 1)[0, :, 0].tolist() == [0, 1, 1]


def test_the_grid_has_pure_images_at_its_edges(vit: Generator) -> None:
    grid = mix(vit, styles_of_seeds(vit, [0, 1]), styles_of_seeds(vit, [5, 6, 7]), layer=1)
    assert grid.shape == (3, 4, 3, 16, 16)
    torch.testing.assert_close(grid[2, 0], vit.sample(1, 1)[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(grid[0, 3], vit.sample(1, 7)[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(
        grid[2, 3], crossover(vit, styles_of_seeds(vit, [1]), styles_of_seeds(vit, [7]))[1], atol=1e-5, rtol=0
    )


def test_refusals(vit: Generator) -> None:
    with pytest.raises(UserError, match="0 to 3"):
        mix(vit, vit.w_mean[None], vit.w_mean[None], layer=4)
    with pytest.raises(UserError, match="one place"):
        mix(make("prepend"), vit.w_mean[None], vit.w_mean[None])
