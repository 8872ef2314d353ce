"""Runs the rows of a suite one after the other; what is done stays done."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from vitgan.ablation.suites import Suite
from vitgan.config import RunConfig
from vitgan.data.store import ImageStore
from vitgan.errors import UserError
from vitgan.files import check_writable, read_model, user_error, write_json
from vitgan.metrics.protocol import find_protocol
from vitgan.presets import replaced
from vitgan.runs.folder import change_of_run, config_of_run, data_record, open_data
from vitgan.runs.train import check_run, train
from vitgan.schema import Config
from vitgan.training.checkpoint import latest_checkpoint, read_manifest
from vitgan.training.clock import Clock
from vitgan.training.guard import Diverged
from vitgan.training.hooks import Hooks
from vitgan.training.log import is_evaluation, read_metrics

PLAN, DIVERGED = "plan.json", "diverged.json"


class Plan(Config):
    """What an ablation's folder is about; written to plan.json, and the same when it goes on."""

    suite: str
    kimg: float | None = None
    """Budget of a run in thousands of images."""
    minutes: float | None = None
    """Budget in minutes of training."""
    cpu_minutes: float | None = None
    """Budget in minutes of the processor; the first budget that is used up ends the run."""
    evaluate_every_kimg: float
    seeds: tuple[int, ...] = (0,)
    base: RunConfig
    measured_by: str = Field(default_factory=lambda fields: identity_of(fields.get("base")))
    """The base's protocol with a digest of its fields, if it is a file: scores by other fields are not compared."""

    @model_validator(mode="after")
    def _has_an_end(self) -> Self:
        if self.kimg is None and self.minutes is None and self.cpu_minutes is None:
            raise UserError("an ablation needs a budget for each run: kimg, minutes or cpu_minutes", "kimg")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise UserError(f"seeds {self.seeds} must be one or more different numbers", "seeds")
        return self

    @property
    def budget(self) -> str:
        """All budgets, in words."""
        units = ((self.kimg, "thousand images"), (self.minutes, "minutes"), (self.cpu_minutes, "CPU minutes"))
        return " or ".join(f"{value:g} {unit}" for value, unit in units if value is not None)


def identity_of(base: RunConfig | None) -> str:
    """The identity of its protocol; none of a base that was refused."""
    return find_protocol(base.protocol).identity if base else ""


@dataclass(frozen=True)
class Member:
    """A run of the table: a row with a seed."""

    row: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.row} (seed {self.seed})"

    def folder(self, ablation: Path) -> Path:
        """Where its run folder is made."""
        return ablation / self.row / f"seed-{self.seed}"


def members(suite: Suite, plan: Plan) -> list[Member]:
    """All runs in order: every row with the first seed, then with the next, so that an early report is a whole one."""
    return [Member(row, seed) for seed in plan.seeds for row in suite.rows]


def run_suite(
    suite: Suite,
    plan: Plan,
    folder: Path,
    hooks_for: Callable[[str, RunConfig], Hooks] = lambda row, config: Hooks(),
    stopped: Callable[[], bool] = lambda: False,
) -> bool:
    """Trains every row of a suite with every seed at the plan's budget, each in `folder`/<row>/seed-<seed>.

    Args:
        suite: The table.
        plan: Budget, seeds, protocol and base configuration.
        folder: Where the runs are; those that are finished there are passed over, an unfinished one goes on. One that
            diverges is given up, and the next begins.
        hooks_for: Callbacks for the progress of a run, by its name.
        stopped: Whether to leave after the run at hand has been saved.

    Returns:
        Whether all runs are finished or have diverged.

    Raises:
        UserError: If the folder holds another ablation, its runs were trained on other images or as other rows, or a row
            cannot be made of the base or cannot train. Then nothing is written.
    """
    check_place(folder, plan)
    store = open_data(plan.base.data)  # first: counting the FLOPs of some rows takes long
    configs = configurations(suite, plan)
    _check_members(configs, plan, folder, store)
    advice = "choose another folder"
    with user_error(f"cannot write the ablation {folder}", OSError, advice=advice, parameter="out"):
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / PLAN, plan.model_dump(mode="json"))
    for member, config in configs.items():
        if stopped():
            return False
        run = run_of_member(folder, member)
        if run is not None and is_finished(run, config):
            (run / DIVERGED).unlink(missing_ok=True)  # somebody has resumed it in another way
            continue
        if run is not None and divergence_of(run) is not None:
            continue
        _train(member, config, folder, hooks_for(member.name, config))
    return not stopped()


def _train(member: Member, config: RunConfig, folder: Path, hooks: Hooks) -> None:
    """Trains a run to its end, or until it diverges: it would do so again, so this is written beside its log."""
    run = run_of_member(folder, member)
    try:
        if run is not None and latest_checkpoint(run) is not None:
            train(config, resume=run, hooks=hooks)
        else:
            train(config, out=member.folder(folder), hooks=hooks)
    except Diverged as error:
        run = run_of_member(folder, member)
        assert run is not None  # it has made a step
        write_json(run / DIVERGED, DivergenceRecord(reason=str(error)).model_dump())
        hooks.on_notice(str(error))


class DivergenceRecord(Config):
    """What the diverged.json of an ablation's run holds."""

    reason: str


