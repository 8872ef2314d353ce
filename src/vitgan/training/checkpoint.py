"""Checkpoints: whole or absent.

A checkpoint is a folder written under a temporary name and renamed when whole; `state.json`, written last, holds the
counters and the SHA-256 of every other file, so that a damaged one is known and passed over. Folders whose names start
with a dot are what a killed process was writing or removing.
"""

import errno
import hashlib
import math
import re
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, Field
from torch import Tensor

from vitgan.commands import command
from vitgan.errors import UserError
from vitgan.files import read_model, sha256, sync_folder, write_json
from vitgan.files.tensors import load_weights, read_tensors, write_tensors
from vitgan.schema import Config
from vitgan.training.state import TrainingState

FORMAT_VERSION = 1
MODULES = ("generator_ema", "generator", "discriminator", "objective")
OPTIMIZERS = "optimizers.safetensors"
BEST = "best.json"
STATE = "state.json"
FILES = (*(f"{name}.safetensors" for name in MODULES), OPTIMIZERS, STATE)
"""All that a checkpoint holds; nothing else is ever removed with it."""
NAME = re.compile(r"\d{6,}k\d{3}")
IN_WORK = re.compile(r"\.\d{6,}k\d{3}(\.removed)?\.part")


class CheckpointManifest(Config):
    """What `state.json` holds."""

    format_version: int
    step: int = Field(ge=0)
    images_seen: int = Field(ge=0)
    files: dict[str, str]
    """File name -> SHA-256."""
    learning_rate_scale: float = Field(default=1.0, gt=0, le=1)
    """What the divergence guard has lowered the learning rates by."""
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
    """Writes the state as `run`/checkpoints/<name>; returns the folder. An existing one of the same name is kept.

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
            _remove(folder)
        temporary.replace(folder)
        sync_folder(folder.parent)
    except OSError as error:
        _remove_files(temporary)
        newest = latest_checkpoint(run)
        raise UserError(
            f"cannot write the checkpoint {folder}: {error.strerror or error}; mend that, then go on with "
            f"`{command('train', '--resume', run)}` (newest whole checkpoint: {newest.name if newest else 'none'})"
        ) from error
    return folder


def _write_state(folder: Path, state: TrainingState) -> None:
    _remove_files(folder)
    folder.mkdir(parents=True)
    state.generator_ema.update_w_mean()
    files = {}
    for name in MODULES:
        file = f"{name}.safetensors"
        files[file] = write_tensors(folder / file, getattr(state, name).state_dict())
    files[OPTIMIZERS] = write_tensors(folder / OPTIMIZERS, state.optimizer_tensors())
    manifest = CheckpointManifest(
        format_version=FORMAT_VERSION,
        step=state.step,
        images_seen=state.images_seen,
        files=files,
        learning_rate_scale=state.learning_rate_scale,
        statistics=state.statistics.sums(),
    )
    manifest = manifest.model_copy(update={"sha256": manifest.digest()})
    write_json(folder / STATE, manifest.model_dump(mode="json"))
    sync_folder(folder)


def load_checkpoint(folder: Path, state: TrainingState) -> None:
    """Fills `state` from a checkpoint of the same configuration.

    Raises:
        UserError: If the checkpoint is damaged or of another configuration.
    """
    manifest = verify_checkpoint(folder)
    for name in MODULES:
        load_weights(getattr(state, name), folder / f"{name}.safetensors")
    tensors = read_tensors(folder / OPTIMIZERS)
    _check_optimizers(folder / OPTIMIZERS, tensors, state)
    state.load_optimizer_tensors(tensors)
    state.step, state.images_seen = manifest.step, manifest.images_seen
    state.learning_rate_scale = manifest.learning_rate_scale
    state.statistics.restore(manifest.statistics)


def _check_optimizers(path: Path, tensors: dict[str, Tensor], state: TrainingState) -> None:
    """Adam's three tensors for each parameter, of its shape, or for none before the first step."""
    expected: dict[str, tuple[int, ...]] = {}
    for player in ("generator", "discriminator") if tensors else ():
        for name, parameter in getattr(state, player).named_parameters():
            shape = tuple(parameter.shape)
            expected |= {f"{player}/{name}/{key}": shape for key in ("exp_avg", "exp_avg_sq")}
            expected[f"{player}/{name}/step"] = ()
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if found != expected:
        odd = min(dict(found.items() ^ expected.items()))
        raise UserError(f"{path} is of another configuration: {odd!r} is not as the model's optimisers have it")


