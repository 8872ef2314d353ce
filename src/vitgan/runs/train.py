"""How a configuration becomes a run, and how a run goes on."""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.tracking import TensorBoardTracker

from vitgan.config import RunConfig, flat
from vitgan.data.download import cache_folder
from vitgan.data.store import ImageStore
from vitgan.data.stream import ImageStream
from vitgan.devices import choose_precision, lacks_memory, true_convolutions, usual_torch
from vitgan.errors import ProcessError, UserError, command, one_line
from vitgan.files import write_json
from vitgan.frozen.vae import load_decoder
from vitgan.models.build import build_discriminator, build_generator
from vitgan.presets import preset, replaced
from vitgan.pretrained.generators import locate_networks
from vitgan.pretrained.names import WEIGHTS
from vitgan.pretrained.transfer import start_from
from vitgan.runs.folder import (
    DATA_RECORD,
    check_resumable,
    check_unaltered,
    data_of_run,
    lock_run,
    new_run,
    open_data,
    record_of,
)
from vitgan.runs.images import holds_images_to_prepare, with_images
from vitgan.runs.memory import out_of_memory
from vitgan.runs.notebook import in_notebook, notebook_hooks
from vitgan.runs.processes import all_alive, join_processes, on_every_process, on_main_process
from vitgan.training.checkpoint import checkpoints, latest_checkpoint, load_newest
from vitgan.training.compiler import check_compiler
from vitgan.training.hooks import Hooks
from vitgan.training.loop import Trainer
from vitgan.training.retention import remove_leftovers
from vitgan.training.trackers import PROJECT, check_trackers, tell_configuration, tracker_options


@usual_torch()
def train(
    config: RunConfig | str,
    out: str | Path = "runs",
    resume: str | Path | None = None,
    hooks: Hooks | None = None,
    *,
    data: Any = None,
    folder: str | Path | None = None,
) -> Path:
    """Trains a GAN.

        vitgan.train("quickstart", data="my_photos")
        vitgan.train(vitgan.preset("cifar10-tiny-modern", **{"training.total_kimg": 50}), data=array)

    Args:
        config: What to train: a preset's name, or a configuration; see `vitgan.preset`.
        out: Folder in which a new numbered run folder is made.
        resume: A run folder to go on with instead, from its newest whole checkpoint. `config` must agree with the
            run's own in model, objective, augmentation, data and everything that an exact resume needs; its length and
            its intervals may differ.
        hooks: Callbacks for progress; default in a notebook: a line and the newest images below the cell; else notices on
            stderr.
        data: Images to train on, in place of the configuration's: a store, a folder of images, an array (N, H, W, C) or a
            tensor (N, C, H, W), uint8 or floating point in [0, 1], a pair of these and labels (N,), a data set of torch's
            or Hugging Face's, or a `Source` (`vitgan.data.sources.source`). They are cropped and resized to the model's
            resolution and kept in `out`/data; the model's channels become theirs.
        folder: The run's own folder, in place of a new one in `out`: begin there, or resume what is there. The same call may
            so be made again by whatever starts a job anew.

    Returns:
        The run folder.

    Raises:
        UserError: If the data, the folders or the checkpoint do not fit.
    """
    settings = preset(config) if isinstance(config, str) else config
    if not isinstance(settings, RunConfig):
        raise UserError(
            f"config must be a preset's name or vitgan.preset(...), not {type(settings).__name__}", "config"
        )
    hooks = hooks or (notebook_hooks(settings) if in_notebook() else Hooks(on_notice=_tell))
    check_trackers(settings.training.trackers)
    if resume is not None and folder is not None:
        raise UserError("folder does nothing beside resume: leave one of the two out", "folder")
    processes = join_processes(settings.training.device)
    if data is None and resume is None and holds_images_to_prepare(settings.data):
        data = settings.data
    if data is not None:
        start, place, notify, progress = settings, Path(out) / "data", hooks.on_notice, hooks.on_prepare
        settings = on_main_process(processes, lambda: with_images(start, data, place, notify, progress))
    resumed, own = (Path(place) if place is not None else None for place in (resume, folder))
    if own is not None and on_main_process(processes, lambda: (own / DATA_RECORD).exists()):
        resumed = own
    settings, store = _checked(settings, resumed, hooks, processes)
    run = on_main_process(processes, lambda: resumed or new_run(Path(out), settings, own))
    with _errors_in_one_line(run, settings, processes), _locked(run, processes):
        try:
            _train(run, settings, store, resumed is not None, hooks, processes)
        finally:
            if resumed is None and processes.is_main_process and not (run / DATA_RECORD).exists():
                shutil.rmtree(run, ignore_errors=True)  # it has not begun, and all in it was made here
    return run