def divergence_of(run: Path) -> str | None:
    """Why a run of an ablation was given up; None if it was not."""
    if not (run / DIVERGED).exists():
        return None
    return read_model(run / DIVERGED, DivergenceRecord, "record of a divergence").reason


def check_place(folder: Path, plan: Plan) -> None:
    """Refuses a folder that is neither new nor empty nor this very ablation's.

    Raises:
        UserError: If it holds anything else, or cannot be written.
    """
    if (folder / PLAN).exists():
        made = read_model(folder / PLAN, Plan, "ablation")
        if made.measured_by != plan.measured_by:
            reason = f"{folder} was measured by {made.measured_by}, and the protocol is {plan.measured_by} now"
            raise UserError(f"{reason}: choose another folder, or give the protocol as it was", "protocol")
        if made != plan:
            raise UserError(f"{folder} holds another ablation (see {PLAN} in it): choose another folder", "out")
    elif not os.path.lexists(folder):
        check_writable(folder, "the ablation ")
    elif not folder.is_dir() or any(folder.iterdir()):
        raise UserError(f"{folder} is no ablation's folder (it has no {PLAN}): choose a new one", "out")


def _check_members(configs: dict[Member, RunConfig], plan: Plan, folder: Path, store: ImageStore) -> None:
    """Refuses runs that were trained otherwise than they would be now, and rows that cannot train."""
    for member, config in configs.items():
        run = run_of_member(folder, member)
        if run is not None:
            _check_data(run, plan, store)
        if run is not None and (latest_checkpoint(run) is not None or divergence_of(run) is not None):
            _check_unchanged(run, member, config)
        elif member.seed == plan.seeds[0]:
            with user_error(f"row {member.row} of base {plan.base.preset} cannot train", UserError):
                check_run(config)


def _check_data(run: Path, plan: Plan, store: ImageStore) -> None:
    """Rows are compared, so all train on the same images, from wherever the ablation goes on."""
    record = data_record(run)
    if record is not None and (difference := record.difference(store)) is not None:
        raise UserError(
            f"the store {plan.base.data} holds {difference}, not those of {run}: go on in the folder where the ablation "
            "began, or begin another",
            "out",
        )


def check_runs(suite: Suite, plan: Plan, folder: Path) -> None:
    """Refuses to report runs that were trained otherwise than their rows say now; needs no images.

    Raises:
        UserError: If there is such a run.
    """
    for member, config in configurations(suite, plan).items():
        if (run := run_of_member(folder, member)) is not None:
            _check_unchanged(run, member, config)


def _check_unchanged(run: Path, member: Member, config: RunConfig) -> None:
    """What a run measured is its own row's, also if it is finished. Its classes and VAE are those of its images."""
    trained, model = config_of_run(run).model, config.model
    of_images = {name: getattr(trained, name) for name in ("class_counts", "class_names", "vae")}
    num_classes = model.num_classes or (trained.num_classes if model.conditional else 0)
    model = model.model_copy(update=of_images | {"num_classes": num_classes})
    if (change := change_of_run(run, config.model_copy(update={"model": model}))) is not None:
        field, before, now = change
        raise UserError(
            f"row {member.row} is another than that of {run}: {field} was {before} and is {now}; choose another folder",
            "out",
        )


def configurations(suite: Suite, plan: Plan) -> dict[Member, RunConfig]:
    """The configuration of every run, in order: its row's, with its seed, the plan's budget and evaluations.

    Raises:
        UserError: If a row cannot be made of the base.
    """
    rows = {row: _of_base(suite, row, plan.base) for row in suite.rows}
    return {member: _budgeted(rows[member.row], plan, member.seed) for member in members(suite, plan)}


def _of_base(suite: Suite, row: str, base: RunConfig) -> RunConfig:
    try:
        return suite.rows[row](base)
    except UserError as error:
        reason = f"row {row} of suite {suite.name} cannot be made of base {base.preset}: {error}"
        raise UserError(f"{reason}; choose another base, or only other rows", "base") from error


def _budgeted(config: RunConfig, plan: Plan, seed: int) -> RunConfig:
    training = replaced(
        config.training,
        seed=seed,
        total_kimg=config.training.total_kimg if plan.kimg is None else plan.kimg,
        max_minutes=plan.minutes,
        max_cpu_minutes=plan.cpu_minutes,
    )
    return replaced(config, training=training, evaluate_every_kimg=plan.evaluate_every_kimg)


def run_of_member(folder: Path, member: Member) -> Path | None:
    """The newest run folder of a member."""
    runs = sorted(p.parent for p in member.folder(folder).glob("*/config.json"))
    return runs[-1] if runs else None


def is_finished(run: Path, config: RunConfig) -> bool:
    """Whether a run has used up one of its budgets, and was evaluated then."""
    checkpoint = latest_checkpoint(run)
    if checkpoint is None:
        return False
    records = read_metrics(run / "metrics.jsonl")
    if not records or not is_evaluation(records[-1]):
        return False  # stopped before its last evaluation
    training, reached = config.training, read_manifest(checkpoint)
    clock = Clock(reached.wall_seconds, reached.cpu_seconds)
    over = clock.spent(training.max_minutes, training.max_cpu_minutes) >= 1
    return over or reached.images_seen >= training.total_kimg * 1000
