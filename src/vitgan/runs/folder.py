"""A run's folder: its number, its configuration, which images it trains on, and what may change when it goes on."""

import os
import re
from pathlib import Path

from filelock import FileLock, Timeout

from vitgan.config import RunConfig, differences
from vitgan.data.bundled import bundled_fashion_mnist
from vitgan.data.store import DESCRIPTION, IMAGES, Digest, ImageStore
from vitgan.errors import UserError
from vitgan.files import lock_file, read_model, user_error, write_json
from vitgan.schema import Config

BUNDLED_DATA = "fashion-mnist"
LOCK, DATA_RECORD = ".lock", "data.json"
BEGUN = {LOCK, "config.json", ".config.json.part"}
"""What a run in its own folder has before its first step."""
VERIFIED_BYTES = 1 << 30
"""Stores up to this size are read through whenever a run begins or goes on: a second or two at most."""


def new_run(out: Path, config: RunConfig, own: Path | None = None) -> Path:
    """Makes a run's folder: `out`/00003-cifar10, numbered after the runs that are there, or `own`.

    A run in its own folder that was killed before its first step is begun again.

    Raises:
        UserError: If its own folder holds something else, or one cannot be written.
    """
    name = config.preset if is_bundled(config.data) or config.preset != "custom" else Path(config.data).name
    place, parameter = (own, "folder") if own is not None else (out, "out")
    with user_error(f"cannot make a run in {place}", OSError, advice="choose another folder", parameter=parameter):
        if own is not None:
            found = {path.name for path in own.iterdir()} if own.is_dir() else set()
            if found and (LOCK not in found or found - BEGUN):  # a config.json alone is somebody's own
                raise UserError(
                    f"the folder {own} holds files and is no run: choose another, or an empty one", "folder"
                )
            own.mkdir(parents=True, exist_ok=True)
            (own / LOCK).touch()
            run = own
        else:
            out.mkdir(parents=True, exist_ok=True)
            with lock_file(out / LOCK):  # another run may be looking for its number
                numbers = [int(m.group(1)) for p in out.iterdir() if (m := re.match(r"(\d{5})-", p.name))]
                run = out / f"{max(numbers, default=-1) + 1:05d}-{name}"
                run.mkdir()
        write_json(run / "config.json", config.model_dump(mode="json"))
    return run


