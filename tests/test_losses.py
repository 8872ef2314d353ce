"""Adversarial losses against their formulas with logarithms and sigmoids, value by value in float64."""

import math

import pytest
import torch

from reference.draws import normal
from vitgan.losses import LOSSES


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def literal(name: str, real: list[float], fake: list[float]) -> tuple[float, float]:
    """(discriminator's, generator's) as the papers print them."""

    def mean(values) -> float:
        values = list(values)
        return sum(values) / len(values)

    match name:
        case "non_saturating":
            d = -mean(math.log(sigmoid(r)) for r in real) - mean(math.log(1 - sigmoid(f)) for f in fake)
            return d, -mean(math.log(sigmoid(f)) for f in fake)
        case "hinge":
            d = -mean(min(0, r - 1) for r in real) - mean(min(0, -f - 1) for f in fake)
            return d, -mean(fake)
        case "wasserstein":
            return mean(fake) - mean(real), -mean(fake)
        case "relativistic":
            d = -mean(math.log(sigmoid(r - f)) for r, f in zip(real, fake, strict=True))
            return d, -mean(math.log(sigmoid(f - r)) for r, f in zip(real, fake, strict=True))
    raise AssertionError(name)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_equal_their_formulas(name) -> None:
    loss = LOSSES[name]
    real, fake = 2 * normal(9), 2 * normal(9, seed=1)
    expected = literal(name, real.tolist(), fake.tolist())
    assert loss.discriminator(real, fake).item() == pytest.approx(expected[0], rel=1e-12)
    assert loss.generator(real, fake).item() == pytest.approx(expected[1], rel=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_push_the_logits_the_right_way(name) -> None:
    """Descent on D's loss raises real logits and lowers fake ones; on G's it raises fake ones."""
    loss = LOSSES[name]
    real = (normal(9) * 0.3).requires_grad_()
    fake = (normal(9, seed=1) * 0.3).requires_grad_()
    real_gradient, fake_gradient = torch.autograd.grad(loss.discriminator(real, fake), (real, fake))
    assert (real_gradient < 0).all()
    assert (fake_gradient > 0).all()
    generator_loss = loss.generator(real if loss.generator_sees_real else None, fake)
    (gradient,) = torch.autograd.grad(generator_loss, fake)
    assert (gradient < 0).all()


def test_hinge_has_no_gradient_beyond_the_margin() -> None:
    real = torch.tensor([2.0, 0.5], requires_grad=True)
    fake = torch.tensor([-2.0, -0.5], requires_grad=True)
    gradients = torch.autograd.grad(LOSSES["hinge"].discriminator(real, fake), (real, fake))
    assert gradients[0].tolist() == [0, -0.5]
    assert gradients[1].tolist() == [0, 0.5]


@pytest.mark.parametrize("name", ["non_saturating", "relativistic"])
def test_far_logits_stay_finite(name) -> None:
    loss = LOSSES[name]
    real = torch.tensor([-500.0, 500.0], requires_grad=True)
    fake = torch.tensor([500.0, -500.0], requires_grad=True)
    for value in (loss.discriminator(real, fake), loss.generator(real, fake)):
        assert torch.isfinite(value)
    assert torch.isfinite(torch.autograd.grad(loss.discriminator(real, fake), real)[0]).all()
    assert loss.discriminator(real, fake).item() == pytest.approx(500)  # one sample of two is 500 or 1000 wrong


@pytest.mark.parametrize("name", LOSSES)
def test_only_relativistic_losses_look_at_real_images_for_the_generator(name) -> None:
    loss = LOSSES[name]
    fake, real = normal(4), normal(4, seed=1)
    depends = loss.generator(real, fake) != loss.generator(real + 1, fake)
    assert bool(depends) == loss.generator_sees_real == (name == "relativistic")
