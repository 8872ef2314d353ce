"""Checkpoints: whole or absent.

A checkpoint is a folder. It is written under a temporary name, and renamed when it is whole. `state.json` is written last.
It holds the counters, and a digest of the tensors of every other file: loading finds damage, and takes an older checkpoint.
Folders whose names start with a dot are what a killed process was writing or removing.
"""

import errno
import hashlib
import re
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, Field
from torch import Tensor

from vitgan.errors import UserError, command
from vitgan.files import read_model, sync_folder, write_json
from vitgan.files.tensors import check_tensors, read_tensors, recorded_digest, write_tensors
from vitgan.schema import Config
from vitgan.training.state import TrainingState

FORMAT_VERSION = 3
MODULES = ("generator_ema", "generator", "discriminator", "objective")
OPTIMIZERS = "optimizers.safetensors"
STATE = "state.json"
TENSOR_FILES = (*(f"{name}.safetensors" for name in MODULES), OPTIMIZERS)
FILES = (*TENSOR_FILES, STATE)
"""All that a checkpoint holds; nothing else is ever removed with it."""
NAME = re.compile(r"\d{6,}k\d{3}")


class CheckpointManifest(Config):
    """What `state.json` holds."""

    format_version: int
    step: int = Field(ge=0)
    images_seen: int = Field(ge=0)
    wall_seconds: float = Field(ge=0)
    """Of training so far; evaluations do not count."""
    cpu_seconds: float = Field(ge=0)
    files: dict[str, str]
    """File name -> digest of its tensors (`vitgan.files.tensors.digest`)."""
    rollbacks: int = Field(default=0, ge=0)
    """How often the divergence guard went back, each time to lower learning rates."""
    statistics: dict[str, tuple[float, int]] = Field(default_factory=dict)
    """Sums and counts of the figures since the last log record, so that the next one is the same after a resume."""
    sha256: str | None = None
    """Of all of the above."""

    def digest(self) -> str:
        """SHA-256 of all fields but itself."""
        return hashlib.sha256(self.model_dump_json(exclude={"sha256"}).encode()).hexdigest()


class _Format(BaseModel):
    """What a checkpoint of any format says about itself."""

    format_version: int


def checkpoint_name(images_seen: int) -> str:
    """ "000200k064" for 200,064 images: sortable, unique."""
    return f"{images_seen // 1000:06d}k{images_seen % 1000:03d}"


def save_checkpoint(run: Path, state: TrainingState) -> Path:
    """Writes the state as `run`/checkpoints/<name>; returns the folder. A whole one of the same name is kept.

    The averaged generator's `w_mean` is written as it is: the caller brings it up to date.

    Raises:
        UserError: If it cannot be written; what was written of it is removed, and older checkpoints are as they were.
    """
    folder = run / "checkpoints" / checkpoint_name(state.images_seen)
    if folder.exists() and is_whole(folder):
        return folder
    temporary = folder.with_name(f".{folder.name}.part")
    try:
        _write_state(temporary, state)
        if folder.exists():
            remove(folder)
        temporary.replace(folder)
        sync_folder(folder.parent)
    except OSError as error:
        remove_files(temporary)
        newest = latest_checkpoint(run)
        raise UserError(
            f"cannot write the checkpoint {folder}: {error.strerror or error}; mend that, then go on with "
            f"`{command('train', '--resume', run)}` (newest whole checkpoint: {newest.name if newest else 'none'})"
        ) from error
    return folder


def _write_state(folder: Path, state: TrainingState) -> None:
    remove_files(folder)
    folder.mkdir(parents=True)
    files = {}
    for name in MODULES:
        file = f"{name}.safetensors"
        files[file] = write_tensors(folder / file, getattr(state, name).state_dict())
    files[OPTIMIZERS] = write_tensors(folder / OPTIMIZERS, state.optimizer_tensors())
    manifest = CheckpointManifest(
        format_version=FORMAT_VERSION,
        step=state.step,
        images_seen=state.images_seen,
        wall_seconds=state.wall_seconds,
        cpu_seconds=state.cpu_seconds,
        files=files,
        rollbacks=state.rollbacks,
        statistics=state.statistics.sums(),
    )
    manifest = manifest.model_copy(update={"sha256": manifest.digest()})
    write_json(folder / STATE, manifest.model_dump(mode="json"))
    sync_folder(folder)


def load_newest(run: Path, state: TrainingState) -> tuple[Path, list[str]]:
    """Fills `state` from the newest whole checkpoint of a run of the same configuration.

    Returns:
        The checkpoint, and what is wrong with each newer one.

    Raises:
        UserError: If there is none, or it is of another configuration.
    """
    problems: list[str] = []
    for folder in reversed(checkpoints(run)):
        try:
            manifest, tensors = read_checkpoint(folder)
        except UserError as error:
            problems.append(str(error))
            continue
        _fill(folder, manifest, tensors, state)
        return folder, problems
    raise UserError(problems[0] if problems else f"the run {run} has no checkpoint: start a new one", "resume")


