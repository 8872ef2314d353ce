"""The average against its recursion written out, and its half-life."""

import copy

import pytest
import torch
from torch import nn

from reference.draws import perturb
from vitgan.training.ema import average_decay, update_average


def test_average_follows_its_recursion() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4)).double()
    average = copy.deepcopy(module)
    expected = {name: p.detach().clone() for name, p in module.named_parameters()}
    for step, decay in enumerate((0.9, 0.5, 0.0, 0.99)):
        perturb(module, seed=step)
        update_average(average, module, decay)
        for name, p in module.named_parameters():
            expected[name] = decay * expected[name] + (1 - decay) * p.detach()
    for name, p in average.named_parameters():
        torch.testing.assert_close(p.detach(), expected[name])


def test_buffers_are_taken_over() -> None:
    module = nn.BatchNorm1d(3)
    average = copy.deepcopy(module)
    module(torch.randn(8, 3, generator=torch.Generator().manual_seed(0)))
    assert not torch.equal(average.state_dict()["running_mean"], module.state_dict()["running_mean"])
    update_average(average, module, 0.9)
    for name, buffer in module.named_buffers():
        assert torch.equal(average.state_dict()[name], buffer), name


def test_half_life_is_counted_in_images() -> None:
    """After half-life images, in batches of any size, half of the old average is left."""
    for batch_size in (1, 8, 100):
        left = 1.0
        for step in range(800 // batch_size):
            left *= average_decay(batch_size, 10_000 + step * batch_size, half_life_images=800, warmup=0)
        assert left == pytest.approx(0.5)
    assert average_decay(8, 10**9, 800, warmup=0.05) == average_decay(8, 0, 800, warmup=0)  # the warm-up ends


def test_warm_up_limits_the_half_life_to_a_share_of_the_images_seen() -> None:
    assert average_decay(32, 6400, half_life_images=10_000, warmup=0.05) == pytest.approx(0.5 ** (32 / 320))
    assert average_decay(32, 640, 10_000, 0.05) == pytest.approx(0.5)
    decays = [average_decay(32, images, 10_000, 0.05) for images in (32, 320, 3200, 32_000, 200_000, 400_000)]
    assert decays == sorted(decays)
    assert decays[-1] == decays[-2] == 0.5 ** (32 / 10_000)


def test_the_initial_weights_are_forgotten_with_warm_up_only() -> None:
    shares = {}
    for warmup in (0.0, 0.05):
        shares[warmup] = 1.0
        for step in range(100):
            shares[warmup] *= average_decay(32, (step + 1) * 32, half_life_images=10_000, warmup=warmup)
    assert shares[0.0] > 0.75
    assert shares[0.05] < 1e-6
