"""Checkpoints: whole or absent.

A checkpoint is a folder written under a temporary name and renamed when whole; `state.json`, written last, holds the
counters and the SHA-256 of every other file, so that a damaged one is known and passed over.
"""

import shutil
from pathlib import Path

from pydantic import ValidationError
from safetensors.torch import save_file

from vitgan.errors import UserError
from vitgan.files import read_model, sha256, write_json
from vitgan.schema import Config
from vitgan.training.state import TrainingState
from vitgan.weights import load_weights, read_tensors

FORMAT_VERSION = 1
MODULES = ("generator_ema", "generator", "discriminator", "objective")
OPTIMIZERS = "optimizers.safetensors"
BEST = "best.json"


class CheckpointManifest(Config):
    """What `state.json` holds."""

    format_version: int
    step: int
    images_seen: int
    files: dict[str, str]
    """File name -> SHA-256."""


def checkpoint_name(images_seen: int) -> str:
    """ "000200k064" for 200,064 images: sortable, unique."""
    return f"{images_seen // 1000:06d}k{images_seen % 1000:03d}"


def save_checkpoint(run: Path, state: TrainingState) -> Path:
    """Writes the state as `run`/checkpoints/<name>; returns the folder. An existing one of the same name is kept."""
    folder = run / "checkpoints" / checkpoint_name(state.images_seen)
    if folder.exists() and is_whole(folder):
        return folder
    temporary = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    state.generator_ema.update_w_mean()
    for name in MODULES:
        tensors = getattr(state, name).state_dict()
        save_file({key: value.contiguous() for key, value in tensors.items()}, temporary / f"{name}.safetensors")
    save_file(state.optimizer_tensors(), temporary / OPTIMIZERS)
    files = {path.name: sha256(path) for path in sorted(temporary.iterdir())}
    manifest = CheckpointManifest(
        format_version=FORMAT_VERSION, step=state.step, images_seen=state.images_seen, files=files
    )
    write_json(temporary / "state.json", manifest.model_dump())
    if folder.exists():
        shutil.rmtree(folder)
    temporary.replace(folder)
    return folder


def load_checkpoint(folder: Path, state: TrainingState) -> None:
    """Fills `state` from a checkpoint of the same configuration.

    Raises:
        UserError: If the checkpoint is damaged or of another configuration.
    """
    manifest = verify_checkpoint(folder)
    for name in MODULES:
        load_weights(getattr(state, name), folder / f"{name}.safetensors")
    state.load_optimizer_tensors(read_tensors(folder / OPTIMIZERS))
    state.step, state.images_seen = manifest.step, manifest.images_seen


def verify_checkpoint(folder: Path) -> CheckpointManifest:
    """The manifest of a checkpoint whose files are all there and unchanged.

    Raises:
        UserError: Naming the file that is missing or damaged, or the unknown format.
    """
    manifest = read_model(folder / "state.json", CheckpointManifest, "checkpoint")
    if manifest.format_version != FORMAT_VERSION:
        raise UserError(
            f"{folder} has checkpoint format {manifest.format_version}, this version of vitgan reads "
            f"{FORMAT_VERSION}: use the version of vitgan that wrote it"
        )
    for name in (*(f"{module}.safetensors" for module in MODULES), OPTIMIZERS):
        path = folder / name
        if not path.is_file():
            raise UserError(f"the checkpoint {folder} is incomplete: {name} is missing")
        if sha256(path) != manifest.files.get(name):
            raise UserError(f"the checkpoint file {path} is damaged: its SHA-256 is not the one in state.json")
    return manifest


def is_whole(folder: Path) -> bool:
    """Whether a checkpoint can be loaded."""
    try:
        verify_checkpoint(folder)
    except (UserError, ValidationError):
        return False
    return True


def checkpoints(run: Path) -> list[Path]:
    """Finished checkpoint folders of a run, oldest first; they may be damaged since."""
    return sorted(p for p in (run / "checkpoints").glob("[0-9]*k[0-9]*") if p.is_dir())


def latest_checkpoint(run: Path) -> Path | None:
    """The newest whole checkpoint of a run."""
    return next((folder for folder in reversed(checkpoints(run)) if is_whole(folder)), None)


class BestCheckpoint(Config):
    """What `best.json` holds: the checkpoint with the lowest score so far."""

    checkpoint: str
    name: str
    """The figure that was compared."""
    score: float


def remember_best(run: Path, images_seen: int, name: str, score: float) -> None:
    """Notes the checkpoint of `images_seen` images in `run`/best.json if its score is the lowest of this figure so far.

    It may be written just before the checkpoint itself: a best one that is not there counts for nothing.
    """
    best = best_checkpoint(run)
    if best is None or best.name != name or score < best.score:
        found = BestCheckpoint(checkpoint=checkpoint_name(images_seen), name=name, score=score)
        write_json(run / BEST, found.model_dump())


def best_checkpoint(run: Path) -> BestCheckpoint | None:
    """The best checkpoint that evaluations found, if it is there."""
    if not (run / BEST).exists():
        return None
    best = read_model(run / BEST, BestCheckpoint, "best checkpoint")
    return best if (run / "checkpoints" / Path(best.checkpoint).name).is_dir() else None


def prune_checkpoints(run: Path, keep: int) -> None:
    """Removes all but the newest `keep` whole checkpoints and the best one; 0 keeps everything."""
    if keep > 0:
        best = best_checkpoint(run)
        whole = [folder for folder in checkpoints(run) if is_whole(folder)]
        for folder in whole[:-keep]:
            if best is None or folder.name != best.checkpoint:
                shutil.rmtree(folder)
