"""What the paper's rows would take on GPUs: counted FLOPs, bytes and memory, an assumed utilisation. Nothing is run.

`python -m benchmarks.at_scale --out docs/results/at-scale.md`
"""

from pathlib import Path

import tyro

from benchmarks.flops import step_flops
from benchmarks.table import Table
from vitgan.config import RunConfig
from vitgan.models.costs import generator_costs, model_costs
from vitgan.presets import IMAGENET_PRESETS, preset

GPUS = {"A100": 312e12, "H100": 989e12}
"""Dense bf16 FLOPs a second, from the vendor's data sheets."""
UTILISATION = 0.25
"""Of that rate, assumed: tokens are 384 wide, which is narrow for such GPUs. Not measured."""

LINKS = {8: 450e9, 64: 50e9}
"""Bytes a second that a GPU sends: H100s of one machine by NVLink, of several by 400 Gbit/s each; from data sheets."""
GPU_COUNTS = (8, 64)
SCALED = ("cifar10", "lsun256")
ROWS = ("cifar10", "celeba64", "lsun128", "lsun256")
IMAGENET = tuple(IMAGENET_PRESETS)

INTRODUCTION = f"""# The paper's rows on GPUs

**Not yet run.** Nothing on this page is a result: FLOPs and activations are counted by torch, and we assume that a GPU
reaches {UTILISATION:.0%} of its peak rate.

```bash
vitgan data cifar10 --out data/cifar10
vitgan train cifar10 --training.total-kimg 200                          # first: what is the real rate?
vitgan train cifar10 --evaluate-every-kimg 500                          # one GPU
vitgan evaluate runs/00000-cifar10 --protocol cifar10-train-50k         # the metrics that papers report
```

`python -m benchmarks.first_hour --data data/cifar10` makes a page of results in the first hour of a GPU. Call it until it is
done, 9 minutes each time. It is tested on a CPU. [Several GPUs](../training.md#several-processes-and-machines).
"""


def memory_gib(config: RunConfig, gpus: int) -> float:
    """Weights, gradients, Adam's moments and average in float32; activations of one update in bf16."""
    generator, discriminator = model_costs(config.model)
    weights = 4 * (5 * generator.parameters + 4 * discriminator.parameters)
    views = 4 if config.objective.bcr_real or config.objective.r1_gamma else 2
    d_update = views * discriminator.activation_bytes_per_image
    g_update = generator.activation_bytes_per_image + discriminator.activation_bytes_per_image
    return (weights + config.training.batch_size / gpus * max(d_update, g_update) / 2) / 2**30


def row(name: str) -> tuple[str, ...]:
    """One preset's cells."""
    config = preset(name)
    generator, discriminator = model_costs(config.model)
    flops = step_flops(config)
    hours = [config.training.total_kimg * 1e3 * flops / (rate * UTILISATION) / 3600 for rate in GPUS.values()]
    parameters = f"{generator.parameters / 1e6:.1f} + {discriminator.parameters / 1e6:.1f}"
    memory = f"{memory_gib(config, 1):.1f} / {memory_gib(config, 8):.1f}"
    return (f"`{name}`", parameters, f"{flops / 1e9:.1f}", *(f"{hour:.1f}" for hour in hours), memory)


def size_of_generator(name: str) -> str:
    """A preset's G as GAT and CAT count it: a multiply-add is one."""
    costs = generator_costs(preset(name).model.generator_spec())
    return f"{costs.parameters / 1e6:.0f} M and {costs.flops_per_image / 2e9:.1f} GFLOPs"


def measure() -> Table:
    """The paper's sizes, and those of ImageNet."""
    columns = ("preset", "M parameters, G + D", "GFLOPs an image", *(f"hours, 1 {gpu}" for gpu in GPUS))
    table = Table("What a row takes", (*columns, "GiB a GPU, 1 / 8 GPUs"))
    for name in ROWS + IMAGENET:
        table.add(*row(name))
    table.remarks.append(
        "The hours are a lower bound: at 32×32 small kernels keep no large GPU busy. GFLOPs are of one D and one G update "
        "per real image; a multiply-add is two. A run has 25 million images (our choice), of `imagenet256` GAT's 60 or "
        "CAT's 40 epochs, on latents, without their VAE. `lsun64` takes what `celeba64` takes."
    )
    table.remarks.append(
        "Widths and depths of GAT-XL and CAT-M are not known to us. DiT-XL's give GAT-XL's G, published with 602 M "
        "parameters and 119 GFLOPs (a multiply-add is one): ours has {}. For CAT-M (261 M, 46 GFLOPs) we took some that "
        "fit its parameters: ours has {}.".format(*(size_of_generator(name) for name in IMAGENET[-2:]))
    )
    return table


def scaling() -> Table:
    """How much of a step is communication, with 128 images on each GPU and with 128 shared."""
    table = Table("A step on several H100s", ("preset", *(f"{count} GPUs" for count in GPU_COUNTS)))
    for name in SCALED:
        config = preset(name)
        generator, discriminator = model_costs(config.model)
        gradients = 4 * (generator.parameters + discriminator.parameters)
        compute, cells = 128 * step_flops(config) / (GPUS["H100"] * UTILISATION), []
        for count in GPU_COUNTS:
            sent = 2 * (count - 1) / count * gradients  # of a ring's all-reduce
            seconds = sent / next(rate for most, rate in LINKS.items() if count <= most)
            cells.append(" / ".join(f"{seconds / (seconds + time):.0%}" for time in (compute, compute / count)))
        table.add(f"`{name}`", *cells)
    table.remarks.append(
        "Share of the step's time in which gradients are sent (once, in float32), with 128 images on each GPU / shared. "
        "Over several machines give each GPU its own 128 images. Nothing needs ZeRO or FSDP: weights, gradients, moments "
        "and average of the largest preset, `imagenet256-gat-xl`, take 19 GB."
    )
    return table


def main(out: Path | None = None) -> None:
    """Prints the page, or writes it.

    Args:
        out: The Markdown file.
    """
    page = f"{INTRODUCTION}\n{measure()}\n{scaling()}"
    if out is None:
        print(page)
    else:
        out.write_text(page, "utf-8")


if __name__ == "__main__":
    tyro.cli(main)
