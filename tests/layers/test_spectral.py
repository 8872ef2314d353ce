"""Spectral normalisation against exact singular values, through training, copies, files and two forward passes."""

import copy

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from reference.draws import normal
from reference.vitgan import largest_singular_value
from vitgan.layers.linear import EqualizedConv2d, EqualizedLinear
from vitgan.layers.spectral import (
    SpectralNorm,
    largest_singular_triplet,
    power_iteration,
    spectral_norms,
    update_spectral_norms,
)
from vitgan.training.ema import update_average

Layer = EqualizedLinear | EqualizedConv2d


def layers(kind, seed: int = 0) -> dict[str, Layer]:
    torch.manual_seed(seed)
    return {
        "wide": EqualizedLinear(24, 10, weight_norm=kind),
        "tall": EqualizedLinear(8, 30, weight_norm=kind, gain=0.5),
        "ordinary": EqualizedLinear(12, 12, weight_norm=kind, equalized=False),
        "row": EqualizedLinear(16, 1, weight_norm=kind),
        "convolution": EqualizedConv2d(4, 6, 3, padding=1, weight_norm=kind),
    }


def applied_sigma(layer: nn.Module) -> float:
    """The largest singular value of the weight that the layer applies, by LAPACK."""
    assert isinstance(layer, Layer)
    return largest_singular_value(layer.effective_weight().detach().double()).item()


def train(module: nn.Module, updates: int, seed: int = 0) -> None:
    """Random changes of the size that Adam makes, one power iteration before each, as in training."""
    rng = torch.Generator().manual_seed(seed)
    for _ in range(updates):
        update_spectral_norms(module)
        with torch.no_grad():
            for layer in module.modules():
                if isinstance(layer, Layer):
                    size = 0.02 * layer.weight.std()
                    layer.weight.add_(size * torch.randn(layer.weight.shape, generator=rng).sign())


@pytest.mark.parametrize("name", ["wide", "tall", "ordinary", "row", "convolution"])
def test_isn_keeps_the_initial_singular_value_through_training(name: str) -> None:
    layer = layers("isn")[name]
    raw = (layer.weight * layer.scale).detach()
    initial = largest_singular_value(raw.double()).item()
    assert applied_sigma(layer) == pytest.approx(initial, rel=1e-5)
    train(layer, 400)
    update_spectral_norms(layer)
    changed = largest_singular_value((layer.weight * layer.scale).detach().double()).item()
    assert abs(changed / initial - 1) > 0.02  # the raw weight's has moved
    assert applied_sigma(layer) == pytest.approx(initial, rel=0.02)  # one iteration an update lags a little behind
    update_spectral_norms(layer, steps=300)
    assert applied_sigma(layer) == pytest.approx(initial, rel=1e-4)


def test_sn_gives_one() -> None:
    module = nn.ModuleDict(layers("sn"))
    for name, layer in module.items():
        assert applied_sigma(layer) == pytest.approx(1, rel=1e-5), name
    train(module, 100)
    update_spectral_norms(module, steps=300)
    for name, layer in module.items():
        assert applied_sigma(layer) == pytest.approx(1, rel=1e-4), name


def test_no_norm_leaves_the_weight_alone() -> None:
    layer = EqualizedLinear(6, 4, equalized=False)
    assert torch.equal(layer.effective_weight(), layer.weight)
    assert set(layer.state_dict()) == {"weight", "bias"}


def test_target_survives_saving_copying_and_averaging(tmp_path) -> None:
    """Each copy applies the very same weight, and after further training returns to the same singular value."""
    original = nn.ModuleDict(layers("isn"))
    initial = {name: applied_sigma(layer) for name, layer in original.items()}
    train(original, 50)

    save_file(original.state_dict(), tmp_path / "weights.safetensors")
    loaded = nn.ModuleDict(layers("isn", seed=1))  # another initialisation, with targets of its own
    assert applied_sigma(loaded["wide"]) != pytest.approx(initial["wide"], rel=0.01)
    loaded.load_state_dict(load_file(tmp_path / "weights.safetensors"))

    for kind, module in {"loaded": loaded, "copied": copy.deepcopy(original)}.items():
        for name, layer in module.items():
            first = original[name]
            assert isinstance(layer, Layer)
            assert isinstance(first, Layer)
            assert torch.equal(layer.effective_weight(), first.effective_weight()), (kind, name)
        train(module, 50, seed=5)
        update_spectral_norms(module, steps=300)
        for name, layer in module.items():
            assert applied_sigma(layer) == pytest.approx(initial[name], rel=1e-4), (kind, name)

    average = copy.deepcopy(original).eval().requires_grad_(False)
    train(original, 20)
    update_average(average, original, decay=0.9)
    update_spectral_norms(average, steps=300)
    for name, layer in average.items():
        assert applied_sigma(layer) == pytest.approx(initial[name], rel=1e-4), name


