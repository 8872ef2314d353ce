"""Patches cut and pasted by hand."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from reference import vitgan as reference
from reference.draws import normal
from vitgan.layers.patches import OverlappingPatchEmbedding, unpatch


@pytest.mark.parametrize("weight_norm", ["none", "isn"])
@pytest.mark.parametrize(("patch_size", "overlap"), [(4, 2), (2, 1), (4, 0), (3, 3), (6, 1)])
def test_embedding_is_a_linear_map_of_extended_patches(patch_size: int, overlap: int, weight_norm) -> None:
    torch.manual_seed(0)
    layer = OverlappingPatchEmbedding(3, patch_size, overlap, 5, weight_norm).double()
    nn.init.normal_(layer.linear.get_parameter("bias"))
    images = normal(2, 3, 12, 12)
    patches = reference.cut_patches(images, patch_size, overlap)
    tokens = (12 // patch_size) ** 2
    assert patches.shape == (2, tokens, 3 * (patch_size + 2 * overlap) ** 2)
    weight = layer.linear.weight / math.sqrt(patches.shape[2])  # ISN changes nothing before the first update
    expected = patches @ weight.t() + layer.linear.get_parameter("bias")
    assert layer(images).shape == (2, tokens, 5)
    torch.testing.assert_close(layer(images), expected, rtol=1e-5, atol=1e-5)


def test_cutting_by_hand_agrees_with_torchs_unfold() -> None:
    """The reference itself, once, against a third form."""
    images = normal(2, 3, 12, 12)
    unfolded = F.unfold(images, kernel_size=8, padding=2, stride=4).transpose(1, 2)
    torch.testing.assert_close(reference.cut_patches(images, 4, 2), unfolded)


def test_without_overlap_a_token_sees_its_patch_alone_and_with_it_its_neighbours_border() -> None:
    for overlap, first, last in ((0, 4, 7), (2, 2, 9)):
        layer = OverlappingPatchEmbedding(1, 4, overlap, 6)
        images = normal(1, 1, 12, 12, dtype=torch.float32).requires_grad_()
        (gradient,) = torch.autograd.grad(layer(images)[0, 4].sum(), images)  # the middle of 3×3 tokens
        rows, columns = gradient[0, 0].nonzero(as_tuple=True)
        assert (rows.min().item(), rows.max().item()) == (first, last)
        assert (columns.min().item(), columns.max().item()) == (first, last)
        assert len(rows) == (last - first + 1) ** 2


def test_unpatching_inverts_patching() -> None:
    images = normal(2, 3, 12, 12)
    patches = reference.cut_patches(images, 4, 0).unflatten(2, (3, 16)).transpose(2, 3)  # (B, L, P², C)
    assert torch.equal(unpatch(patches, 3), images)
    assert torch.equal(reference.paste_patches(patches, 3), images)