def _tell(notice: str) -> None:
    print(f"vitgan: {notice}", file=sys.stderr)


def _checked(
    config: RunConfig, resume: Path | None, hooks: Hooks, processes: PartialState
) -> tuple[RunConfig, ImageStore]:
    """The configuration for the images, and these; refuses what cannot be done, before a run is made."""
    store = on_every_process(processes, lambda: open_store(config, resume))
    on_main_process(processes, lambda: check_unaltered(store))
    config = with_vae_of(store, with_classes_of(store, config))
    if resume is None and processes.is_main_process and config.model.num_classes > store.label_count:
        hooks.on_notice(
            f"the model has {config.model.num_classes} classes, the images {store.label_count}: the rest stay new"
        )
    on_main_process(processes, lambda: check_vae(config, processes.device))
    if config.evaluate_every_kimg is not None:
        from vitgan.runs.evaluation import check_evaluation

        on_every_process(processes, lambda: check_evaluation(config, store))
    if config.training.batch_size % processes.num_processes:
        raise UserError(
            f"batch_size {config.training.batch_size} cannot be shared by {processes.num_processes} processes: choose a "
            "multiple",
            "training.batch_size",
        )
    config.check_share(config.training.batch_size // processes.num_processes)
    if config.training.compile != "never":
        device, cache = processes.device or torch.device("cpu"), cache_folder() / "compiled"
        on_every_process(processes, lambda: check_compiler(device, cache))
    on_every_process(processes, lambda: check_networks(config, starts=resume is None))
    return config, store


def _train(
    run: Path, config: RunConfig, store: ImageStore, resumes: bool, hooks: Hooks, processes: PartialState
) -> None:
    if resumes:
        on_main_process(processes, lambda: check_resumable(run, config))
    accelerator = make_accelerator(config, run, processes)
    trainer = Trainer(config.model, config.objective, config.augment, config.training, accelerator, run)
    start = on_main_process(processes, lambda: place_to_start(run, resumes, config.init_from))
    notes = on_every_process(processes, lambda: restore_or_start(trainer, run, start))
    on_every_process(processes, lambda: start_trackers(accelerator, config, run))  # before anything is written
    if processes.is_main_process:
        if resumes:
            if start != str(run):
                hooks.on_notice("the run has no checkpoint, and begins again")
            remove_leftovers(run)
            trainer.prune()
        for note in notes:
            hooks.on_notice(note)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        write_json(run / DATA_RECORD, record_of(store).model_dump())
        write_json(run / "config.json", config.model_dump(mode="json"))
    hooks = with_evaluation(hooks, config, store, processes, accelerator.device)
    stream = ImageStream(
        store, config.training.batch_size, config.training.seed, processes.process_index, processes.num_processes
    )
    with true_convolutions(accelerator.device, tuned=True):
        trainer.fit(stream, hooks)
    accelerator.wait_for_everyone()
    accelerator.end_training()


def check_run(config: RunConfig) -> None:
    """Refuses a new run that `train` would refuse before its first step, and makes nothing.

    Raises:
        UserError: If the data, the evaluations or the networks do not fit.
    """
    check_trackers(config.training.trackers)
    _checked(config, None, Hooks(), join_processes(config.training.device))


def check_networks(config: RunConfig, starts: bool) -> None:
    """Refuses networks that cannot be built, and for a run that starts an `init_from` that does not fit them.

    Raises:
        UserError: If their sizes contradict each other, or D has fewer blocks than `freeze_d`; see `start_from`.
    """
    model, freeze_d, device = config.model, config.training.freeze_d, "meta"
    generator = build_generator(model.generator_spec(), device=device)
    discriminator = build_discriminator(model, device=device)
    discriminator.first_parameters(freeze_d)
    if starts and config.init_from is not None:
        averaged = build_generator(model.generator_spec(), device=device)
        start_from(config.init_from, model, generator, discriminator, averaged, freeze_d)


@contextmanager
def _locked(run: Path, processes: PartialState) -> Iterator[None]:
    """The main process holds the run's lock meanwhile."""
    lock = on_every_process(processes, lambda: lock_run(run) if processes.is_main_process else None)
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


@contextmanager
def _errors_in_one_line(run: Path, config: RunConfig, processes: PartialState) -> Iterator[None]:
    """A full disk or memory, a folder that became read-only while the run writes its log, another process that died."""
    try:
        with all_alive(processes, command("train", "--resume", run)):
            yield
    except (RuntimeError, MemoryError) as error:
        if not lacks_memory(error):
            raise
        share = config.training.batch_size // processes.num_processes
        raise out_of_memory(error, run, config, share) from error
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        again = "start it again"
        if run.exists():
            newest = latest_checkpoint(run)
            again = f"go on with `{command('train', '--resume', run)}` (newest whole checkpoint: "
            again += f"{newest.name if newest else 'none'})"
        raise ProcessError(
            f"the run {run} cannot go on: {error.strerror or error}{place}; mend that, then {again}"
        ) from error


def make_accelerator(config: RunConfig, run: Path, processes: PartialState) -> Accelerator:
    """Precision and trackers, on the processes' devices."""
    cpu, trackers = processes.device == torch.device("cpu"), config.training.trackers
    precision = choose_precision(config.training.precision, cpu)
    # accelerate keeps one state per process and refuses a second precision: a notebook may train twice.
    AcceleratorState._reset_state()
    return Accelerator(
        cpu=cpu,
        mixed_precision=precision,
        project_dir=run,
        # TensorBoard's files lie in the run, the others have places of their own.
        log_with=[TensorBoardTracker(name, run) if name == "tensorboard" else name for name in trackers] or None,
    )


def start_trackers(accelerator: Accelerator, config: RunConfig, run: Path) -> None:
    """Starts the run's trackers, and tells them its configuration.

    Raises:
        UserError: If one cannot start; those that did are ended.
    """
    try:
        accelerator.init_trackers(PROJECT, init_kwargs=tracker_options(run))
        if accelerator.is_main_process:
            for tracker in accelerator.trackers:
                tell_configuration(tracker, dict(flat(config.model_dump(mode="json"))))
    except Exception as error:  # whatever its library raises
        for tracker in accelerator.trackers:
            with suppress(Exception):  # it may be the one that did not start
                tracker.finish()
        names = " or ".join(config.training.trackers)
        reason = one_line(str(error), 300)
        raise UserError(
            f"the tracker {names} cannot start: {reason}: mend that, or leave it out", "training.trackers"
        ) from error


def place_to_start(run: Path, resumes: bool, init_from: str | None) -> str | None:
    """Where a run's first weights come from: `run` itself, what `init_from` names, or None for random ones.

    Of a run that `init_from` names, which may be in training, it is the newest whole checkpoint: one for all processes.

    Raises:
        UserError: If there is no such model.
    """
    if resumes and (checkpoints(run) or not (run / DATA_RECORD).exists()):
        return str(run)
    # Not begun, or killed before its first checkpoint: then its first steps are done again.
    if init_from is None:
        return None
    weights = locate_networks(init_from)
    return init_from if weights.name == WEIGHTS else str(weights.parent)


def restore_or_start(trainer: Trainer, run: Path, start: str | None) -> list[str]:
    """Puts a trainer where the newest whole checkpoint of a run left off, or at the run's start.

    Args:
        trainer: Networks of random weights.
        run: The run's folder.
        start: See `place_to_start`.

    Returns:
        What is wrong with each newer checkpoint, or what is not as it was where the run starts from.

    Raises:
        UserError: If there is no checkpoint, they are damaged, or of another configuration.
    """
    state = trainer.state
    if start is None:
        return []
    if start == str(run):
        return [f"passed over: {problem}" for problem in load_newest(run, state)[1]]
    return start_from(start, trainer.model, state.generator, state.discriminator, state.generator_ema)


NO_CLASSES: dict[str, Any] = {"num_classes": 0, "class_counts": None, "class_names": None}


def with_classes_of(store: ImageStore, config: RunConfig) -> RunConfig:
    """A conditional model gets as many classes as the store has, their shares and names; one that has its number keeps it.

    One that is not conditional has none, also where the configuration is an earlier run's.

    Raises:
        UserError: If the model is conditional and the store has no labels, or more classes than the model.
    """
    model = config.model
    if not model.conditional:
        return config.model_copy(update={"model": model.model_copy(update=NO_CLASSES)})
    if store.labels is None:
        raise UserError(
            f"the model is conditional, but the images in {config.data} have no labels: prepare them with labels, or "
            "train without classes",
            "model.conditional",
        )
    classes = model.num_classes or store.label_count
    if store.label_count > classes:
        raise UserError(
            f"the images in {config.data} have {store.label_count} classes, the model {classes}", "model.num_classes"
        )
    counts = tuple(np.bincount(store.labels, minlength=classes).tolist())
    names = tuple(store.description.label_names or ())
    more = tuple(str(index) for index in range(len(names), classes))  # classes that these images do not have
    named = names and not set(names) & set(more)
    update = {"class_counts": counts, "class_names": names + more if named else None}
    model = model.model_copy(update=update | {"num_classes": classes})
    return config.model_copy(update={"model": model})


def with_vae_of(store: ImageStore, config: RunConfig) -> RunConfig:
    """A model on a latent store gets the VAE that makes images of what it makes.

    Raises:
        UserError: If the run asks for what latents cannot have, or goes on with images in place of latents.
    """
    if store.vae == config.model.vae:
        return config
    return replaced(config, model=replaced(config.model, vae=store.vae))


def check_vae(config: RunConfig, device: torch.device | None) -> None:
    """Refuses a VAE that is not there, or another one than the model's latents are of."""
    if config.model.vae is not None:
        load_decoder(config.model.vae, str(device or "cpu"))


def with_evaluation(
    hooks: Hooks, config: RunConfig, store: ImageStore, processes: PartialState, device: torch.device
) -> Hooks:
    """The hooks, with the evaluation that the configuration asks for; it measures on the main process."""
    if config.evaluate_every_kimg is None:
        return hooks
    from vitgan.runs.evaluation import evaluation_of_run

    evaluate = on_every_process(
        processes, lambda: evaluation_of_run(config, store, device) if processes.is_main_process else None
    )
    return replace(hooks, evaluate=evaluate, evaluate_every_kimg=config.evaluate_every_kimg)


def open_store(config: RunConfig, resume: str | Path | None = None) -> ImageStore:
    """The images that a run trains on; those that it began with if it goes on.

    Raises:
        UserError: If there is no store, it holds other images, or they do not fit the model.
    """
    store = open_data(config.data) if resume is None else data_of_run(Path(resume), config.data)
    found = f"{store.channels} channel(s) of {store.resolution}×{store.resolution}"
    if (store.channels, store.resolution) != (config.model.channels, config.model.resolution):
        raise UserError(
            f"the images in {config.data} have {found} pixels, the model expects {config.model.channels} of "
            f"{config.model.resolution}×{config.model.resolution}: prepare them for the model, or set the model's "
            "resolution and channels to theirs",
            "model.resolution" if store.resolution != config.model.resolution else "model.channels",
        )
    return store