@pytest.mark.parametrize("kind", ["isn", "sn"])
@pytest.mark.parametrize("shape", [(5, 9), (9, 5), (4, 3, 3, 3)])
def test_gradients_equal_autograd_through_the_exact_singular_value(kind, shape: tuple[int, ...]) -> None:
    weight, cotangent = normal(*shape).requires_grad_(), normal(*shape, seed=1)
    norm = SpectralNorm(shape, kind, scale=0.7).double()
    norm.reset(weight.detach())  # in float64
    sigma = torch.linalg.svdvals(weight.flatten(1))[0]
    torch.testing.assert_close(norm.sigma(weight), sigma, rtol=1e-9, atol=0)
    for ours, exact in (
        (norm.sigma(weight), sigma),
        ((norm(weight) * cotangent).sum(), (weight * cotangent).sum() * norm.target_sigma / sigma),
    ):
        (a,) = torch.autograd.grad(ours, weight, retain_graph=True)
        (b,) = torch.autograd.grad(exact, weight, retain_graph=True)
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9)
    target = 0.7 * sigma.item() if kind == "isn" else 1.0
    assert norm.target_sigma.item() == pytest.approx(target)


def state_vectors(module: nn.Module) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in module.named_buffers()}


def test_vectors_move_only_when_told() -> None:
    """Not in a forward or backward pass, in training or evaluation mode."""
    layer = EqualizedLinear(6, 4, weight_norm="isn")
    nn.init.normal_(layer.weight)  # so that an iteration would move them
    before = state_vectors(layer)
    for mode in (True, False):
        layer.train(mode)(normal(3, 6, dtype=torch.float32)).sum().backward()
    assert all(torch.equal(before[name], value) for name, value in state_vectors(layer).items())
    update_spectral_norms(layer)
    after = state_vectors(layer)
    assert not torch.equal(before["weight_norm.left_vector"], after["weight_norm.left_vector"])
    assert not torch.equal(before["weight_norm.right_vector"], after["weight_norm.right_vector"])
    assert torch.equal(before["weight_norm.target_sigma"], after["weight_norm.target_sigma"])


def test_power_iteration_equals_its_definition() -> None:
    weight = normal(5, 7, dtype=torch.float32)
    norm = SpectralNorm((5, 7), "isn")
    norm.reset(normal(5, 7, seed=1, dtype=torch.float32))
    u = norm.left_vector.clone()
    for _ in range(3):
        v = weight.t() @ u / (weight.t() @ u).norm()
        u = weight @ v / (weight @ v).norm()
    power_iteration([weight], [norm.left_vector], [norm.right_vector], steps=3)
    torch.testing.assert_close(norm.left_vector, u)
    torch.testing.assert_close(norm.right_vector, v)


def test_two_forward_passes_before_one_backward() -> None:
    """As when real and fake images go through D apart."""
    layer = EqualizedLinear(6, 4, weight_norm="isn")
    x = normal(2, 3, 6, dtype=torch.float32)
    (layer(x[0]).sum() - layer(x[1]).square().sum()).backward()
    apart = layer.weight.grad
    assert apart is not None
    layer.zero_grad()
    both = layer(torch.cat([x[0], x[1]]))
    (both[:3].sum() - both[3:].square().sum()).backward()
    torch.testing.assert_close(layer.weight.grad, apart)


def test_normalised_layers_differentiate_twice() -> None:
    layer = EqualizedLinear(3, 2, weight_norm="isn").double()

    def apply(x: Tensor, weight: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {"weight": weight}, (x,))

    inputs = (normal(2, 3).requires_grad_(), layer.weight)
    assert torch.autograd.gradcheck(apply, inputs)
    assert torch.autograd.gradgradcheck(apply, inputs)


def test_sigma_stays_in_float32_under_autocast() -> None:
    layer = EqualizedLinear(64, 64, weight_norm="isn")
    exact = layer.effective_weight()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layer.effective_weight(), exact)


@pytest.mark.parametrize("shape", [(1, 5), (5, 1), (6, 20), (20, 6), (40, 40)])
def test_singular_triplet_equals_lapacks(shape: tuple[int, int]) -> None:
    matrix = normal(*shape)
    left, sigma, right = largest_singular_triplet(matrix)
    u, s, vh = torch.linalg.svd(matrix)
    torch.testing.assert_close(sigma, s[0], rtol=1e-9, atol=0)
    torch.testing.assert_close(torch.outer(left, right), torch.outer(u[:, 0], vh[0]), rtol=1e-6, atol=1e-9)


def test_spectral_norms_reports_what_each_layer_applies() -> None:
    module = nn.ModuleDict(layers("isn"))
    module["unnormalised"] = nn.Sequential(EqualizedLinear(5, 7))
    train(module, 20)
    figures = spectral_norms(module)
    assert figures.keys() == {*layers("isn"), "unnormalised.0"}
    for name, figure in figures.items():
        assert figure == pytest.approx(applied_sigma(module.get_submodule(name)), rel=1e-5)
