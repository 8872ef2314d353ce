"""Bytes and grids, pixel by pixel."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image

from refusals import refused
from vitgan.files.pictures import PICTURES, enlargement, image_grid, save_image, to_array, to_pil, to_uint8


def test_bytes_to_floats_and_back_is_the_identity() -> None:
    values = torch.arange(256, dtype=torch.uint8)
    images = (values.float() / 127.5 - 1).view(1, 1, 16, 16)
    assert np.array_equal(to_uint8(images).ravel(), values.numpy())


def test_the_byte_is_the_nearest_and_the_even_one_of_two() -> None:
    """Against exact fractions, near the middle between two bytes above all."""
    middles = (torch.arange(256) - 0.5) / 127.5 - 1
    steps = torch.arange(-3, 4)[:, None] * 2**-24
    random = torch.rand(2000, generator=torch.Generator().manual_seed(0)) * 2 - 1
    values = torch.cat([(middles + steps).flatten().clamp(-1, 1), random])
    for value, byte in zip(values.tolist(), to_uint8(values).tolist(), strict=True):
        exact = (Fraction(value) + 1) * Fraction(255, 2)
        assert abs(byte - exact) <= Fraction(1, 2) + Fraction(1, 2**16)
    assert to_uint8(torch.zeros(())).item() == 128
    float32 = values.numpy() * np.float32(127.5) + np.float32(127.5)
    assert np.array_equal(to_uint8(values).numpy(), np.rint(float32).astype(np.uint8))


def test_floats_are_rounded_to_the_nearest_byte_and_clipped() -> None:
    levels = torch.tensor([-3.0, -1.0, -1 + 0.49 / 127.5, -1 + 0.51 / 127.5, 0.0, 1.0, 1.5])
    assert to_uint8(levels.view(1, 1, 1, 7)).ravel().tolist() == [0, 0, 0, 1, 128, 255, 255]


def test_bytes_have_channels_last_and_may_come_from_any_float() -> None:
    images = torch.full((2, 3, 4, 5), -1.0)
    images[1, 2, 3, 4] = 1.0
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        array = to_array(images.to(dtype).requires_grad_())
        assert array.shape == (2, 4, 5, 3)
        assert array.dtype == np.uint8
        assert np.argwhere(array).tolist() == [[1, 3, 4, 2]]


def test_pillow_images_keep_their_pixels() -> None:
    array = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    assert np.array_equal(np.asarray(to_pil(array)), array)
    grey = to_pil(array[:, :, :1])
    assert grey.mode == "L"
    assert np.array_equal(np.asarray(grey), array[:, :, 0])


@pytest.mark.parametrize(("columns", "enlarge"), [(None, 1), (5, 1), (2, 3), (7, 2)])
@pytest.mark.parametrize("channels", [1, 3])
def test_grid_holds_each_image_in_its_place_and_white_after_the_last(
    columns: int | None, enlarge: int, channels: int
) -> None:
    array = np.random.default_rng(0).integers(0, 200, (5, 4, 6, channels), dtype=np.uint8)
    grid = np.asarray(image_grid(array, columns, enlarge)).reshape(-1, 6 * enlarge * (columns or 3), channels)
    per_row = columns or 3  # ceil(sqrt(5))
    assert len(grid) == -(-5 // per_row) * 4 * enlarge
    for place in range(per_row * -(-5 // per_row)):
        top, left = place // per_row * 4 * enlarge, place % per_row * 6 * enlarge
        cell = grid[top : top + 4 * enlarge, left : left + 6 * enlarge]
        expected = np.full((4, 6, channels), 255) if place >= 5 else array[place]
        assert np.array_equal(cell, np.kron(expected, np.ones((enlarge, enlarge, 1))))


def test_grid_of_floats_equals_that_of_their_bytes() -> None:
    images = torch.rand(4, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert np.array_equal(np.asarray(image_grid(images)), np.asarray(image_grid(to_array(images))))


def test_small_images_are_enlarged_to_about_64_pixels() -> None:
    assert [enlargement(size) for size in (28, 32, 64, 128)] == [2, 2, 1, 1]


def test_images_are_saved_whole_or_not_at_all(tmp_path) -> None:
    image = Image.new("RGB", (4, 4), (10, 20, 30))
    path = tmp_path / "deep" / "grid.png"
    save_image(image, path)
    with Image.open(path) as saved:
        assert saved.getpixel((0, 0)) == (10, 20, 30)
    with refused(tmp_path / "deep" / "grid.nothing", ".png"):
        save_image(image, tmp_path / "deep" / "grid.nothing")
    (tmp_path / "file").write_text("")
    with refused(tmp_path / "file" / "grid.png"):
        save_image(image, tmp_path / "file" / "grid.png")
    assert [p.name for p in path.parent.iterdir()] == ["grid.png"]


@pytest.mark.parametrize("ending", [ending for ending in PICTURES if ending != ".pdf"])  # which Pillow only writes
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_every_format_keeps_the_pictures_size(tmp_path, ending: str, mode: str) -> None:
    save_image(Image.new(mode, (300, 290)), tmp_path / f"a{ending}")
    with Image.open(tmp_path / f"a{ending}") as saved:
        assert saved.size == (300, 290)


def test_a_format_that_shrinks_pictures_is_refused(tmp_path) -> None:
    with refused(tmp_path / "a.ico"):
        save_image(Image.new("RGB", (300, 290)), tmp_path / "a.ico")
    assert not any(tmp_path.iterdir())