def _fill(
    folder: Path, manifest: CheckpointManifest, tensors: dict[str, dict[str, Tensor]], state: TrainingState
) -> None:
    expected = {f"{name}.safetensors": getattr(state, name).state_dict() for name in MODULES}
    expected[OPTIMIZERS] = state.expected_optimizer_tensors() if manifest.step else {}
    for name in TENSOR_FILES:
        check_tensors(folder / name, tensors[name], expected[name])
    for name in MODULES:
        getattr(state, name).load_state_dict(tensors[f"{name}.safetensors"])
    state.load_optimizer_tensors(tensors[OPTIMIZERS])
    state.step, state.images_seen, state.rollbacks = manifest.step, manifest.images_seen, manifest.rollbacks
    state.wall_seconds, state.cpu_seconds = manifest.wall_seconds, manifest.cpu_seconds
    state.statistics.restore(manifest.statistics)


def read_checkpoint(folder: Path) -> tuple[CheckpointManifest, dict[str, dict[str, Tensor]]]:
    """The manifest of a checkpoint and the tensors of its files by name, all there and unchanged.

    Raises:
        UserError: Naming the file that is missing or damaged, or the unknown format.
    """
    manifest, tensors = read_manifest(folder), {}
    for name in TENSOR_FILES:
        if recorded_digest(folder / name) != manifest.files.get(name):
            raise _not_as_written(folder / name)
        tensors[name] = read_tensors(folder / name)  # which have that digest
    return manifest, tensors


def verify_checkpoint(folder: Path) -> CheckpointManifest:
    """The manifest of a checkpoint whose files are all there and unchanged; else a UserError that names the file."""
    return read_checkpoint(folder)[0]


def read_manifest(folder: Path) -> CheckpointManifest:
    """What a checkpoint says about itself.

    Raises:
        UserError: If that cannot be read, is damaged, or of an unknown format.
    """
    version = read_model(folder / STATE, _Format, "checkpoint").format_version
    if version != FORMAT_VERSION:
        age = "a newer" if version > FORMAT_VERSION else "an older"
        raise UserError(
            f"{folder} has checkpoint format {version}, this version of vitgan reads {FORMAT_VERSION}: "
            f"use {age} version of vitgan, the one that wrote it"
        )
    manifest = read_model(folder / STATE, CheckpointManifest, "checkpoint")
    if manifest.sha256 is not None and manifest.sha256 != manifest.digest():
        raise _not_as_written(folder / STATE)
    return manifest


def _not_as_written(path: Path) -> UserError:
    return UserError(f"the checkpoint file {path} is damaged: its SHA-256 is not the one in {STATE}")


def is_whole(folder: Path) -> bool:
    """Whether a checkpoint can be loaded."""
    try:
        verify_checkpoint(folder)
    except UserError:
        return False
    return True


def checkpoints(run: Path) -> list[Path]:
    """Finished checkpoint folders of a run, oldest first; they may be damaged since. Copies by other names are none."""
    return sorted(p for p in (run / "checkpoints").glob("[0-9]*k[0-9]*") if NAME.fullmatch(p.name) and p.is_dir())


def latest_checkpoint(run: Path) -> Path | None:
    """The newest whole checkpoint of a run, which another process may be training."""
    looked_at = None
    while (found := checkpoints(run)) != looked_at:  # others took their place meanwhile
        if (whole := next(filter(is_whole, reversed(found)), None)) is not None:
            return whole
        looked_at = found
    return None


def remove(folder: Path) -> None:
    """Removes a checkpoint: first from the list, at once, then its files.

    Raises:
        OSError: If it cannot be, or somebody put other things into it: it is then as it was.
    """
    if folder.is_symlink() or {path.name for path in folder.iterdir()} - set(FILES):
        raise OSError(errno.ENOTEMPTY, "it holds files that are no part of a checkpoint: move them away")
    leaving = folder.with_name(f".{folder.name}.removed.part")
    remove_files(leaving)
    folder.replace(leaving)
    remove_files(leaving)


def remove_files(folder: Path) -> None:
    """Removes a checkpoint's own files from a folder, whole or half written, then the folder if that was all."""
    if folder.is_symlink():
        return
    with suppress(OSError):
        for name in FILES:
            (folder / name).unlink(missing_ok=True)
            (folder / f".{name}.part").unlink(missing_ok=True)
        folder.rmdir()
