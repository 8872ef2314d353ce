"""Images that end inside [-1, 1]: tanh, and the way back from its ends."""

import pytest
import torch

from reference.draws import normal
from vitgan.layers.bound import WAY_BACK, Bound


def gradient(x: float, upstream: float) -> float:
    value = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    (result,) = torch.autograd.grad(Bound()(value), value, torch.tensor(upstream, dtype=torch.float64))
    return result.item()


def test_is_tanh_with_and_without_gradients() -> None:
    x = 3 * normal(2, 3, 4)
    torch.testing.assert_close(Bound()(x.clone().requires_grad_()), x.tanh())
    with torch.no_grad():
        torch.testing.assert_close(Bound()(x), x.tanh())


def test_inside_the_range_the_gradient_is_that_of_tanh() -> None:
    x = normal(20).clamp(-1.5, 1.5).requires_grad_()
    assert torch.autograd.gradcheck(Bound(), x)
    assert torch.autograd.gradgradcheck(Bound(), x)


@pytest.mark.parametrize("x", [-20.0, 20.0])
def test_far_outside_only_the_way_back_has_a_slope(x: float) -> None:
    outwards = -1.0 if x > 0 else 1.0  # a step against the gradient raises |x|
    assert abs(gradient(x, outwards)) < 1e-12
    assert gradient(x, -outwards) == pytest.approx(-outwards * WAY_BACK)


def test_comes_back_from_far_outside_by_gradient_descent() -> None:
    """What tanh itself does not: its gradient at 30 is 0 in float32."""
    x = torch.tensor(30.0, requires_grad=True)
    optimizer = torch.optim.Adam([x], lr=0.5)
    for _ in range(200):
        optimizer.zero_grad()
        (Bound()(x) - 0.25).square().backward()
        optimizer.step()
    assert Bound()(x).item() == pytest.approx(0.25, abs=0.05)
