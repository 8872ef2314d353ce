"""What a model costs, counted on shapes without weights: parameters, FLOPs, memory of activations."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vitgan.models.build import GeneratorSpec, ModelConfig, build_discriminator, build_generator


@dataclass(frozen=True)
class Costs:
    """Parameters, forward FLOPs of one image (a multiply-add is two), and activation bytes kept for its backward."""

    parameters: int
    flops_per_image: int
    activation_bytes_per_image: int


def model_costs(config: ModelConfig) -> tuple[Costs, Costs]:
    """Costs of (generator, discriminator), without allocating either: about a second for any size.

    FLOPs are those of matrix products and convolutions, by torch's own counter. Activation bytes are what autograd
    saves in float32; under bf16 autocast it is about half.
    """
    discriminator = build_discriminator(config, device="meta")
    image = config.channels, config.resolution, config.resolution
    return generator_costs(config.generator_spec()), _costs(discriminator, image, config.num_classes)


def generator_costs(spec: GeneratorSpec) -> Costs:
    """Costs of a generator alone, as `model_costs`."""
    generator = build_generator(spec, device="meta")
    return _costs(generator, (generator.z_dim,), spec.num_classes)


def _costs(module: nn.Module, shape: tuple[int, ...], num_classes: int) -> Costs:
    def run(count: int) -> None:
        labels = torch.zeros(count, dtype=torch.long, device="meta") if num_classes else None
        module(torch.empty(count, *shape, device="meta"), labels)

    one, two = _measure(run, 1), _measure(run, 2)  # the difference leaves out what does not grow with the batch
    return Costs(sum(p.numel() for p in module.parameters()), two[0] - one[0], two[1] - one[1])


def _measure(run: Callable[[int], object], count: int) -> tuple[int, int]:
    saved: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()  # views of one activation share it
        saved[storage._cdata] = storage  # kept alive, so that keys stay distinct
        return tensor

    counter = FlopCounterMode(display=False)
    with counter, torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run(count)
    return counter.get_total_flops(), sum(storage.nbytes() for storage in saved.values())
