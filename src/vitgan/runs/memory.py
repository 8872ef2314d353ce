"""What to do when the memory of a device does not suffice for a step."""

import re
from pathlib import Path

import torch

from vitgan.commands import command
from vitgan.config import RunConfig, changed
from vitgan.errors import ProcessError, UserError
from vitgan.files import one_line
from vitgan.runs.folder import DATA_RECORD

ALLOCATION_FAILED = re.compile(r"DefaultCPUAllocator|out of memory|ALLOC_FAILED", re.IGNORECASE)
"""What torch says where an allocation failed that is no `torch.OutOfMemoryError`: on a CPU, on MPS, or inside a library."""


def lacks_memory(error: BaseException) -> bool:
    """Whether an allocation failed."""
    kinds = (torch.OutOfMemoryError, MemoryError)
    return isinstance(error, kinds) or (
        isinstance(error, RuntimeError) and ALLOCATION_FAILED.search(str(error)) is not None
    )


def out_of_memory(error: BaseException, run: Path, config: RunConfig, share: int) -> ProcessError:
    """The line for what needs more memory than there is: options that the configuration allows, and the command.

    Before the first step there is nothing to go on with, and no size of a batch makes networks smaller.

    Args:
        error: What was raised.
        run: The run's folder.
        config: The run's.
        share: Images of a batch that one process has.
    """
    training = config.training
    if not (run / DATA_RECORD).exists():
        return ProcessError(
            f"the memory does not suffice for G, D and their optimisers ({one_line(str(error), 120)}): choose a smaller "
            "model; `--dry-run` says what one needs",
            "model",
        )
    micro = training.micro_batch_size or share
    ways: dict[str, tuple[str, ...]] = {}
    if (smaller := smaller_micro_batch(config, share)) is not None:
        ways["micro_batch_size"] = "--training.micro-batch-size", str(smaller)
    if training.cuda_graphs:
        ways["cuda_graphs"] = ("--training.no-cuda-graphs",)
    elif not training.checkpoint_activations:
        ways["checkpoint_activations"] = ("--training.checkpoint-activations",)
    first, *others = ways.values() or [("--training.device", "cpu")]
    alternative = f", or with {' '.join(others[0])}" if others else ""
    return ProcessError(
        f"the memory does not suffice for {micro} images at once (batch_size {training.batch_size}, micro_batch_size "
        f"{training.micro_batch_size}, checkpoint_activations {training.checkpoint_activations}; "
        f"{one_line(str(error), 120)}): go on with `{command('train', '--resume', run, *first)}`{alternative}",
        f"training.{next(iter(ways), 'device')}",
    )


def smaller_micro_batch(config: RunConfig, share: int) -> int | None:
    """The next smaller size of micro-batches that makes the same update; None if the configuration has none."""
    micro = config.training.micro_batch_size or share
    for size in range(micro // 2, 0, -1):
        try:
            changed(config, {"training.micro_batch_size": size}).check_share(share)
        except UserError:
            continue
        return size
    return None
