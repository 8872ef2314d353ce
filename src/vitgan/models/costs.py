"""What a model costs: parameters, FLOPs, memory of activations. Counted from shapes; no weights are made."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from vitgan.models.build import GeneratorSpec, ModelConfig, build_discriminator, build_generator
from vitgan.models.discriminator import Discriminator
from vitgan.models.generator import Generator


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
    levels = config.num_levels

    def judge(count: int, labels: Tensor | None) -> object:
        shape = (count, config.channels, config.resolution, config.resolution)
        images = torch.empty(shape, device="meta")
        return discriminator(images if levels == 1 else images.unsqueeze(1).expand(-1, levels, -1, -1, -1), labels)

    return generator_costs(config.generator_spec()), _costs(discriminator, judge)


def generator_costs(spec: GeneratorSpec) -> Costs:
    """Costs of a generator alone, as `model_costs`; of all levels that D is shown."""
    generator = build_generator(spec, device="meta")

    def generate(count: int, labels: Tensor | None) -> object:
        z = torch.empty(count, generator.z_dim, device="meta")
        return generator.levels(generator.styles(generator.mapping(z, labels)))

    return _costs(generator, generate)


def _costs(network: Generator | Discriminator, run: Callable[[int, Tensor | None], object]) -> Costs:
    def of(count: int) -> tuple[int, int]:
        labels = torch.zeros(count, dtype=torch.long, device="meta") if network.num_classes else None
        return _measure(lambda: run(count, labels))

    one, two = of(1), of(2)  # the difference leaves out what does not grow with the batch
    return Costs(sum(p.numel() for p in network.parameters()), two[0] - one[0], two[1] - one[1])


def _measure(run: Callable[[], object]) -> tuple[int, int]:
    saved: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()  # views of one activation share it
        saved[storage._cdata] = storage  # kept alive, so that keys stay distinct
        return tensor

    counter = FlopCounterMode(display=False)
    with counter, torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return counter.get_total_flops(), sum(storage.nbytes() for storage in saved.values())
