"""Patch decoders against their slow forms; the implicit one's continuity in position."""

import pytest
import torch

from reference import vitgan as reference
from reference.draws import normal, perturb
from refusals import refused
from vitgan.layers.pixel_mapping import (
    ConvolutionalPatchDecoder,
    ImplicitPatchDecoder,
    InterpolatedPatchDecoder,
    LinearPatchDecoder,
)

W = normal(3, 2, seed=4)
"""Styles, for the convolutional decoder."""


def decoder(channels: int = 3) -> ImplicitPatchDecoder:
    torch.manual_seed(0)
    layer = ImplicitPatchDecoder(dim=5, channels=channels, patch_size=4, grid_size=2, hidden_dim=6, frequency=2.0)
    return perturb(layer.double())


@pytest.mark.parametrize("channels", [1, 3])
def test_decoder_equals_a_modulated_network_per_token(channels: int) -> None:
    layer = decoder(channels)
    y = normal(3, 4, 5)
    p = {f"pixel_mapping.{name}": value for name, value in layer.state_dict().items()}
    patches = torch.stack([reference.implicit_patches(p, "pixel_mapping", tokens, 4, 2.0) for tokens in y])
    images = layer(y)
    assert images.shape == (3, channels, 8, 8)
    torch.testing.assert_close(images, reference.paste_patches(patches, 2), rtol=1e-6, atol=1e-6)


def test_zoom_renders_the_same_function_on_a_denser_grid() -> None:
    """zoom k: the pixels of k²-fold patches at k²-fold positions; an odd zoom passes through the plain image."""
    layer = decoder()
    y = normal(2, 4, 5)
    plain = layer(y)
    assert torch.equal(layer(y, zoom=1), plain)
    zoomed = layer(y, zoom=3)
    assert zoomed.shape == (2, 3, 24, 24)
    torch.testing.assert_close(zoomed[..., 1::3, 1::3], plain, rtol=1e-6, atol=1e-6)

    p = {f"pixel_mapping.{name}": value for name, value in layer.state_dict().items()}
    patches = torch.stack([reference.implicit_patches(p, "pixel_mapping", tokens, 8, 2.0) for tokens in y])
    torch.testing.assert_close(layer(y, zoom=2), reference.paste_patches(patches, 2), rtol=1e-6, atol=1e-6)


def test_pixels_at_positions_of_their_own_are_those_of_shared_ones() -> None:
    layer, tokens, positions = decoder(), normal(5, 5), normal(7, 2).tanh()
    shared = layer.pixels(*layer.modulation(tokens), positions)
    assert shared.shape == (5, 7, 3)
    torch.testing.assert_close(layer.pixels(*layer.modulation(tokens), positions.expand(5, 7, 2)), shared)


def test_a_patch_depends_on_its_own_token_alone() -> None:
    layer = decoder()
    y = normal(1, 4, 5).requires_grad_()
    (gradient,) = torch.autograd.grad(layer(y)[0, :, 4:, :4].sum(), y)  # the lower left patch
    assert gradient[0].abs().sum(dim=1).nonzero().flatten().tolist() == [2]


def test_decoder_differentiates_twice() -> None:
    layer = decoder()
    y = normal(1, 4, 5).requires_grad_()

    def apply(y: torch.Tensor) -> torch.Tensor:
        return layer(y)[:, :, ::3, ::3]

    assert torch.autograd.gradcheck(apply, y)
    assert torch.autograd.gradgradcheck(apply, y)


@pytest.mark.parametrize("channels", [1, 3])
def test_linear_decoder_is_one_matrix_per_token(channels: int) -> None:
    layer = perturb(LinearPatchDecoder(5, channels, patch_size=4, grid_size=2).double())
    y = normal(3, 4, 5)
    p = {f"pixel_mapping.{name}": value for name, value in layer.state_dict().items()}
    expected = torch.stack([reference.pixels(p, tokens, W[0], 4, 0.0) for tokens in y])
    assert expected.shape == (3, channels, 8, 8)
    torch.testing.assert_close(layer(y), expected)


@pytest.mark.parametrize("patch_size", [2, 4, 8])
def test_convolutional_decoder_equals_one_convolution_per_sample(patch_size: int) -> None:
    layer = perturb(ConvolutionalPatchDecoder(5, 3, patch_size, grid_size=2, hidden_dim=20, w_dim=2).double())
    y = normal(3, 4, 5)
    p = {f"pixel_mapping.{name}": value for name, value in layer.state_dict().items()}
    expected = torch.stack([reference.pixels(p, *pair, patch_size, 0.0) for pair in zip(y, W, strict=True)])
    assert expected.shape == (3, 3, 2 * patch_size, 2 * patch_size)
    torch.testing.assert_close(layer(y, W), expected)


@pytest.mark.parametrize("patch_size", [2, 3])
def test_interpolated_decoder_is_linear_between_tokens_then_two_convolutions(patch_size: int) -> None:
    layer = perturb(InterpolatedPatchDecoder(5, 3, patch_size, grid_size=2, hidden_dim=6).double())
    y = normal(3, 4, 5)
    p = {f"pixel_mapping.{name}": value for name, value in layer.state_dict().items()}
    expected = torch.stack([reference.pixels(p, tokens, W[0], patch_size, 0.0) for tokens in y])
    assert expected.shape == (3, 3, 2 * patch_size, 2 * patch_size)
    torch.testing.assert_close(layer(y), expected)


def test_convolutional_decoder_mixes_neighbouring_patches_and_needs_a_power_of_two() -> None:
    layer = ConvolutionalPatchDecoder(5, 3, 4, grid_size=2, hidden_dim=20, w_dim=2).double()
    y = normal(1, 4, 5).requires_grad_()
    (gradient,) = torch.autograd.grad(layer(y, W[:1])[0, :, 4:, :4].sum(), y)
    assert gradient[0].abs().sum(dim=1).nonzero().flatten().tolist() == [0, 1, 2, 3]
    with refused(6, parameter="model.generator.patch_size"):
        ConvolutionalPatchDecoder(5, 3, 6, grid_size=2, hidden_dim=20, w_dim=2)
