"""What the paper's rows would take on GPUs: counted FLOPs, bytes and memory, an assumed utilisation. Nothing is run.

`python -m benchmarks.at_scale --out docs/results/at-scale.md`
"""

from pathlib import Path

import tyro

from benchmarks.flops import step_flops
from benchmarks.table import Table
from vitgan.config import RunConfig
from vitgan.models.costs import generator_costs, model_costs
from vitgan.presets import OWN_PRESETS, PAPER_SIZES, VARIANTS, preset

GPUS = {"A100": 312e12, "H100": 989e12}
"""Dense bf16 FLOPs a second, from the vendor's data sheets."""
UTILISATION = 0.25
"""Of that rate, assumed: tokens are 384 wide, which is narrow for such GPUs. Not measured."""

LINKS = {8: 450e9, 64: 50e9}
"""Bytes a second that a GPU sends: H100s of one machine by NVLink, of several by 400 Gbit/s each; from data sheets."""
GPU_COUNTS = (1, 2, 4, 8, 16, 32, 64)
IMAGENET = [name for name in OWN_PRESETS if name.startswith("imagenet256")]
SCALED = ("cifar10", "lsun128", "lsun256")

INTRODUCTION = f"""# The paper's rows on GPUs

**Not yet run.** Nothing on this page is a result. It says which commands make the paper's rows, and what they should take.
The first hour on a GPU is prepared, and tested on a CPU: `python -m benchmarks.first_hour --data data/cifar10`, called until
all is done, 9 minutes each time, makes what shall be docs/results/gpu.md.

| what | how it is known |
| --- | --- |
| FLOPs, activations | counted by torch |
| share of the peak rate | {UTILISATION:.0%}, assumed |
| length | 25 million images, our choice: the paper states none that we know of; `imagenet256`: GAT-XL's and CAT-M's epochs |

```bash
vitgan data cifar10 --out data/cifar10                                  # the other data sets: docs/data.md
vitgan train cifar10 --evaluate-every-kimg 500                          # one GPU
torchrun --nproc_per_node 8 -m vitgan train cifar10 --evaluate-every-kimg 500    # eight; the batch of 128 is shared
torchrun --nnodes 2 --nproc_per_node 8 --rdzv_backend c10d --rdzv_endpoint HOST:29500 -m vitgan train lsun128
vitgan evaluate runs/00000-cifar10 --protocol cifar10-train-50k         # the metrics that papers report
```

`--training.total-kimg 200` shows the real rate before anything long is started. Where memory is short:
[large batches in small memory](../training.md#large-batches-in-small-memory).
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


def measure() -> Table:
    """All paper-sized presets."""
    columns = ("preset", "M parameters, G + D", "GFLOPs an image", *(f"hours, 1 {gpu}" for gpu in GPUS))
    table = Table("What a row takes", (*columns, "GiB a GPU, 1 / 8 GPUs"))
    for size in (size for size in PAPER_SIZES if size != "lsun64"):
        for name in (size, *(f"{size}-{variant}" for variant in VARIANTS)):
            table.add(*row(name))
    for name in IMAGENET:
        table.add(*row(name))
    table.remarks.append(
        "`lsun64` and its variants take what `celeba64` takes. The hours are a lower bound: at 32×32 small kernels keep no "
        "large GPU busy, and eight GPUs take an eighth at best. GFLOPs are of one D and one G update per real image (a "
        "multiply-add is two). Memory leaves out the allocator's reserve. `imagenet256` presets train on latents, GAT "
        "for 60 epochs and CAT for 40; the VAE, which encodes once and decodes samples, is left out."
    )
    return table


def published() -> Table:
    """G alone, beside models whose counts others publish."""
    table = Table("GAT and CAT: G against its published size", ("model", "published", "ours", "how"))
    dit = "28 blocks, 1152 wide, 16 heads: DiT-XL's, which fit; GAT's are not known to us"
    cat = "20 blocks, 896 wide, 14 heads: the parameters fit, the FLOPs are 13% more; CAT's sizes are not known to us"
    for model, size, name, how in (
        ("GAT-XL/2", "602 M, 119 GFLOPs", "imagenet256-gat-xl", dit),
        ("CAT-M/2", "261 M, 46 GFLOPs", "imagenet256-cat-m", cat),
    ):
        costs = generator_costs(preset(name).model.generator_spec())
        table.add(model, size, f"{costs.parameters / 1e6:.0f} M, {costs.flops_per_image / 2e9:.1f} GFLOPs", how)
    table.add("CAT-H/2", "960 M, 167 GFLOPs", "-", "no preset")
    table.remarks.append(
        "A multiply-add is one here, as there. CAT publishes fewer FLOPs a parameter than any width and depth of GAT's G "
        "has on 256 tokens: perhaps its first stages have fewer tokens. In ours every block has all of them."
    )
    return table


def scaling() -> Table:
    """Computation and communication of a step on 1 to 64 H100s, the batch of 128 shared or 128 images on each."""
    columns = ("preset", "GPUs", "MB sent by each", "ms for it", "ms to compute, 128 on each", "sending", "128 shared")
    table = Table("A step on several H100s", (*columns, "sending"))
    for name in SCALED:
        config = preset(name)
        generator, discriminator = model_costs(config.model)
        gradients = 4 * (generator.parameters + discriminator.parameters)
        compute = 128 * step_flops(config) / (GPUS["H100"] * UTILISATION)
        for count in GPU_COUNTS:
            sent = 2 * (count - 1) / count * gradients  # of a ring's all-reduce
            seconds = sent / next(rate for most, rate in LINKS.items() if count <= most)
            row = f"`{name}`", str(count), f"{sent / 1e6:.0f}", f"{seconds * 1e3:.2f}"
            times = (compute, compute / count)
            table.add(*row, *(cell for t in times for cell in (f"{t * 1e3:.1f}", f"{seconds / (seconds + t):.0%}")))
    table.remarks.append(
        "A step sends the gradients of G and of D once, in float32, after each backward pass, so that nothing of it is "
        f"hidden. Rates are data sheets' ({UTILISATION:.0%} of the products', all of the links'). On one machine sending "
        "takes 3% at most with 128 images on each GPU, and 22% of `cifar10` with 16. Over several machines give each GPU "
        "its own 128 images. Nothing needs ZeRO or FSDP: weights, gradients, moments and average of the largest preset take "
        "1.1 GB."
    )
    return table


def main(out: Path | None = None) -> None:
    """Prints the page, or writes it.

    Args:
        out: The Markdown file.
    """
    page = f"{INTRODUCTION}\n{measure()}\n{scaling()}\n{published()}"
    if out is None:
        print(page)
    else:
        out.write_text(page, "utf-8")


if __name__ == "__main__":
    tyro.cli(main)