def verify_checkpoint(folder: Path) -> CheckpointManifest:
    """The manifest of a checkpoint whose files are all there and unchanged.

    Raises:
        UserError: Naming the file that is missing or damaged, or the unknown format.
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
        raise UserError(f"the checkpoint file {folder / 'state.json'} is damaged: its SHA-256 is not the one in it")
    for name in FILES[:-1]:
        path = folder / name
        if not path.is_file():
            raise UserError(f"the checkpoint {folder} is incomplete: {name} is missing")
        try:
            found = sha256(path)
        except OSError as error:
            raise UserError(f"the checkpoint file {path} cannot be read: {error.strerror}") from error
        if found != manifest.files.get(name):
            raise UserError(f"the checkpoint file {path} is damaged: its SHA-256 is not the one in state.json")
    return manifest


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
    """The newest whole checkpoint of a run."""
    return next((folder for folder in reversed(checkpoints(run)) if is_whole(folder)), None)


def damaged_checkpoints(run: Path) -> list[str]:
    """What is wrong with each checkpoint that is newer than the newest whole one, newest first."""
    problems = []
    for folder in reversed(checkpoints(run)):
        try:
            verify_checkpoint(folder)
        except UserError as error:
            problems.append(str(error))
        else:
            break
    return problems


def remove_leftovers(run: Path) -> None:
    """Removes what a killed process was writing or removing. The caller must hold the run's lock."""
    for folder in (run / "checkpoints").glob(".*k[0-9]*.part"):
        if IN_WORK.fullmatch(folder.name):
            _remove_files(folder)


def _remove(folder: Path) -> None:
    """Removes a checkpoint: first from the list, at once, then its files.

    Raises:
        OSError: If it cannot be, or somebody put other things into it: it is then as it was.
    """
    if folder.is_symlink() or {path.name for path in folder.iterdir()} - set(FILES):
        raise OSError(errno.ENOTEMPTY, "it holds files that are no part of a checkpoint: move them away")
    leaving = folder.with_name(f".{folder.name}.removed.part")
    _remove_files(leaving)
    folder.replace(leaving)
    _remove_files(leaving)


def _remove_files(folder: Path) -> None:
    """Removes a checkpoint's own files from a folder, whole or half written, then the folder if that was all."""
    if folder.is_symlink():
        return
    with suppress(OSError):
        for name in FILES:
            (folder / name).unlink(missing_ok=True)
            (folder / f".{name}.part").unlink(missing_ok=True)
        folder.rmdir()


class BestCheckpoint(Config):
    """What `best.json` holds: the checkpoint with the lowest score so far."""

    checkpoint: str
    name: str
    """The figure that was compared."""
    score: float
    previous: "BestCheckpoint | None" = None
    """The best one before, which counts until this one is there: a process may be killed in between."""


def remember_best(run: Path, images_seen: int, name: str, score: float) -> None:
    """Notes the checkpoint of `images_seen` images in `run`/best.json if its score is the lowest of this figure so far.

    The checkpoint is there already. A score that is no number is never the best.
    """
    if not math.isfinite(score):
        return
    best = best_checkpoint(run)
    if best is None or best.name != name or score < best.score:
        previous = best.model_copy(update={"previous": None}) if best else None
        found = BestCheckpoint(checkpoint=checkpoint_name(images_seen), name=name, score=score, previous=previous)
        write_json(run / BEST, found.model_dump())


def best_checkpoint(run: Path) -> BestCheckpoint | None:
    """The best checkpoint that evaluations found, if it is there."""
    if not (run / BEST).exists():
        return None
    best: BestCheckpoint | None = read_model(run / BEST, BestCheckpoint, "best checkpoint")
    while best is not None and not (run / "checkpoints" / Path(best.checkpoint).name).is_dir():
        best = best.previous
    return best


def prune_checkpoints(run: Path, keep: int) -> None:
    """Removes all but the newest `keep` whole checkpoints and the best one; 0 keeps everything."""
    if keep > 0:
        best = best_checkpoint(run)
        whole = [folder for folder in checkpoints(run) if is_whole(folder)]
        for folder in whole[:-keep]:
            if checkpoint_name(verify_checkpoint(folder).images_seen) != folder.name:
                continue  # somebody's copy
            if best is None or folder.name != best.checkpoint:
                with suppress(OSError):  # room that is not freed stops no run; nor is a folder that holds notes removed
                    _remove(folder)
