"""Run folders: how a configuration becomes a run, and how a run goes on."""

import re
from dataclasses import replace
from pathlib import Path

from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast_object_list

from vitgan.config import RunConfig
from vitgan.data.bundled import bundled_fashion_mnist
from vitgan.data.store import ImageStore
from vitgan.data.stream import ImageStream
from vitgan.errors import UserError
from vitgan.files import read_model, write_json
from vitgan.precision import choose_precision
from vitgan.training.checkpoint import latest_checkpoint, load_checkpoint
from vitgan.training.loop import Hooks, Trainer

BUNDLED_DATA = "fashion-mnist"


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
    cpu = config.training.device == "cpu"
    processes = PartialState(cpu=cpu)
    if config.training.batch_size % processes.num_processes:
        raise UserError(
            f"training.batch_size {config.training.batch_size} cannot be shared by {processes.num_processes} "
            "processes: choose a multiple"
        )
    run = Path(resume) if resume is not None else _new_run_on_all_processes(Path(out), config, processes)
    accelerator = make_accelerator(config, run)
    trainer = Trainer(config.model, config.objective, config.augment, config.training, accelerator, run)
    if resume is not None:
        restore(trainer, run, config)
    if accelerator.is_main_process:
        write_json(run / "config.json", config.model_dump(mode="json"))
    accelerator.init_trackers("tensorboard")
    hooks = with_evaluation(hooks or Hooks(), config, store, accelerator)
    stream = ImageStream(
        store, config.training.batch_size, config.training.seed, processes.process_index, processes.num_processes
    )
    trainer.fit(stream, hooks)
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return run


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
    """Puts a trainer where the newest whole checkpoint of a run left off.

    Raises:
        UserError: If there is none, or it is of another configuration.
    """
    check_resumable(run, config)
    checkpoint = latest_checkpoint(run)
    if checkpoint is None:
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


def new_run(out: Path, config: RunConfig) -> Path:
    """Makes `out`/00003-cifar10, numbered after the runs that are there.

    Raises:
        UserError: If the folder cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        numbers = [int(m.group(1)) for p in out.iterdir() if (m := re.match(r"(\d{5})-", p.name))]
        name = config.preset if config.data == BUNDLED_DATA or config.preset != "custom" else Path(config.data).name
        run = out / f"{max(numbers, default=-1) + 1:05d}-{name}"
        run.mkdir()
        write_json(run / "config.json", config.model_dump(mode="json"))
    except OSError as error:
        raise UserError(f"cannot make a run folder in {out}: {error.strerror}; choose another with --out") from error
    return run


def _new_run_on_all_processes(out: Path, config: RunConfig, processes: PartialState) -> Path:
    names = [str(new_run(out, config)) if processes.is_main_process else ""]
    return Path(broadcast_object_list(names)[0])


FREE_ON_RESUME = {
    "total_kimg",
    "max_minutes",
    "log_every_kimg",
    "samples_every_kimg",
    "checkpoint_every_kimg",
    "keep_checkpoints",
    "sample_count",
    "trackers",
    "device",
}
"""Fields of the training configuration that do not change the steps themselves."""


def config_of_run(run: Path) -> RunConfig:
    """A run's configuration.

    Raises:
        UserError: If the folder is no run.
    """
    if not run.is_dir():
        raise UserError(f"there is no run at {run}: `vitgan info` lists the runs")
    return read_model(run / "config.json", RunConfig, "run")


def check_resumable(run: Path, config: RunConfig) -> None:
    """Refuses to go on with another configuration than the run's own.

    Raises:
        UserError: Naming the first field that differs.
    """
    old = config_of_run(run).model_dump(mode="json")
    new = config.model_dump(mode="json")
    for section in ("data", "model", "objective", "augment", "training"):
        field = _first_difference(old[section], new[section], section)
        if field and field.removeprefix("training.") not in FREE_ON_RESUME:
            raise UserError(
                f"the run {run} has another configuration: {field} was set differently when it began; "
                "resume without changing it, or start a new run"
            )


def _first_difference(old: object, new: object, path: str) -> str | None:
    if isinstance(old, dict) and isinstance(new, dict):
        differences = (_first_difference(old.get(key), new.get(key), f"{path}.{key}") for key in old | new)
        found = [d for d in differences if d]
        fixed = [d for d in found if d.removeprefix("training.") not in FREE_ON_RESUME]
        return (fixed or found or [None])[0]
    return path if old != new else None
