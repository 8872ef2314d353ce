"""Equalised and modulated layers against the products they stand for."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from reference import vitgan as reference
from reference.draws import normal, perturb
from vitgan.layers.linear import EqualizedConv2d, EqualizedLinear, ModulatedLinear


@pytest.mark.parametrize("lr_multiplier", [1.0, 0.01])
def test_equalized_linear_equals_its_formula(lr_multiplier: float) -> None:
    layer = EqualizedLinear(5, 3, lr_multiplier=lr_multiplier).double()
    nn.init.normal_(layer.get_parameter("bias"))
    x = normal(2, 4, 5)
    weight = layer.weight * lr_multiplier / math.sqrt(5)
    expected = torch.einsum("oi,bni->bno", weight, x) + layer.get_parameter("bias") * lr_multiplier
    torch.testing.assert_close(layer(x), expected)


def test_equalized_convolution_equals_its_formula() -> None:
    layer = EqualizedConv2d(3, 4, 3, stride=2, padding=1, gain=2.0, lr_multiplier=0.1).double()
    nn.init.normal_(layer.get_parameter("bias"))
    x = normal(2, 3, 6, 6)
    weight = layer.weight * 0.1 * 2 / math.sqrt(27)
    expected = F.conv2d(x, weight, layer.get_parameter("bias") * 0.1 * 2, stride=2, padding=1)
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("equalized", [True, False])
@pytest.mark.parametrize("lr_multiplier", [1.0, 0.01])
def test_initial_effective_weights_have_the_stated_size(equalized: bool, lr_multiplier: float) -> None:
    """gain / sqrt(fan_in), however the layer stores them; only then is a deep stack's variance under control."""
    layer = EqualizedLinear(400, 300, gain=1.5, lr_multiplier=lr_multiplier, equalized=equalized, bias_init=0.7)
    assert layer.effective_weight().std().item() == pytest.approx(1.5 / 20, rel=0.02)
    stored = (1 if equalized else 1.5 / 20) / lr_multiplier
    assert layer.weight.std().item() == pytest.approx(stored, rel=0.02)
    torch.testing.assert_close(layer(torch.zeros(2, 400)), torch.full((2, 300), 0.7))


@pytest.mark.parametrize("lr_multiplier", [1.0, 0.01])
@pytest.mark.parametrize(("fan_in", "fan_out"), [(16, 4), (256, 4)])
def test_a_step_of_adam_has_the_same_relative_size_in_every_layer(
    lr_multiplier: float, fan_in: int, fan_out: int
) -> None:
    layer = EqualizedLinear(fan_in, fan_out, lr_multiplier=lr_multiplier)
    before = layer.effective_weight().detach()
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.002)
    (layer(normal(3, fan_in, dtype=torch.float32)) * normal(3, fan_out, seed=1, dtype=torch.float32)).sum().backward()
    optimizer.step()
    step = (layer.effective_weight().detach() - before).abs()
    torch.testing.assert_close(
        step, torch.full_like(step, 0.002 * lr_multiplier / math.sqrt(fan_in)), rtol=0.02, atol=0
    )
    bias = layer.effective_bias()
    assert bias is not None
    torch.testing.assert_close(bias.abs(), torch.full_like(bias, 0.002 * lr_multiplier), rtol=0.02, atol=0)


def test_layers_without_bias_have_none() -> None:
    assert set(EqualizedLinear(3, 2, bias=False).state_dict()) == {"weight"}
    assert set(EqualizedConv2d(3, 2, 1, bias=False).state_dict()) == {"weight"}
    assert not EqualizedLinear(3, 2, bias=False)(torch.zeros(1, 3)).any()
    assert not EqualizedConv2d(3, 2, 1, bias=False)(torch.zeros(1, 3, 4, 4)).any()


def modulated(demodulate: bool, equalized: bool = True) -> ModulatedLinear:
    torch.manual_seed(0)
    return perturb(ModulatedLinear(5, 4, demodulate, equalized).double())