def lock_run(run: Path) -> FileLock:
    """Keeps other processes from writing to the run until it is released; the system frees it when this process ends.

    Raises:
        UserError: If there is no such run, another process writes to it, or it cannot be locked.
    """
    if not run.is_dir():
        raise UserError(f"there is no run at {run}: `vitgan info` lists the runs")
    lock = lock_file(run / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise UserError(f"another process is writing to the run {run}: wait until it ends, or stop it first") from error
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot lock the run {run}: {reason}; put it into a folder that can be written") from error
    return lock


class DataRecord(Config):
    """What a run's `data.json` holds: which images it trains on, whatever its folder's name."""

    count: int
    sha256: Digest
    labels_sha256: Digest | None = None
    path: str | None = None
    """Where the store was, absolute: the configuration's path may be relative to a folder that is another today."""

    def difference(self, store: ImageStore) -> str | None:
        """What a store holds instead of these images, in words; None if it holds them."""
        found = record_of(store)
        if (found.count, found.sha256) != (self.count, self.sha256):
            return f"other images (SHA-256 {found.sha256[:12]}…; another store, or changed since the run began)"
        return None if found.labels_sha256 == self.labels_sha256 else "these images with other labels"


def record_of(store: ImageStore) -> DataRecord:
    """The record of a store, from its description."""
    described = store.description.model_dump(include={"count", "sha256", "labels_sha256"})
    return DataRecord(**described, path=str(store.path.absolute()))


def data_record(run: Path) -> DataRecord | None:
    """What a run has noted of its images; None if it has not begun."""
    return (
        read_model(run / DATA_RECORD, DataRecord, "run's record of its data") if (run / DATA_RECORD).exists() else None
    )


def open_data(data: str) -> ImageStore:
    """The store in the folder `data`, or the bundled one of that name; a UserError if there is none."""
    return bundled_fashion_mnist() if is_bundled(data) else ImageStore.open(data)


def is_bundled(data: str) -> bool:
    """Whether this names the bundled images; as with models, a folder of that name here comes first."""
    return data == BUNDLED_DATA and not os.path.exists(data)  # noqa: PTH110


def is_store(path: str | Path) -> bool:
    """Whether there is a store in a folder."""
    return all(os.path.isfile(os.path.join(path, name)) for name in (DESCRIPTION, IMAGES))  # noqa: PTH113, PTH118


def data_of_run(run: Path, data: str | None = None) -> ImageStore:
    """The images that a run began with.

    Args:
        run: The run's folder.
        data: Where to look for them; default: under the path in its configuration, seen from here, then where they were
            when it began.

    Raises:
        UserError: If they are in none of these places.
    """
    recorded = config_of_run(run).data
    if (record := data_record(run)) is None:
        return open_data(data or recorded)
    places = [data or recorded]
    if data in (None, recorded) and record.path and Path(recorded).absolute() != Path(record.path):
        places.append(record.path)
    problems = []
    for place in places:
        try:
            store = open_data(place)
        except UserError as error:
            problems.append(str(error).partition(": prepare")[0])
            continue
        if (difference := record.difference(store)) is None:
            return store
        problems.append(f"{place} holds {difference}")
    raise UserError(
        f"the images of the run {run} (SHA-256 {record.sha256[:12]}…) were not found: {'; '.join(problems)}: "
        "pass their store",
        "data",
    )


WITHOUT_INFLUENCE = {
    "evaluate_every_kimg",
    "protocol",
    "model.class_counts",
    "model.class_names",
    "model.vae.name",
    "training.total_kimg",
    "training.max_minutes",
    "training.max_cpu_minutes",
    "training.log_every_kimg",
    "training.samples_every_kimg",
    "training.checkpoint_every_kimg",
    "training.keep_checkpoints",
    "training.sample_count",
    "training.instruments",
    "training.trackers",
    "training.device",
    "training.micro_batch_size",
    "training.checkpoint_activations",
    "training.compile",
    "training.cuda_graphs",
}
"""Fields that do not change the steps themselves (micro-batches, checkpointed activations and compilation: but for
rounding; lengths: but for the rates of `lr_decay`). Numbers of images are those of the labels, which `data_of_run`
compares."""
FREE_ON_RESUME = {"preset", "training.on_divergence", "training.logit_bound", "training.rollback_rate"}
"""What may change besides, when a run goes on."""
CHANGEABLE = "data, evaluate_every_kimg, protocol, and of training " + ", ".join(
    sorted(
        name.removeprefix("training.") for name in WITHOUT_INFLUENCE | FREE_ON_RESUME if name.startswith("training.")
    )
)
"""The fields that a user may change, for a message."""


def config_of_run(run: Path) -> RunConfig:
    """A run's configuration; a UserError if the folder is no run."""
    if not run.is_dir():
        raise UserError(f"there is no run at {run}: `vitgan info` lists the runs")
    return read_model(run / "config.json", RunConfig, "run")


def check_unaltered(store: ImageStore) -> None:
    """Refuses images that are not what was prepared: whoever began with them could not go on with those of the record."""
    if store.images.nbytes <= VERIFIED_BYTES:
        store.verify()


def change_of_run(run: Path, config: RunConfig) -> tuple[str, object, object] | None:
    """(field, the run's value, the configuration's) of a field that may not change when a run goes on, but would."""
    # Images are known by their checksum where the run has noted it; their folder may have moved.
    free = WITHOUT_INFLUENCE | FREE_ON_RESUME | ({"data"} if (run / DATA_RECORD).exists() else set())
    changes = {name: values for name, values in differences(config, config_of_run(run)).items() if name not in free}
    if not changes:
        return None
    field = next((name for name in changes if name.endswith(".kind")), next(iter(changes)))
    return field, *changes[field]


def check_resumable(run: Path, config: RunConfig) -> None:
    """Refuses to go on with another configuration than the run's own."""
    if (change := change_of_run(run, config)) is not None:
        field, before, now = change
        raise UserError(
            f"the run {run} keeps its configuration: {field} {before} cannot become {now}; resume without changing it, or "
            f"start a new run from its weights (init_from); what may change is {CHANGEABLE}",
            field,
        )
