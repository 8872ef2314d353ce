import pytest
import torch

from vitgan.errors import UserError
from vitgan.explore.latents import styles_of_seeds, truncate
from vitgan.models.generator import Generator


def test_from_the_mean_image_to_the_plain_one(vit: Generator) -> None:
    grid = truncate(vit, styles_of_seeds(vit, [0, 1]), [0.0, 0.5, 1.0])
    assert grid.shape == (2, 3, 3, 16, 16)
    torch.testing.assert_close(grid[0, 0], grid[1, 0], atol=1e-6, rtol=0)  # one mean image for all
    mean = vit.synthesis(vit.w_mean.expand(1, vit.num_styles, -1))[0].clamp(-1, 1)
    torch.testing.assert_close(grid[0, 0], mean, atol=1e-5, rtol=0)
    torch.testing.assert_close(grid[:, 2], torch.cat([vit.sample(1, 0), vit.sample(1, 1)]), atol=1e-5, rtol=0)
    torch.testing.assert_close(grid[1, 1], vit.sample(1, 1, truncation=0.5)[0], atol=1e-5, rtol=0)


def test_no_psi(vit: Generator) -> None:
    with pytest.raises(UserError):
        truncate(vit, vit.w_mean[None], [])