@pytest.mark.parametrize("equalized", [True, False])
@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("pixels", [2, 6])  # fewer and more than outputs: the style multiplies the smaller factor
def test_modulated_linear_equals_one_weight_matrix_per_style(pixels: int, demodulate: bool, equalized: bool) -> None:
    layer = modulated(demodulate, equalized)
    x, style = normal(3, pixels, 5), normal(3, 5, seed=1)
    weight = layer.weight / math.sqrt(5) if equalized else layer.weight
    expected = [
        reference.modulated_linear(x_t, weight, layer.bias, s, demodulate) for x_t, s in zip(x, style, strict=True)
    ]
    torch.testing.assert_close(layer(x, style), torch.stack(expected))


@pytest.mark.parametrize("demodulate", [True, False])
def test_shared_features_give_what_copies_of_them_give(demodulate: bool) -> None:
    layer = modulated(demodulate)
    features, style = normal(6, 5), normal(3, 5, seed=1)
    torch.testing.assert_close(layer.forward_shared(features, style), layer(features.expand(3, -1, -1), style))


class SharedFeatures(nn.Module):
    """`forward_shared` as a module's forward, so that torch.func can call it with other weights."""

    def __init__(self, layer: ModulatedLinear) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, features: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        return self.layer.forward_shared(features, style)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("demodulate", [True, False])
def test_modulated_linear_differentiates_twice(demodulate: bool, shared: bool) -> None:
    layer = SharedFeatures(modulated(demodulate)) if shared else modulated(demodulate)
    names, parameters = zip(*layer.named_parameters(), strict=True)

    def apply(x: torch.Tensor, style: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x, style))

    features = normal(3, 5) if shared else normal(2, 3, 5)
    inputs = (features.requires_grad_(), normal(2, 5, seed=1).requires_grad_(), *parameters)
    assert torch.autograd.gradcheck(apply, inputs)
    assert torch.autograd.gradgradcheck(apply, inputs)


def test_demodulation_undoes_the_size_of_a_style() -> None:
    layer = modulated(demodulate=True)
    x, style = normal(3, 6, 5), normal(3, 5, seed=1)
    torch.testing.assert_close(layer(x, style * 1000), layer(x, style), rtol=1e-6, atol=1e-6)
    expected = (layer.weight / math.sqrt(5) * style[:, None]).norm(dim=2)
    torch.testing.assert_close(layer.demodulation(style), 1 / expected)


def test_modulation_in_bf16_stays_near_the_exact_result() -> None:
    layer = ModulatedLinear(128, 64)
    features, style = normal(16, 128, dtype=torch.float32), 1 + normal(8, 128, seed=1, dtype=torch.float32)
    exact, factor = layer.forward_shared(features, style), layer.demodulation(style)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer.demodulation(style).dtype == torch.float32
        torch.testing.assert_close(layer.demodulation(style), factor, rtol=0.01, atol=0)
        for result in (layer.forward_shared(features, style), layer(features.expand(8, -1, -1), style)):
            assert result.dtype == torch.bfloat16
            assert (result.float() - exact).abs().max() < 0.05 * exact.std()


@pytest.mark.parametrize("lr_multiplier", [1.0, 0.01])
def test_a_step_of_adam_on_ordinary_weights_is_the_learning_rate_times_the_multiplier(lr_multiplier: float) -> None:
    layer = EqualizedLinear(16, 4, lr_multiplier=lr_multiplier, equalized=False)
    before = layer.effective_weight().detach()
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.002)
    (layer(normal(3, 16, dtype=torch.float32)) * normal(3, 4, seed=1, dtype=torch.float32)).sum().backward()
    optimizer.step()
    step = (layer.effective_weight().detach() - before).abs()
    torch.testing.assert_close(step, torch.full_like(step, 0.002 * lr_multiplier), rtol=0.02, atol=1e-8)
