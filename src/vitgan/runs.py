"""Run folders: how a configuration becomes a run, and how a run goes on."""

import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar, cast

from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast_object_list
from filelock import FileLock

from vitgan.commands import command
from vitgan.config import RunConfig
from vitgan.data.bundled import bundled_fashion_mnist
from vitgan.data.store import ImageStore
from vitgan.data.stream import ImageStream
from vitgan.errors import UserError
from vitgan.files import one_line, write_json
from vitgan.precision import choose_precision
from vitgan.run_folder import BUNDLED_DATA, DATA_RECORD, check_data, check_resumable, lock_run, new_run, record_of
from vitgan.training.checkpoint import (
    checkpoints,
    damaged_checkpoints,
    latest_checkpoint,
    load_checkpoint,
    prune_checkpoints,
    remove_leftovers,
    verify_checkpoint,
)
from vitgan.training.hooks import Hooks
from vitgan.training.loop import Trainer

LOST_PROCESS = re.compile(r"gloo|nccl|connection|peer|remote worker|timed out|timeout", re.IGNORECASE)
"""What messages of torch.distributed say when another process is gone or does not answer."""

Result = TypeVar("Result")


def train(
    config: RunConfig, out: str | Path = "runs", resume: str | Path | None = None, hooks: Hooks | None = None
) -> Path:
    """Trains a GAN.

    Args:
        config: What to train; see `vitgan.preset`.
        out: Folder in which a new numbered run folder is made.
        resume: A run folder to go on with instead, from its newest whole checkpoint. `config` must agree with the
            run's own in model, objective, augmentation, data and everything that an exact resume needs; its length and
            its intervals may differ.
        hooks: Callbacks for progress.

    Returns:
        The run folder.

    Raises:
        UserError: If the data, the folders or the checkpoint do not fit.
    """
    config.check()
    store = open_store(config)
    config = with_classes_of(store, config)
    if config.evaluate_every_kimg is not None:
        from vitgan.evaluation import check_evaluation

        check_evaluation(config, store)
    cpu = config.training.device == "cpu"
    processes = PartialState(cpu=cpu)
    if config.training.batch_size % processes.num_processes:
        raise UserError(
            f"training.batch_size {config.training.batch_size} cannot be shared by {processes.num_processes} "
            "processes: choose a multiple"
        )
    share = config.training.batch_size // processes.num_processes
    if share % (config.training.micro_batch_size or share):
        raise UserError(
            f"training.micro_batch_size {config.training.micro_batch_size} does not divide a process's share of the "
            f"batch, {share} images: choose a size that does"
        )
    run = _on_main_process(processes, lambda: Path(resume) if resume is not None else new_run(Path(out), config))
    with _errors_in_one_line(run, processes), _locked(run, processes):
        _train(run, config, store, resume is not None, hooks or Hooks(), processes)
    return run


def _train(
    run: Path, config: RunConfig, store: ImageStore, resumes: bool, hooks: Hooks, processes: PartialState
) -> None:
    if resumes:
        _on_main_process(processes, lambda: _make_resumable(run, config, store, hooks))
    accelerator = make_accelerator(config, run)
    trainer = Trainer(config.model, config.objective, config.augment, config.training, accelerator, run)
    if resumes:
        restore(trainer, run, config)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        write_json(run / DATA_RECORD, record_of(store).model_dump())
        write_json(run / "config.json", config.model_dump(mode="json"))
    accelerator.init_trackers("tensorboard")
    hooks = with_evaluation(hooks, config, store, accelerator)
    stream = ImageStream(
        store, config.training.batch_size, config.training.seed, processes.process_index, processes.num_processes
    )
    trainer.fit(stream, hooks)
    accelerator.wait_for_everyone()
    accelerator.end_training()


def _on_main_process(processes: PartialState, action: Callable[[], Result]) -> Result:
    """Does it on the main process only; all processes get its result, or its UserError."""
    outcome: list[Result | UserError | None] = [None]
    if processes.is_main_process:
        try:
            outcome = [action()]
        except UserError as error:
            outcome = [error]
    result = broadcast_object_list(outcome)[0]
    if isinstance(result, UserError):
        raise result
    return cast(Result, result)


@contextmanager
def _locked(run: Path, processes: PartialState) -> Iterator[None]:
    """The main process holds the run's lock meanwhile."""
    locks: list[FileLock] = []
    _on_main_process(processes, lambda: locks.append(lock_run(run)))
    try:
        yield
    finally:
        for lock in locks:
            lock.release()


