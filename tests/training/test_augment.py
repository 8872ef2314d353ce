"""DiffAugment, operation by operation against its definition, with its probabilities and derivatives."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from reference.draws import normal
from vitgan.training.augment import (
    NUMBERS,
    AugmentConfig,
    AugmentParameters,
    adjust_color,
    augment,
    cut_out,
    parameters_of,
    scale_and_shift,
)


def draw(config: AugmentConfig, count: int, resolution: int, seed: int = 0) -> AugmentParameters:
    uniform = torch.rand(count, NUMBERS, generator=torch.Generator().manual_seed(seed))
    return parameters_of(uniform, config, resolution)


def doubled(parameters: AugmentParameters) -> AugmentParameters:
    return AugmentParameters(*(p.double() for p in parameters))


@pytest.mark.parametrize("autocast", [False, True])
def test_probability_zero_gives_back_the_very_images(autocast: bool) -> None:
    config = AugmentConfig(probability=0)
    images = normal(6, 3, 16, 16, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        assert torch.equal(augment(images, draw(config, 6, 16), config), images)


@pytest.mark.parametrize("shift", [(0, 0), (3, 0), (0, -2), (-4, 5), (16, 0)])
@pytest.mark.parametrize("autocast", [False, True])
def test_translation_moves_whole_pixels_and_lets_zeros_in(shift: tuple[int, int], autocast: bool) -> None:
    images = normal(1, 3, 16, 16, dtype=torch.float32)
    right, down = shift
    expected = torch.zeros_like(images)
    for y in range(16):
        for x in range(16):
            if 0 <= y - down < 16 and 0 <= x - right < 16:
                expected[:, :, y, x] = images[:, :, y - down, x - right]
    neutral = draw(AugmentConfig(probability=0), 1, 16)
    parameters = neutral._replace(shift=torch.tensor([shift], dtype=torch.float32))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        assert torch.equal(augment(images, parameters, AugmentConfig()), expected)


def test_scaling_and_translation_equal_torchs_grid_sampling() -> None:
    images = normal(4, 3, 16, 16)
    scale = torch.tensor([0.8, 1.0, 1.25, 1.1], dtype=torch.float64)
    shift = torch.tensor([[0, 0], [2, -1], [0, 0], [-3, 2]], dtype=torch.float64)
    theta = torch.zeros(4, 2, 3, dtype=torch.float64)
    theta[:, 0, 0] = theta[:, 1, 1] = 1 / scale
    theta[:, :, 2] = -2 * shift / 16 / scale[:, None]
    grid = F.affine_grid(theta, [4, 3, 16, 16], align_corners=False)
    expected = F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    torch.testing.assert_close(scale_and_shift(images, scale, shift), expected)


def test_a_scale_above_one_enlarges() -> None:
    images = torch.zeros(1, 1, 16, 16)
    images[..., 4:12, 4:12] = 1
    for scale, larger in ((1.25, True), (0.8, False)):
        area = scale_and_shift(images, torch.tensor([scale]), torch.zeros(1, 2)).sum().item()
        assert area == pytest.approx(64 * scale**2, rel=0.06)  # to the nearest sample
        assert (area > 64) == larger


def test_brightness_saturation_and_contrast_equal_their_definitions() -> None:
    images = normal(3, 3, 5, 5)
    brightness, saturation, contrast = normal(3, seed=1), normal(3, seed=2).abs(), normal(3, seed=3).abs()
    expected = images.clone()
    for n in range(3):
        expected[n] += brightness[n]
        for y in range(5):
            for x in range(5):
                grey = sum(expected[n, c, y, x].item() for c in range(3)) / 3
                expected[n, :, y, x] = (expected[n, :, y, x] - grey) * saturation[n] + grey
        mean = expected[n].mean()
        expected[n] = (expected[n] - mean) * contrast[n] + mean
    torch.testing.assert_close(adjust_color(images, brightness, saturation, contrast), expected)


@pytest.mark.parametrize(
    ("centre", "rows", "columns"),
    [((8, 8), range(4, 12), range(4, 12)), ((3, 10), range(6, 14), range(7)), ((0, 15), range(11, 16), range(4))],
)
def test_cutout_is_one_square_cut_by_the_border(centre: tuple[int, int], rows: range, columns: range) -> None:
    images = normal(2, 3, 16, 16)
    expected = images.clone()
    expected[0, :, rows.start : rows.stop, columns.start : columns.stop] = 0
    centres = torch.tensor([centre, (math.inf, math.inf)])
    assert torch.equal(cut_out(images, centres, 0.5), expected)


def test_operations_come_in_the_stated_order() -> None:
    """Colour, scaling and translation, cutout: what comes in over the border and the cut square are 0, not brightened."""
    config = AugmentConfig(probability=1)
    images, parameters = normal(4, 3, 16, 16), doubled(draw(config, 4, 16))
    step = adjust_color(images, parameters.brightness, parameters.saturation, parameters.contrast)
    step = scale_and_shift(step, parameters.scale, parameters.shift)
    step = cut_out(step, parameters.cutout_centre, config.cutout)
    torch.testing.assert_close(augment(images, parameters, config), step)
    assert (augment(images, parameters, config) == 0).any()


def test_each_operation_is_applied_as_often_as_stated_and_independently() -> None:
    """8 standard errors of 20,000 draws are 0.023."""
    config = AugmentConfig(probability=0.8)
    p = draw(config, 20_000, 32)
    applied = {
        "colour": p.brightness != 0,
        "scaling": p.scale != 1,
        "cutout": p.cutout_centre[:, 0].isfinite(),
    }
    for name, flags in applied.items():
        assert flags.float().mean().item() == pytest.approx(0.8, abs=0.023), name
    moved = (p.shift != 0).any(dim=1).float().mean().item()
    assert moved == pytest.approx(0.8 * (1 - 1 / 9**2), abs=0.023)  # a drawn shift may be 0, one of 9 on either axis
    for a, b in (("colour", "scaling"), ("colour", "cutout"), ("scaling", "cutout")):
        together = (applied[a] & applied[b]).float().mean().item()
        assert together == pytest.approx(0.64, abs=0.028), (a, b)


def test_strengths_have_the_stated_ranges_and_are_uniform_in_them() -> None:
    p = draw(AugmentConfig(probability=1, translation=0.125, scaling=0.25), 20_000, 32)
    for values, low, high in (
        (p.brightness, -0.5, 0.5),
        (p.saturation, 0, 2),
        (p.contrast, 0.5, 1.5),
        (p.scale.log(), -math.log(1.25), math.log(1.25)),
    ):
        assert values.min() >= low - 1e-6
        assert values.max() <= high + 1e-6
        histogram = torch.histc(values, bins=10, min=low, max=high) / len(values)
        assert (histogram - 0.1).abs().max() < 0.017
    for axis in range(2):
        shifts, counts = p.shift[:, axis].unique(return_counts=True)
        assert shifts.tolist() == list(range(-4, 5))  # 0.125 of 32 pixels, both ways
        assert (counts / 20_000 - 1 / 9).abs().max() < 0.018
        centres, counts = p.cutout_centre[:, axis].unique(return_counts=True)
        assert centres.tolist() == list(range(33))  # of an even side: the right border too
        assert (counts / 20_000 - 1 / 33).abs().max() < 0.01


@pytest.mark.parametrize("resolution", [4, 5, 12, 20, 32])
@pytest.mark.parametrize("share", [0.1, 0.125, 0.3, 0.5, 1.0])
def test_sizes_in_pixels_and_places_of_the_square_are_diffaugments(resolution: int, share: float) -> None:
    """`int(x + 0.5)`, and offsets from 0 to R - side % 2: every square of its loop over clamped rows and columns."""
    config = AugmentConfig(probability=1, cutout=share, translation=share)
    p = draw(config, 4000, resolution)
    side = reach = int(resolution * share + 0.5)
    assert sorted(set(p.cutout_centre.flatten().tolist())) == list(range(resolution + 1 - side % 2))
    assert sorted(set(p.shift.flatten().tolist())) == list(range(-reach, reach + 1))
    for offset in range(resolution + 1 - side % 2):
        expected = torch.ones(1, 1, resolution, resolution)
        for i in range(side):
            for j in range(side):
                x, y = (min(max(k + offset - side // 2, 0), resolution - 1) for k in (i, j))
                expected[0, 0, y, x] = 0
        centre = torch.full((1, 2), float(offset))
        assert torch.equal(cut_out(torch.ones_like(expected), centre, share), expected)


def test_operations_can_be_turned_off_one_by_one() -> None:
    images = normal(64, 3, 16, 16, dtype=torch.float32)
    off = AugmentConfig(probability=1, color=False, scaling=0, translation=0, cutout=0)
    p = draw(off, 64, 16)
    assert torch.equal(augment(images, p, off), images)
    assert (p.scale == 1).all()
    assert (p.shift == 0).all()
    for change in ({"color": True}, {"scaling": 0.25}, {"translation": 0.25}, {"cutout": 0.5}):
        config = off.model_copy(update=change)
        changed = (augment(images, draw(config, 64, 16), config) != images).flatten(1).any(dim=1)
        assert changed.float().mean() > 0.9, change  # a translation may draw (0, 0)


def test_images_do_not_depend_on_their_batch() -> None:
    config = AugmentConfig()
    images, whole = normal(10, 3, 16, 16, dtype=torch.float32), draw(config, 10, 16)
    pieces = [slice(0, 3), slice(3, 4), slice(4, 10)]
    parts = [augment(images[rows], AugmentParameters(*(p[rows] for p in whole)), config) for rows in pieces]
    torch.testing.assert_close(torch.cat(parts), augment(images, whole, config))


def test_derivatives_of_both_orders_exist() -> None:
    config = AugmentConfig(probability=1)
    parameters = doubled(draw(config, 2, 5, 1))

    def apply(images: Tensor) -> Tensor:
        return augment(images, parameters, config)

    images = normal(2, 3, 5, 5).requires_grad_()
    assert torch.autograd.gradcheck(apply, images)
    assert torch.autograd.gradgradcheck(lambda x: apply(x).square() * x, images)
    (gradient,) = torch.autograd.grad(apply(images).square().sum(), images)
    assert gradient.abs().sum() > 0
