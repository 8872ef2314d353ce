"""Positions counted out, and features of them against their formulas."""

import math

import pytest
import torch

from reference import vitgan as reference
from reference.draws import normal, perturb
from vitgan.layers.attention import AttentionConfig, SelfAttention
from vitgan.layers.positions import FourierFeatures, SinCosFeatures, grid_positions, rotated


def test_grid_positions_are_cell_centres() -> None:
    for size in (1, 2, 5):
        torch.testing.assert_close(grid_positions(size), reference.cell_centres(size).float())
    assert grid_positions(2).tolist() == [[-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5], [0.5, 0.5]]  # x runs fastest


@pytest.mark.parametrize("factor", [2, 3])
def test_finer_grids_nest_in_coarser_ones(factor: int) -> None:
    """The factor² fine centres of a cell lie inside it, evenly about its own centre."""
    coarse = grid_positions(4).view(4, 4, 2)
    fine = grid_positions(4 * factor).view(4, factor, 4, factor, 2)
    torch.testing.assert_close(fine.mean(dim=(1, 3)), coarse)
    offset = fine - coarse[:, None, :, None]
    assert offset.abs().max() < 1 / 4  # half a cell
    if factor % 2:
        torch.testing.assert_close(fine[:, factor // 2, :, factor // 2], coarse)


def test_fourier_features_equal_their_formula() -> None:
    layer = perturb(FourierFeatures(7, frequency=2.5).double())
    positions = normal(4, 2)
    expected = torch.sin(torch.einsum("di,ni->nd", 2.5 * layer.weight, positions) + layer.bias)
    torch.testing.assert_close(layer(positions), expected)


def test_fourier_features_start_with_the_stated_frequencies_and_phases() -> None:
    layer = FourierFeatures(4000, frequency=2.5)
    assert (layer.weight * layer.frequency).std().item() == pytest.approx(2.5, rel=0.05)
    assert layer.bias.min() >= -math.pi
    assert layer.bias.max() <= math.pi
    assert layer.bias.std().item() == pytest.approx(math.pi / math.sqrt(3), rel=0.05)  # uniform over the circle


def test_fourier_features_stay_in_float32_under_autocast() -> None:
    """A phase of tens of radians in bf16 would be noise."""
    layer = FourierFeatures(64, frequency=50.0)
    exact = layer(grid_positions(8))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(layer(grid_positions(8)), exact, rtol=0, atol=0)


@pytest.mark.parametrize(("grid_size", "dim"), [(1, 4), (3, 8), (5, 24)])
def test_fixed_features_equal_their_formula(grid_size: int, dim: int) -> None:
    features = SinCosFeatures(dim, grid_size)
    torch.testing.assert_close(features(grid_positions(grid_size).double()), reference.sincos(grid_size, dim))
    expected = reference.sincos(grid_size, dim).float()
    torch.testing.assert_close(features(grid_positions(grid_size)), expected, rtol=0, atol=1e-5)
    assert not list(features.state_dict())


def test_fixed_features_of_a_coarser_grid_lie_between_those_of_the_finer() -> None:
    """The centre of 2×2 cells is half a cell from each: the features are a function of the place, not of the grid."""
    features = SinCosFeatures(8, 4)
    corner = features(grid_positions(2).double())[0]
    expected = [f(0.5 / 100**k) for f in (math.sin, math.cos) for k in (0, 1)] * 2
    torch.testing.assert_close(corner, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("num_prefix_tokens", [0, 1, 3])
@pytest.mark.parametrize(("head_dim", "grid_size"), [(4, 3), (8, 3), (24, 2)])
def test_rotation_equals_a_matrix_for_each_pair_and_token(
    head_dim: int, grid_size: int, num_prefix_tokens: int
) -> None:
    x = normal(2, 3, num_prefix_tokens + grid_size**2, head_dim)
    expected = [reference.rotated(sample.transpose(0, 1).flatten(1), 3, grid_size) for sample in x]
    turned = rotated(x, num_prefix_tokens)
    torch.testing.assert_close(turned.transpose(1, 2).flatten(2), torch.stack(expected))
    assert torch.equal(turned[:, :, :num_prefix_tokens], x[:, :, :num_prefix_tokens])
    torch.testing.assert_close(turned.norm(dim=3), x.norm(dim=3))


@pytest.mark.parametrize("kind", ["dot", "l2"])
def test_rotary_scores_depend_on_where_tokens_are_to_each_other(kind) -> None:
    """Of equal tokens: a step to the right is the same everywhere, and is no step down."""
    config = AttentionConfig(16, 2, kind, qk_norm=True, rotary=True)
    layer = perturb(SelfAttention(config).double())
    q, k, _ = layer.project(normal(1, 1, 16).expand(1, 9, 16))
    assert (q is k) == (kind == "l2")
    logits = layer.weights(q, k).log()[0]  # (heads, 9, 9), rows and columns are 3×3 places
    logits = logits - logits.diagonal(dim1=1, dim2=2).unsqueeze(2)
    for a, b in ((0, 3), (1, 4), (4, 7)):
        torch.testing.assert_close(logits[:, a, a + 1], logits[:, b, b + 1])
    torch.testing.assert_close(logits[:, 0, 3], logits[:, 5, 8])
    assert (logits[:, 0, 1] - logits[:, 0, 3]).abs().min() > 1e-3


def test_rotation_is_that_of_float32_in_bf16() -> None:
    x = normal(1, 1, 256, 32).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        turned = rotated(x)
    assert turned.dtype == torch.bfloat16
    assert torch.equal(turned, rotated(x.float()).bfloat16())
