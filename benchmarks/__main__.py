"""`make bench`: training steps and sampling, as shares of this machine's own matrix multiplication rate in the same run."""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from vitgan.config import RunConfig
from vitgan.models.costs import model_costs
from vitgan.precision import computes_bf16
from vitgan.presets import preset, replaced
from vitgan.training.loop import Trainer
from vitgan.training.randomness import StepRandomness

ROWS = (("quickstart", 32), ("cifar10-tiny", 32), ("cifar10", 16))


def seconds(work: Callable[[], object], repeats: int) -> float:
    """The fastest of `repeats` runs, after one that does not count."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def matrix_rate(dtype: torch.dtype) -> float:
    """FLOPs a second of a matrix product of a step's shape: 4096 tokens, 384 -> 1536."""
    a, b = torch.randn(4096, 384, dtype=dtype), torch.randn(384, 1536, dtype=dtype)
    return 2 * 4096 * 384 * 1536 / seconds(lambda: a @ b, 20)


def step_flops(config: RunConfig, batch_size: int) -> float:
    """FLOPs of one D and G update: a backward pass costs twice its forward pass, once where only inputs need gradients."""
    generator, discriminator = (cost.flops_per_image for cost in model_costs(config.model))
    views = 4 if config.objective.bcr_real or config.objective.r1_gamma else 2
    real = discriminator if config.objective.loss == "relativistic" else 0
    return batch_size * (generator + 3 * views * discriminator + 3 * generator + 2 * discriminator + real)


def main() -> None:
    """Prints the table."""
    precisions = {"float32": torch.float32}
    if computes_bf16(cpu=True):
        precisions["bf16"] = torch.bfloat16
    print(
        f"{torch.get_num_threads()} threads, torch {torch.__version__}; shares are of the matrix rate in the same run"
    )
    print("preset         precision matrix GFLOP/s  step images/s  share  sample/s  share")
    for name, batch_size in ROWS:
        for precision, dtype in precisions.items():
            rate = matrix_rate(dtype)
            config = preset(name)
            training = replaced(config.training, batch_size=batch_size, precision=precision, trackers=())
            steps, samples = rates(replaced(config, training=training), "bf16" if precision == "bf16" else "no")
            share = steps * step_flops(config, 1) / rate
            sampling = samples * model_costs(config.model)[0].flops_per_image / rate
            print(
                f"{name:<14} {precision:<9} {rate / 1e9:>14.0f} {steps:>14.1f} {share:>6.0%} "
                f"{samples:>9.0f} {sampling:>6.0%}",
                flush=True,
            )


def rates(config: RunConfig, mixed_precision: str) -> tuple[float, float]:
    """(images per second of training steps, images per second of sampling)."""
    AcceleratorState._reset_state()
    accelerator = Accelerator(cpu=True, mixed_precision=mixed_precision)
    folder = Path(tempfile.gettempdir())
    trainer = Trainer(config.model, config.objective, config.augment, config.training, accelerator, folder)
    batch_size, size = config.training.batch_size, config.model.resolution
    real = torch.rand(batch_size, config.model.channels, size, size) * 2 - 1
    counted = iter(range(sys.maxsize))
    step = seconds(lambda: trainer.step(real, None, StepRandomness(0, next(counted))), 5)
    with accelerator.autocast():
        sample = seconds(lambda: trainer.state.generator_ema.sample(64), 3)
    return batch_size / step, 64 / sample


if __name__ == "__main__":
    main()
