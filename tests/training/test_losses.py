"""Adversarial losses against their formulas in float64, regularisers of networks whose gradients are known."""

import math

import pytest
import torch

from reference.draws import normal
from vitgan.training.losses import (
    LOSSES,
    consistency,
    energy_distance,
    finite_difference_penalty,
    gradient_penalty,
    interpolation_penalty,
    lecam,
    out_of_range,
    path_lengths,
)


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
    """Descent on D's loss raises real logits and lowers fake ones; on G's it raises fake ones.

    Logits lie between 0 and 1, where a loss with these two as its targets (least squares) pulls the same way.
    """
    loss = LOSSES[name]
    real = normal(9).sigmoid().requires_grad_()
    fake = normal(9, seed=1).sigmoid().requires_grad_()
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


def quadratic(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """D(x) = x·Ax / 2 + b·x: logits, and by hand the gradients Ax + b and A."""
    flat = images.flatten(1)
    matrix = normal(flat.shape[1], flat.shape[1], seed=3)
    matrix = (matrix + matrix.t()) / 2
    offset = normal(flat.shape[1], seed=4)
    logits = 0.5 * torch.einsum("bi,ij,bj->b", flat, matrix, flat) + flat @ offset
    return logits, flat.detach() @ matrix + offset, matrix


def test_penalty_of_a_linear_discriminator_is_its_squared_norm() -> None:
    weight = normal(3, 4, 4)
    images = normal(5, 3, 4, 4, seed=1).requires_grad_()
    logits = (images * weight).sum(dim=(1, 2, 3)) + 7
    assert gradient_penalty(logits, images).item() == pytest.approx(weight.square().sum().item())


def test_penalty_of_a_quadratic_discriminator_and_its_derivative() -> None:
    images = normal(5, 2, 2, 2).requires_grad_()
    logits, gradients, matrix = quadratic(images)
    penalty = gradient_penalty(logits, images)
    assert penalty.item() == pytest.approx(gradients.square().sum(dim=1).mean().item())
    (second,) = torch.autograd.grad(penalty, images)  # d/dx ||Ax + b||² / B = 2 A (Ax + b) / B
    torch.testing.assert_close(second.flatten(1), 2 * gradients @ matrix / 5)


def test_penalty_reaches_the_weights() -> None:
    weight = normal(6).requires_grad_()
    images = normal(5, 6, 1, 1, seed=1).requires_grad_()
    penalty = gradient_penalty(images.flatten(1) @ weight, images)
    torch.testing.assert_close(torch.autograd.grad(penalty, weight)[0], 2 * weight.detach())


def test_finite_differences_are_exact_along_the_noise_for_a_linear_discriminator() -> None:
    weight, images, noise = normal(6), normal(5, 6, seed=1), normal(5, 6, seed=2)
    for scale in (0.01, 1.0):
        penalty = finite_difference_penalty(images @ weight, (images + scale * noise) @ weight, scale)
        assert penalty.item() == pytest.approx((noise @ weight).square().mean().item())


def test_finite_differences_converge_to_the_gradient_penalty() -> None:
    """In expectation over the noise, as its size goes to 0; the relative standard error here is below 1%."""
    repeats = 40_000
    images = normal(3, 2, 2, 2).requires_grad_()
    exact = gradient_penalty(quadratic(images)[0], images).item()
    errors = []
    for scale in (0.5, 0.01):
        many = images.detach().repeat(repeats, 1, 1, 1)
        noisy = many + scale * normal(*many.shape, seed=5)
        estimate = finite_difference_penalty(quadratic(many)[0], quadratic(noisy)[0], scale).item()
        errors.append(abs(estimate / exact - 1))
    assert errors[1] < 0.03
    assert errors[0] > 2 * errors[1]  # large noise sees the curvature


def test_consistency_is_the_mean_square_and_pulls_both_ways() -> None:
    a = torch.tensor([1.0, 2.0, 5.0], requires_grad=True)
    b = torch.tensor([1.0, 0.0, 6.0], requires_grad=True)
    value = consistency(a, b)
    assert value.item() == pytest.approx((0 + 4 + 1) / 3)
    to_a, to_b = torch.autograd.grad(value, (a, b))
    torch.testing.assert_close(to_a, torch.tensor([0, 4 / 3, -2 / 3]))
    assert torch.equal(to_b, -to_a)


def test_interpolation_penalty_pulls_the_slope_to_its_target() -> None:
    weight, images = normal(6), normal(5, 6, 1, 1, seed=1).requires_grad_()
    for factor, target in ((1.0, 1.0), (0.2, 1.0), (0.2, 0.0)):
        logits = factor * images.flatten(1) @ weight
        expected = (factor * weight.norm().item() - target) ** 2
        assert interpolation_penalty(logits, images, target).item() == pytest.approx(expected)
    images = normal(5, 2, 2, 2).requires_grad_()
    logits, gradients, _ = quadratic(images)
    expected = (gradients.norm(dim=1) - 1).square().mean().item()
    assert interpolation_penalty(logits, images).item() == pytest.approx(expected)


def test_interpolation_penalty_of_a_dead_discriminator_is_finite_and_so_is_its_gradient() -> None:
    weight, images = torch.zeros(6, requires_grad=True), torch.ones(5, 6, 1, 1, requires_grad=True)
    penalty = interpolation_penalty(images.flatten(1) @ weight, images)
    assert penalty.item() == pytest.approx(1, abs=1e-5)
    assert torch.isfinite(torch.autograd.grad(penalty, weight)[0]).all()


def test_lecam_ties_each_side_to_the_others_average() -> None:
    real, fake = torch.tensor([1.0, 3.0]), torch.tensor([-1.0, -2.0])
    value = lecam(real, fake, real_average=torch.tensor(0.5), fake_average=torch.tensor(-0.25))
    assert value.item() == pytest.approx((1.25**2 + 3.25**2) / 2 + (1.5**2 + 2.5**2) / 2)


def test_path_lengths_are_norms_of_the_jacobian_applied_to_noise() -> None:
    """Of a generator whose Jacobian is known: G(w) = M w + (N w)² with another style for each of two places."""
    first, second = normal(12, 8), normal(12, 8, seed=1)
    w, noise = normal(3, 2, 4, seed=2).requires_grad_(), normal(3, 3, 2, 2, seed=3)
    flat = w.flatten(1)
    images = (flat @ first.t() + (flat @ second.t()) ** 2).unflatten(1, (3, 2, 2))
    expected = []
    for sample, y in zip(flat.detach(), noise.flatten(1), strict=True):
        jacobian = first + 2 * (second @ sample)[:, None] * second
        gradient = (jacobian.t() @ (y / 2)).view(2, 4)  # sqrt(H · W) = 2
        expected.append(gradient.square().sum(dim=1).mean().sqrt())
    lengths = path_lengths(images, w, noise)
    torch.testing.assert_close(lengths, torch.stack(expected))
    assert torch.autograd.grad(lengths.sum(), w)[0].abs().max() > 0


def test_energy_distance_equals_its_definition_pair_by_pair() -> None:
    rng = torch.Generator().manual_seed(0)
    fake = [torch.randn(6, 3, side, side, generator=rng) for side in (4, 2, 1)]
    real = [torch.randn(6, 3, side, side, generator=rng) + 0.5 for side in (4, 2, 1)]
    labels = torch.tensor([0, 0, 1, 0, 1, 0])

    def vector(x: torch.Tensor) -> list[float]:  # (C, H, W)
        flat = x.flatten(1).double()
        values = flat.mean(1).tolist()
        if x.shape[1] > 1:
            values += (flat.var(1) + 1e-4).sqrt().tolist()
        if x.shape[1] > 2:
            values += [
                q for c in x.double() for rows in c.split(2) for q in (s.mean().item() for s in rows.split(2, 1))
            ]
        return values

    def mean(a, b, pairs) -> float:
        return sum(math.dist(vector(a[i]), vector(b[j])) for i, j in pairs) / len(pairs)

    expected = 0.0
    everyone = [(i, j) for i in range(6) for j in range(6) if i != j]
    kin = [(i, j) for i, j in everyone if labels[i] == labels[j]]
    for f, r in zip(fake, real, strict=True):
        expected += (2 * mean(f, r, kin) - mean(f, f, kin) - mean(r, r, kin)) / mean(r, r, everyone) / 3
    assert energy_distance(fake, real, labels).item() == pytest.approx(expected, rel=1e-5)


def test_energy_distance_is_exact_far_from_zero_and_does_not_follow_autocast() -> None:
    """Features lie far from zero and near each other, where ||a||² + ||b||² - 2 a·b cancels."""
    rng = torch.Generator().manual_seed(0)
    fake, real = (30 + torch.randn(16, 64, 1, 1, generator=rng) for _ in range(2))
    fake.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        found = energy_distance([fake], [real])
    f, r = fake.detach().double().flatten(1).requires_grad_(), real.double().flatten(1)
    others = ~torch.eye(16, dtype=torch.bool)
    ff, rr, fr = ((a[:, None] - b).norm(dim=2)[others].mean() for a, b in ((f, f), (r, r), (f, r)))
    expected = (2 * fr - ff - rr) / rr
    assert found.item() == pytest.approx(expected.item(), rel=1e-4)
    gradient, exact = torch.autograd.grad(found, fake)[0], torch.autograd.grad(expected, f)[0]
    torch.testing.assert_close(gradient.flatten(1), exact.float(), rtol=1e-3, atol=1e-6)


def test_energy_distance_pulls_to_real_images_and_pushes_fakes_apart() -> None:
    real = [torch.randn(32, 4, 1, 1, generator=torch.Generator().manual_seed(1))]
    near = [torch.randn(32, 4, 1, 1, generator=torch.Generator().manual_seed(2))]
    alike = [real[0].mean(0, keepdim=True).expand(32, -1, -1, -1)]
    assert energy_distance(real, real).abs() < 0.01
    assert energy_distance(near, real) < energy_distance([near[0] + 1], real)
    assert energy_distance(near, real) < energy_distance(alike, real)
    equal = torch.zeros(4, 2, 1, 1, requires_grad=True)
    energy_distance([equal], [torch.randn(4, 2, 1, 1)]).backward()
    assert equal.grad is not None
    assert equal.grad.isfinite().all()


def test_out_of_range_sums_squares_of_what_lies_beyond_the_range_of_images() -> None:
    images = torch.tensor([[[[0.5, -1.0], [1.5, -3.0]]], [[[1.0, 0.0], [-1.0, 2.0]]]], requires_grad=True)
    loss = out_of_range(images)
    assert loss.item() == (0.5**2 + 2**2 + 1) / 2
    loss.backward()
    expected = torch.tensor([[[[0.0, 0.0], [0.5, -2.0]]], [[[0.0, 0.0], [0.0, 1.0]]]])
    torch.testing.assert_close(images.grad, expected)
