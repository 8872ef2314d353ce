"""The pixels' figures against plain loops in float64, and on images whose figures are known."""

import numpy as np
import pytest
import torch
from torch import Tensor

from vitgan.metrics.texture import (
    ROUNDING,
    TextureStatistics,
    high_pass,
    power_in_patch,
    radial_spectrum,
    repeat_share,
    seam,
    spectrum_distance,
)


def random_images(count: int, side: int = 16, channels: int = 3, seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, 256, (count, channels, side, side), dtype=np.uint8))


def detail_by_loops(image: np.ndarray) -> np.ndarray:
    """(C, H, W), pixel by pixel."""
    channels, height, width = image.shape
    weights = {-1: 0.25, 0: 0.5, 1: 0.25}

    def inside(index: int, size: int) -> int:
        return -index if index < 0 else 2 * (size - 1) - index if index >= size else index

    detail = np.empty(image.shape)
    for c in range(channels):
        for i in range(height):
            for j in range(width):
                blurred = sum(
                    weights[a] * weights[b] * float(image[c, inside(i + a, height), inside(j + b, width)])
                    for a in weights
                    for b in weights
                )
                detail[c, i, j] = float(image[c, i, j]) - blurred
    return detail


def test_fine_detail_is_the_image_without_its_blur() -> None:
    images = random_images(2, side=6)
    expected = np.stack([detail_by_loops(image) for image in images.numpy()])
    np.testing.assert_allclose(high_pass(images).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("patch_size", [2, 4, 5])
def test_seam_and_repeat_share_equal_plain_loops(patch_size: int) -> None:
    images = random_images(3, seed=1)
    details = [detail_by_loops(image) for image in images.numpy()]
    rows = images.shape[2] // patch_size
    squares = np.zeros((patch_size, patch_size))
    shares = []
    for detail in details:
        tiles = [
            detail[:, y * patch_size : (y + 1) * patch_size, x * patch_size : (x + 1) * patch_size]
            for y in range(rows)
            for x in range(rows)
        ]
        inner = [t for n, t in enumerate(tiles) if {n // rows, n % rows}.isdisjoint({0, rows - 1})]
        squares += sum((tile**2).sum(axis=0) for tile in inner) / (len(inner) * 3 * len(details))
        mean = np.mean(tiles, axis=0)
        shares.append(len(tiles) * (mean**2).sum() / np.square(tiles).sum())
    detail = high_pass(images)
    np.testing.assert_allclose(power_in_patch(detail, patch_size).numpy(), squares, rtol=1e-12)
    np.testing.assert_allclose(repeat_share(detail, patch_size).numpy(), shares, rtol=1e-12)

    statistics = TextureStatistics(patch_size)
    statistics.update(images)
    assert statistics.seam == pytest.approx((squares.max() + ROUNDING) / (squares.min() + ROUNDING), rel=1e-12)
    assert statistics.repeat_share == pytest.approx(np.mean(shares), rel=1e-12)


def test_spectrum_equals_a_sum_of_waves() -> None:
    """Each coefficient from its definition, and directions averaged by hand."""
    image = random_images(1, side=8, channels=1, seed=2)
    pixels = image[0, 0].numpy().astype(float)
    places = np.arange(8)
    row = 0.5 - 0.5 * np.cos(2 * np.pi * places / 7)
    window = np.outer(row, row)
    windowed = (pixels - pixels.mean()) * window
    powers: dict[int, list[float]] = {}
    for u in range(-4, 4):
        for v in range(-4, 4):
            wave = np.exp(-2j * np.pi * (u * places[:, None] + v * places[None, :]) / 8)
            powers.setdefault(round(np.hypot(u, v)), []).append(abs((windowed * wave).sum()) ** 2)
    expected = [10 * np.log10(np.mean(powers[r]) / (window**2).sum() + ROUNDING) for r in sorted(powers) if r]
    np.testing.assert_allclose(radial_spectrum(image)[0].numpy(), expected, rtol=1e-10)


def test_white_noise_has_its_variance_at_all_frequencies() -> None:
    noise = random_images(400, side=16, channels=1, seed=3).double()
    power = 10 ** (radial_spectrum(noise)[:, 3:] / 10)
    assert power.mean().item() == pytest.approx((256**2 - 1) / 12, rel=0.02)


def test_twice_the_contrast_is_six_decibels() -> None:
    images = random_images(20, seed=4).double()
    once, twice = radial_spectrum(images).mean(dim=0), radial_spectrum(2 * images).mean(dim=0)
    assert spectrum_distance(once, twice) == pytest.approx(20 * np.log10(2), abs=1e-3)
    assert spectrum_distance(once, once) == 0


def test_a_tile_that_repeats_is_found_only_at_its_period() -> None:
    tile = random_images(1, side=4, seed=5)
    repeated = tile.repeat(1, 1, 8, 8)
    inner = high_pass(repeated)[..., 4:-4, 4:-4]  # reflected borders break the period
    assert repeat_share(inner, 4).item() == pytest.approx(1)
    assert repeat_share(inner, 3).item() < 0.2
    noise = high_pass(random_images(200, side=32, seed=6))
    assert repeat_share(noise, 4).mean().item() == pytest.approx(1 / 64, rel=0.1)


def test_borders_between_patches_are_found() -> None:
    noise = random_images(200, side=32, seed=7)
    assert seam(power_in_patch(high_pass(noise), 4)) < 1.1
    blocks = noise[..., :8, :8].repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)  # flat patches
    assert seam(power_in_patch(high_pass(blocks), 4)) > 1000
    assert seam(power_in_patch(high_pass(blocks), 3)) < 1.1


def test_flat_images_have_finite_figures() -> None:
    statistics = TextureStatistics(4)
    statistics.update(torch.full((3, 1, 8, 8), 7, dtype=torch.uint8))
    assert statistics.seam == 1
    assert statistics.repeat_share == 0
    assert torch.isfinite(statistics.spectrum).all()


def test_parts_merge_into_the_whole() -> None:
    images = random_images(30, seed=8)
    whole, first, second, none = (TextureStatistics(4) for _ in range(4))
    whole.update(images)
    first.update(images[:7])
    second.update(images[7:])
    first.merge(second)
    first.merge(none)
    assert first.count == whole.count == 30
    assert first.seam == pytest.approx(whole.seam, rel=1e-12)
    assert first.repeat_share == pytest.approx(whole.repeat_share, rel=1e-12)
    torch.testing.assert_close(first.spectrum, whole.spectrum, rtol=1e-12, atol=0)
