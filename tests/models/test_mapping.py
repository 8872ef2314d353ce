"""The mapping network against its slow form."""

import math

import pytest
import torch

from reference import vitgan as reference
from reference.draws import normal, perturb
from vitgan.models.mapping import MappingNetwork


@pytest.mark.parametrize("num_classes", [0, 3])
@pytest.mark.parametrize("lr_multiplier", [1.0, 0.01])
def test_mapping_equals_the_slow_form(num_classes: int, lr_multiplier: float) -> None:
    network = MappingNetwork(6, 5, num_layers=3, lr_multiplier=lr_multiplier, num_classes=num_classes).double()
    perturb(network, size=1 / lr_multiplier)
    z, labels = normal(4, 6), torch.tensor([2, 0, 1, 2]) if num_classes else None
    p = {f"mapping_network.{name}": value for name, value in network.state_dict().items()}
    w = network(z, labels)
    assert w.shape == (4, 5)
    torch.testing.assert_close(w, reference.mapping(p, z, labels, lr_multiplier))


def test_weights_and_biases_learn_at_stylegan2s_rates() -> None:
    """A step of Adam moves a stored weight and bias by its rate: sqrt(2) lr_multiplier of it in the layer's output."""
    network = MappingNetwork(6, 5, num_layers=1, lr_multiplier=0.01).double()
    z = normal(1, 6)
    x = z / z.square().mean().sqrt()
    before = network(z)
    with torch.no_grad():
        network.get_parameter("layers.0.bias").add_(0.1)
    # StyleGAN2: sqrt(2) lrelu(0.01 (W x / sqrt(6) + b))
    slope = torch.where(before > 0, 1.0, 0.2).double() * math.sqrt(2) * 0.01
    torch.testing.assert_close(network(z) - before, slope * 0.1, rtol=1e-6, atol=1e-9)
    with torch.no_grad():
        network.get_parameter("layers.0.bias").sub_(0.1)
        network.get_parameter("layers.0.weight").add_(0.01)
    torch.testing.assert_close(network(z) - before, slope * 0.01 * x.sum() / math.sqrt(6), rtol=1e-6, atol=1e-9)


def test_the_latents_length_does_not_matter() -> None:
    network, z = MappingNetwork(6, 5, num_layers=2), normal(4, 6, dtype=torch.float32)
    torch.testing.assert_close(network(z * 10), network(z))


@pytest.mark.parametrize("num_classes", [0, 10])
def test_styles_start_with_a_second_moment_near_one(num_classes: int) -> None:
    """Eight layers deep; leaky ReLU of slope 0.2 and a gain of sqrt(2) give 1.04 a layer in expectation."""
    torch.manual_seed(0)
    network = MappingNetwork(256, 256, num_layers=8, num_classes=num_classes)
    labels = torch.arange(64) % 10 if num_classes else None
    moment = network(normal(64, 256, dtype=torch.float32), labels).square().mean().item()
    assert 0.5 < moment < 2.5


def test_ordinary_storage_gives_the_same_initial_function() -> None:
    z = normal(4, 6, dtype=torch.float32)
    results = []
    for equalized in (True, False):
        torch.manual_seed(0)
        results.append(MappingNetwork(6, 5, num_layers=2, num_classes=3, equalized=equalized)(z, torch.arange(4) % 3))
    torch.testing.assert_close(*results)


def test_conditional_mapping_needs_labels() -> None:
    with pytest.raises(ValueError, match="labels"):
        MappingNetwork(6, 5, num_layers=2, num_classes=3)(normal(4, 6, dtype=torch.float32))
