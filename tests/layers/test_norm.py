"""Self-modulated LayerNorm and pixel norm against LayerNorm and their formulas."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from reference import vitgan as reference
from reference.draws import normal, perturb
from vitgan.layers.norm import SelfModulatedLayerNorm, UnmodulatedNorm, pixel_norm


def without_style(layer: SelfModulatedLayerNorm) -> SelfModulatedLayerNorm:
    """gamma = 1 and beta = 0 for every w: their biases start there."""
    for name, parameter in layer.named_parameters():
        if name.endswith("weight"):
            nn.init.zeros_(parameter)
    return layer


def test_sln_is_layer_norm_where_gamma_is_one_and_beta_zero() -> None:
    layer = without_style(SelfModulatedLayerNorm(6, 4).double())
    h, w = normal(3, 5, 6), normal(3, 4, seed=1)
    torch.testing.assert_close(layer(h, w), nn.LayerNorm(6, dtype=torch.float64)(h))


def test_sln_equals_its_formula() -> None:
    layer = perturb(SelfModulatedLayerNorm(6, 4).double())
    p = layer.state_dict()
    h, w = normal(3, 5, 6), normal(3, 4, seed=1)
    expected = []
    for tokens, style in zip(h, w, strict=True):  # each sample has its own gamma and beta, shared by its tokens
        gamma, beta = reference.equalized(p, "gamma", style), reference.equalized(p, "beta", style)
        expected.append(gamma * reference.layer_norm(tokens) + beta)
    torch.testing.assert_close(layer(h, w), torch.stack(expected))


def test_rms_form_equals_its_formula_and_has_no_shift() -> None:
    layer = SelfModulatedLayerNorm(6, 4, normalization="rms").double()
    h, w = normal(3, 5, 6), normal(3, 4, seed=1)
    torch.testing.assert_close(without_style(layer)(h, w), nn.RMSNorm(6, eps=1e-6, dtype=torch.float64)(h))
    perturb(layer)
    expected = [
        reference.equalized(layer.state_dict(), "gamma", style) * reference.rms_norm(tokens)
        for tokens, style in zip(h, w, strict=True)
    ]
    torch.testing.assert_close(layer(h, w), torch.stack(expected))
    assert not any(name.startswith("beta") for name in layer.state_dict())


@pytest.mark.parametrize("normalization", ["layer", "rms"])
def test_unmodulated_norm_does_not_look_at_the_style(normalization) -> None:
    layer = perturb(UnmodulatedNorm(6, normalization).double())
    h = normal(3, 5, 6)
    torch.testing.assert_close(layer(h, normal(3, 4, seed=1)), reference.plain_norm(layer.state_dict(), "norm", h))
    assert torch.equal(layer(h, normal(3, 4, seed=1)), layer(h, normal(3, 4, seed=2)))


def test_sln_starts_as_a_layer_norm_that_the_style_perturbs() -> None:
    layer = SelfModulatedLayerNorm(400, 64)
    w = normal(16, 64, dtype=torch.float32)
    assert layer.beta is not None
    gamma, beta = layer.gamma(w), layer.beta(w)
    assert abs(gamma.mean().item() - 1) < 0.1
    assert abs(beta.mean().item()) < 0.1
    assert 0.8 < gamma.std().item() < 1.2


def test_sln_takes_its_statistics_in_float32() -> None:
    """Tokens with a mean far above their spread, which bf16 sums would lose."""
    layer = without_style(SelfModulatedLayerNorm(256, 4, equalized=False))
    h = (normal(2, 3, 256) + 20).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        normalized = layer(h, normal(2, 4, dtype=torch.float32))
    assert normalized.dtype == torch.float32
    torch.testing.assert_close(normalized, F.layer_norm(h.double(), (256,)).float(), rtol=1e-5, atol=1e-5)


def test_pixel_norm_equals_its_formula_and_forgets_the_length() -> None:
    x = normal(4, 6)
    torch.testing.assert_close(pixel_norm(x), reference.pixel_norm(x))
    torch.testing.assert_close(pixel_norm(x).square().mean(dim=1), torch.ones(4, dtype=torch.float64))
    torch.testing.assert_close(pixel_norm(x * 50), pixel_norm(x))
    assert torch.isfinite(pixel_norm(torch.zeros(2, 3))).all()
