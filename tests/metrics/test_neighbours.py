import dataclasses
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from toy_features import in_batches, toy_extractor, toy_images, toy_network
from vitgan.metrics.neighbours import nearest_images, save_neighbours


def test_equals_a_search_through_everything() -> None:
    real, generated = toy_images(150, seed=1), toy_images(5, seed=2)
    found = nearest_images(
        generated,
        in_batches(real, 40),
        dataclasses.replace(toy_extractor(), batch_size=17),
        neighbours=4,
        real_count=150,
    )
    distances = (toy_network(generated.float())[0][:, None] - toy_network(real.float())[0][None]).norm(dim=2)
    expected = distances.topk(4, largest=False)
    assert torch.equal(found.positions, expected.indices)
    torch.testing.assert_close(found.distances.float(), expected.values, rtol=1e-4, atol=1e-4)
    assert torch.equal(found.images, real[expected.indices])


def test_copies_are_found_out() -> None:
    real = toy_images(100, seed=1)
    found = nearest_images(real[[70, 3]], [real], toy_extractor(), neighbours=2, real_count=100)
    assert found.distances[:, 1].min() > 0.01
    assert found.positions[:, 0].tolist() == [70, 3]
    assert found.distances[:, 0].max() < 1e-4


def test_picture_shows_each_image_beside_its_neighbours(tmp_path: Path) -> None:
    real = toy_images(60, seed=1)
    generated = real[[10, 20, 30]]
    found = nearest_images(generated, [real], toy_extractor(), neighbours=2, real_count=60)
    save_neighbours(tmp_path / "new" / "grid.png", generated, found)
    sheet = np.asarray(Image.open(tmp_path / "new" / "grid.png"))
    assert sheet.shape == (3 * 9 * 8, 4 * 9 * 8, 3)  # each 8×8 image has a white row above and column before it
    for row, index in enumerate((10, 20, 30)):
        top = row * 72 + 8
        tile = real[index].permute(1, 2, 0).numpy().repeat(8, axis=0).repeat(8, axis=1)
        assert np.array_equal(sheet[top : top + 64, 8:72], tile)
        assert np.array_equal(sheet[top : top + 64, 152:216], tile)


def test_grey_images_beside_colour(tmp_path: Path) -> None:
    real = toy_images(30, seed=1)[:, :1]
    found = nearest_images(toy_images(2, seed=2), [real], toy_extractor(), neighbours=3, real_count=30)
    assert found.images.shape == (2, 3, 3, 8, 8)
    save_neighbours(tmp_path / "grid.png", toy_images(2, seed=2), found)