@contextmanager
def _errors_in_one_line(run: Path, processes: PartialState) -> Iterator[None]:
    """A full disk, a folder that became read-only while the run writes its log, another process of the run that died."""
    try:
        yield
    except RuntimeError as error:
        if processes.num_processes == 1 or not LOST_PROCESS.search(str(error)):
            raise
        raise UserError(
            f"process {processes.process_index} of {processes.num_processes} lost another one "
            f"({one_line(str(error), 120)}): go on with the same command and --resume {shlex.quote(str(run))}"
        ) from error
    except OSError as error:
        newest = latest_checkpoint(run)
        raise UserError(
            f"the run {run} cannot go on: {error.strerror or error}{f' ({error.filename})' if error.filename else ''}; "
            f"mend that, then go on with `{command('train', '--resume', run)}` "
            f"(newest whole checkpoint: {newest.name if newest else 'none'})"
        ) from error


def _make_resumable(run: Path, config: RunConfig, store: ImageStore, hooks: Hooks) -> None:
    check_resumable(run, config)
    check_data(run, config, store)
    remove_leftovers(run)
    prune_checkpoints(run, config.training.keep_checkpoints)
    for problem in damaged_checkpoints(run):
        if hooks.on_notice:
            hooks.on_notice(f"passed over: {problem}")


def make_accelerator(config: RunConfig, run: Path) -> Accelerator:
    """Processes, device, precision and trackers."""
    cpu = config.training.device == "cpu"
    precision = choose_precision(config.training.precision, cpu)
    # accelerate keeps one state per process and refuses a second precision: a notebook may train twice.
    AcceleratorState._reset_state()
    return Accelerator(
        cpu=cpu, mixed_precision=precision, log_with=[*config.training.trackers] or None, project_dir=str(run)
    )


def restore(trainer: Trainer, run: Path, config: RunConfig) -> None:
    """Puts a trainer where the newest whole checkpoint of a run left off; at the start if it was killed before one.

    Raises:
        UserError: If there is none, it is damaged, or of another configuration.
    """
    check_resumable(run, config)
    checkpoint = latest_checkpoint(run)
    if checkpoint is None and not checkpoints(run) and (run / DATA_RECORD).exists():
        return  # killed before its first checkpoint: its first steps are done again
    if checkpoint is None:
        for newest in reversed(checkpoints(run)):
            verify_checkpoint(newest)  # says what is wrong with it
        raise UserError(f"the run {run} has no whole checkpoint to resume from: start it anew without --resume")
    load_checkpoint(checkpoint, trainer.state)


def with_classes_of(store: ImageStore, config: RunConfig) -> RunConfig:
    """A conditional model gets as many classes as the store has; one that has its number keeps it.

    Raises:
        UserError: If the model is conditional and the store has no labels, or more classes than the model.
    """
    model = config.model
    if not model.conditional and not model.num_classes:
        return config
    if store.labels is None:
        raise UserError(
            f"the model is conditional, but the images in {config.data} have no labels: prepare them with labels"
        )
    classes = model.num_classes or store.label_count
    if store.label_count > classes:
        raise UserError(f"the images in {config.data} have {store.label_count} classes, the model {classes}")
    model = model.model_copy(update={"conditional": True, "num_classes": classes})
    return config.model_copy(update={"model": model})


def with_evaluation(hooks: Hooks, config: RunConfig, store: ImageStore, accelerator: Accelerator) -> Hooks:
    """The hooks, with the evaluation that the configuration asks for."""
    if config.evaluate_every_kimg is None:
        return hooks
    measure = None
    if accelerator.is_main_process:
        from vitgan.evaluation import evaluation_of_run

        measure = evaluation_of_run(config, store, accelerator.device)
    return replace(hooks, evaluate=measure, evaluate_every_kimg=config.evaluate_every_kimg)


def open_store(config: RunConfig) -> ImageStore:
    """The images that a run trains on.

    Raises:
        UserError: If there is no store, or its images do not fit the model.
    """
    store = bundled_fashion_mnist() if config.data == BUNDLED_DATA else ImageStore.open(config.data)
    found = f"{store.channels} channel(s) of {store.resolution}×{store.resolution}"
    if (store.channels, store.resolution) != (config.model.channels, config.model.resolution):
        raise UserError(
            f"the images in {config.data} have {found} pixels, the model expects {config.model.channels} of "
            f"{config.model.resolution}×{config.model.resolution}: prepare them with `vitgan data ... --resolution "
            f"{config.model.resolution} --channels {config.model.channels}`, or set --model.resolution and --model.channels"
        )
    return store
