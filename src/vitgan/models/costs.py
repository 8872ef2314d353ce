"""What a model costs, counted on shapes without weights: parameters, FLOPs, memory of activations."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from vitgan.models.build import ModelConfig, build_discriminator, build_generator


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
    generator = build_generator(config.generator_spec(), device="meta")
    discriminator = build_discriminator(config, device="meta")
    batch = 2  # the difference between two and one image leaves out what does not grow with the batch
    labels = torch.zeros(batch, dtype=torch.long, device="meta") if config.num_classes else None

    def generate(count: int) -> Tensor:
        z = torch.empty(count, generator.z_dim, device="meta")
        return generator.levels(generator.styles(generator.mapping(z, labels[:count] if labels is not None else None)))

    def judge(count: int) -> Tensor:
        images = torch.empty(count, config.channels, config.resolution, config.resolution, device="meta")
        return discriminator(generator.levels_of(images), labels[:count] if labels is not None else None)

    def costs(module: torch.nn.Module, run: Callable[[int], object]) -> Costs:
        one, two = _measure(run, 1), _measure(run, batch)
        parameters = sum(p.numel() for p in module.parameters())
        return Costs(parameters, two[0] - one[0], two[1] - one[1])

    return costs(generator, generate), costs(discriminator, judge)


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
