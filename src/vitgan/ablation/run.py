"""Runs the rows of a suite one after the other; what is done stays done."""

from collections.abc import Callable
from pathlib import Path

from vitgan.ablation.suites import Suite
from vitgan.config import RunConfig
from vitgan.errors import UserError
from vitgan.files import read_model, write_json
from vitgan.presets import replaced
from vitgan.run_folder import check_resumable
from vitgan.runs import train
from vitgan.schema import Config
from vitgan.training.checkpoint import latest_checkpoint
from vitgan.training.hooks import Hooks
from vitgan.training.log import read_metrics


class Plan(Config):
    """What an ablation's folder is about; written to plan.json, and the same when it goes on."""

    suite: str
    kimg: float | None
    minutes: float | None
    evaluations: int
    base: RunConfig


def run_suite(
    suite: Suite,
    plan: Plan,
    folder: Path,
    hooks_for: Callable[[str, RunConfig], Hooks] = lambda row, config: Hooks(),
    stopped: Callable[[], bool] = lambda: False,
) -> bool:
    """Trains every row of a suite at the plan's budget, each in `folder`/<row>.

    Args:
        suite: The table.
        plan: Budget, protocol and base configuration.
        folder: Where the runs are; rows that are finished there are passed over, an unfinished one goes on.
        hooks_for: Callbacks for the progress of a row.
        stopped: Whether to leave after the row at hand has been saved.

    Returns:
        Whether all rows are finished.

    Raises:
        UserError: If the folder holds another ablation.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "plan.json"
    if path.exists() and read_model(path, Plan, "ablation") != plan:
        raise UserError(f"{folder} holds another ablation (see plan.json in it): choose another folder with --out")
    write_json(path, plan.model_dump(mode="json"))
    for name, row in suite.rows.items():
        if stopped():
            return False
        config = row_config(row(plan.base), plan)
        run = run_of_row(folder, name)
        if run is not None and is_finished(run, config, plan):
            continue
        hooks = hooks_for(name, config)
        if run is not None and latest_checkpoint(run) is not None:
            check_resumable(run, config)
            train(with_time_left(config, run, plan), resume=run, hooks=hooks)
        else:
            train(config, out=folder / name, hooks=hooks)
    return not stopped()


def row_config(config: RunConfig, plan: Plan) -> RunConfig:
    """A row's configuration with the plan's budget and evaluations."""
    total = plan.kimg if plan.kimg is not None else config.training.total_kimg
    training = replaced(config.training, total_kimg=total, max_minutes=plan.minutes)
    return replaced(config, training=training, evaluate_every_kimg=total / plan.evaluations)


def run_of_row(folder: Path, name: str) -> Path | None:
    """The newest run folder of a row."""
    runs = sorted(p.parent for p in (folder / name).glob("*/config.json"))
    return runs[-1] if runs else None


def is_finished(run: Path, config: RunConfig, plan: Plan) -> bool:
    """Whether a row's run has used up its budget."""
    if latest_checkpoint(run) is None:
        return False
    records = read_metrics(run / "metrics.jsonl")
    images = records[-1]["images"] if records else 0
    return images >= config.training.total_kimg * 1000 or (
        plan.minutes is not None and minutes_spent(run) >= plan.minutes - 0.05
    )


def minutes_spent(run: Path) -> float:
    """Minutes of training that a run's log accounts for."""
    minutes, before = 0.0, 0.0
    for record in read_metrics(run / "metrics.jsonl"):
        if "images_per_second" in record:
            minutes += (record["images"] - before) / max(record["images_per_second"], 1e-9) / 60
            before = record["images"]
    return minutes


def with_time_left(config: RunConfig, run: Path, plan: Plan) -> RunConfig:
    """The configuration with what is left of the plan's minutes."""
    if plan.minutes is None:
        return config
    left = max(plan.minutes - minutes_spent(run), 0.05)
    return replaced(config, training=replaced(config.training, max_minutes=left))
