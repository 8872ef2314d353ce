"""What a run does after a bad update: end, go on, or go back to a checkpoint with lower learning rates."""

from pathlib import Path

from torch import Tensor

from vitgan.commands import command
from vitgan.errors import UserError
from vitgan.training.checkpoint import latest_checkpoint
from vitgan.training.config import TrainingConfig
from vitgan.training.guard import Divergence
from vitgan.training.instruments import measure
from vitgan.training.log import append_event
from vitgan.training.state import TrainingState

MOST_SKIPPED_IN_A_ROW = 100
MOST_ROLLBACKS = 6


def describe(divergence: Divergence, config: TrainingConfig) -> str:
    """Where and why, in a few words."""
    return f"step {divergence.step} diverged ({divergence.reason}; seed {config.seed})"


def checkpoint_to_return_to(
    divergence: Divergence, state: TrainingState, config: TrainingConfig, run: Path
) -> Path | None:
    """The checkpoint to go back to if the configuration wants that; None to go on without the bad update.

    Raises:
        UserError: If the run is to stop, or cannot go on.
    """
    where = describe(divergence, config)
    resume = f"`{command('train', '--resume', run, '--training.on-divergence')}"
    if config.on_divergence == "stop":
        raise UserError(f"{where}; see events.jsonl, and go on with {resume} rollback` or skip")
    if config.on_divergence == "skip":
        if divergence.in_a_row >= MOST_SKIPPED_IN_A_ROW:
            raise UserError(f"{where}, and so did the {divergence.in_a_row} last ones: go back with {resume} rollback`")
        return None
    checkpoint = latest_checkpoint(run)
    scale = state.learning_rate_scale * config.rollback_rate
    if checkpoint is None or scale < config.rollback_rate ** (MOST_ROLLBACKS + 0.5):
        raise UserError(f"{where}, and going back {MOST_ROLLBACKS} times to lower learning rates did not help")
    return checkpoint


def record(divergence: Divergence, state: TrainingState, config: TrainingConfig, run: Path, real: Tensor) -> None:
    """Appends all that is needed to look into it to the run's events.jsonl."""
    event = {
        "event": "divergence",
        "policy": config.on_divergence,
        "step": divergence.step,
        "batch_seed": [config.seed, divergence.step],
        "skipped_steps": divergence.steps,
        "learning_rate_scale": state.learning_rate_scale,
        "figures": {name: f"{value:.6g}" for name, value in divergence.figures.items()},
        "instruments": {name: f"{value:.6g}" for name, value in measure(state.discriminator, real).items()},
    }
    append_event(run / "events.jsonl", event)
