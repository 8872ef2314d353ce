"""What to do when the memory of a device does not suffice for a step."""

from pathlib import Path

from vitgan.config import RunConfig, changed
from vitgan.errors import ProcessError, UserError, command, one_line
from vitgan.runs.folder import DATA_RECORD

SIZES = ("batch_size", "micro_batch_size", "checkpoint_activations")
"""What decides how much a step takes."""


def out_of_memory(error: BaseException, run: Path, config: RunConfig, share: int) -> ProcessError:
    """The line for what needs more memory than there is: the command that goes on with less.

    Before the first step there is nothing to go on with, and no size of a batch makes networks smaller.
    """
    reason = one_line(str(error), 120)
    if not (run / DATA_RECORD).exists():
        advice = "choose a smaller model; `--dry-run` says what one needs"
        return ProcessError(f"the memory does not suffice for G, D and their optimisers ({reason}): {advice}", "model")
    training = config.training
    ways: list[tuple[str, ...]] = [("--training.device", "cpu")]
    if not training.checkpoint_activations:
        ways.insert(0, ("--training.no-cuda-graphs" if training.cuda_graphs else "--training.checkpoint-activations",))
    if (smaller := smaller_micro_batch(config, share)) is not None:
        ways.insert(0, ("--training.micro-batch-size", str(smaller)))
    alternatives = "".join(f", or with {' '.join(way)}" for way in ways[1:])
    sizes = ", ".join(f"{name} {getattr(training, name)}" for name in SIZES)
    return ProcessError(
        f"the memory does not suffice for {training.micro_batch_size or share} images at once ({sizes}; {reason}): go on "
        f"with `{command('train', '--resume', run, *ways[0])}`{alternatives}",
        "training.batch_size",
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
