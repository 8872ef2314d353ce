"""Resampling and the modulated convolution against their explicit forms, with first and second derivatives."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import gradcheck, gradgradcheck

from reference import stylegan2 as reference
from vitgan.layers.resample import Blur, Downsample, ModulatedConv2d, Upsample, leaky_relu


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (Blur(padding=1, gain=4.0), {"up": 1, "down": 1, "padding": (1, 1), "gain": 4.0}),
        (Blur(padding=2), {"up": 1, "down": 1, "padding": (2, 2)}),
        (Upsample(), {"up": 2, "down": 1, "padding": (2, 1), "gain": 4.0}),
        (Downsample(), {"up": 1, "down": 2, "padding": (1, 1)}),
    ],
)
def test_resampling_equals_explicit_filtering_and_differentiates_twice(module: nn.Module, expected: dict) -> None:
    x = normal(2, 3, 6, 6).requires_grad_()
    torch.testing.assert_close(module.double()(x), reference.upfirdn(x, **expected))
    small = x[:1, :2, :4, :4].detach().requires_grad_()
    assert gradcheck(module, small)
    assert gradgradcheck(module, small)


def test_resampling_keeps_a_constant_inside_the_image() -> None:
    ones = torch.ones(1, 2, 8, 8)
    torch.testing.assert_close(Upsample()(ones)[..., 2:-2, 2:-2], torch.ones(1, 2, 12, 12))
    torch.testing.assert_close(Downsample()(ones)[..., 1:-1, 1:-1], torch.ones(1, 2, 2, 2))


def test_upsampling_is_bilinear_inside_the_image() -> None:
    x = normal(1, 2, 6, 6).float()
    bilinear = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(Upsample()(x)[..., 1:-1, 1:-1], bilinear[..., 1:-1, 1:-1])


def test_resampling_keeps_its_precision_under_autocast() -> None:
    x = normal(1, 2, 8, 8).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for module in (Blur(padding=1), Upsample(), Downsample()):
            assert module(x).dtype == torch.float32
            assert module(x.bfloat16()).dtype == torch.bfloat16


def test_filters_come_with_the_state_of_a_model_built_without_weights() -> None:
    with torch.device("meta"):
        layer = ModulatedConv2d(2, 3, 3, 4, upsample=True)
    source = ModulatedConv2d(2, 3, 3, 4, upsample=True)
    layer.load_state_dict(source.state_dict(), assign=True)
    x, w = normal(1, 2, 4, 4).float(), normal(1, 4, seed=1).float()
    torch.testing.assert_close(layer(x, w), source(x, w), rtol=0, atol=0)


CASES = [(3, True, False), (3, False, False), (1, False, False), (3, True, True)]


@pytest.mark.parametrize(("kernel_size", "demodulate", "upsample"), CASES)
def test_modulated_conv_equals_one_convolution_per_sample(kernel_size: int, demodulate: bool, upsample: bool) -> None:
    layer = ModulatedConv2d(5, 4, kernel_size, 6, demodulate, upsample).double()
    nn.init.normal_(layer.bias)
    nn.init.normal_(layer.affine.get_parameter("bias"), 1.0)
    x, w = normal(3, 5, 4, 4), normal(3, 6, seed=1)
    parameters = {f"layer.{name}": value for name, value in layer.state_dict().items()}
    expected = reference.layer(parameters, "layer", x, w, demodulate, upsample)
    assert expected.shape == (3, 4, 8, 8) if upsample else (3, 4, 4, 4)
    torch.testing.assert_close(layer(x, w), expected)
    layer.gain = 1.7
    torch.testing.assert_close(layer(x, w), expected * 1.7)


@pytest.mark.parametrize(("kernel_size", "demodulate", "upsample"), CASES)
def test_modulated_conv_differentiates_twice(kernel_size: int, demodulate: bool, upsample: bool) -> None:
    layer = ModulatedConv2d(2, 2, kernel_size, 2, demodulate, upsample).double()
    names, parameters = zip(*layer.named_parameters(), strict=True)

    def apply(x: torch.Tensor, w: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x, w))

    inputs = (normal(2, 2, 3, 3).requires_grad_(), normal(2, 2, seed=1).requires_grad_(), *parameters)
    assert gradcheck(apply, inputs)
    assert gradgradcheck(apply, inputs)


def test_demodulation_undoes_the_size_of_a_style() -> None:
    layer = ModulatedConv2d(8, 8, 3, 4)
    nn.init.zeros_(layer.affine.get_parameter("bias"))  # the style is then linear in w
    x, w = normal(2, 8, 5, 5).float(), normal(2, 4, seed=1).float()
    torch.testing.assert_close(layer(x, w * 1000), layer(x, w), rtol=1e-4, atol=1e-5)


def test_demodulation_is_float32_under_autocast() -> None:
    layer = ModulatedConv2d(64, 32, 3, 16)
    x, w = normal(2, 64, 8, 8).float(), normal(2, 16, seed=1).float()
    exact_style, exact_factor = layer.modulation(w)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        style, factor = layer.modulation(w)
        y = layer(x, w)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(style, exact_style, rtol=0, atol=0)
    torch.testing.assert_close(factor, exact_factor, rtol=0, atol=0)
    assert (y.float() - layer(x, w)).abs().max() < 0.05


def test_upsampling_needs_a_kernel_of_three() -> None:
    with pytest.raises(ValueError, match=r"\b3\b.*\b1\b"):
        ModulatedConv2d(2, 2, 1, 2, upsample=True)


def test_leaky_relu_keeps_the_second_moment_near_one() -> None:
    y = leaky_relu(normal(100_000))
    assert abs(y.square().mean().item() - 1.04) < 0.02  # 2 · (1 + 0.2²) / 2
