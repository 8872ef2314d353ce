"""Which checkpoints of a run stay: the newest few and the best. What a killed process left is removed."""

import math
import re
from contextlib import suppress
from pathlib import Path

from vitgan.errors import UserError
from vitgan.files import read_model, user_error, write_json
from vitgan.files.tensors import recorded_digest
from vitgan.schema import Config
from vitgan.training.checkpoint import (
    TENSOR_FILES,
    checkpoint_name,
    checkpoints,
    read_manifest,
    remove,
    remove_files,
)

BEST = "best.json"
IN_WORK = re.compile(r"\.\d{6,}k\d{3}(\.removed)?\.part")
GRID_IN_WORK = re.compile(r"\.\d{6,}k\d{3}\.\d+\.part\.png")


class BestCheckpoint(Config):
    """What `best.json` holds: the checkpoint with the lowest score so far."""

    checkpoint: str
    name: str
    """What was compared (`Evaluation.name`)."""
    score: float


def remember_best(run: Path, images_seen: int, name: str, score: float) -> bool:
    """Notes the checkpoint of `images_seen` images in `run`/best.json if its score is the lowest of this metric so far.

    The checkpoint exists already. A score that is not finite is never the best. Returns whether it is the best.
    """
    best = best_checkpoint(run)
    better = math.isfinite(score) and (best is None or best.name != name or score < best.score)
    if better:
        found = BestCheckpoint(checkpoint=checkpoint_name(images_seen), name=name, score=score)
        write_json(run / BEST, found.model_dump())
    return better


def best_checkpoint(run: Path) -> BestCheckpoint | None:
    """The best checkpoint that evaluations found, if it is there.

    Raises:
        UserError: If the file that names it is damaged.
    """
    if not (run / BEST).exists():
        return None
    advice = f"delete {BEST}, and the next evaluation begins it anew"
    with user_error("cannot tell the best checkpoint", UserError, advice=advice):
        best = read_model(run / BEST, BestCheckpoint, "best checkpoint")
    return best if (run / "checkpoints" / Path(best.checkpoint).name).is_dir() else None


def prune_checkpoints(run: Path, keep: int, newest: str) -> None:
    """Removes all but the newest `keep` checkpoints and the best one; 0 keeps everything.

    Only manifests and headers are read: damage behind them is found when the checkpoint is loaded.

    Args:
        run: The run's folder.
        keep: How many stay.
        newest: Name of the checkpoint that the run stands at. Newer ones were damaged, and do not count.
    """
    if keep > 0:
        best = best_checkpoint(run)
        ours = [folder for folder in checkpoints(run) if folder.name <= newest and _is_complete(folder)]
        for folder in ours[:-keep]:
            if best is None or folder.name != best.checkpoint:
                with suppress(OSError):  # room that is not freed stops no run; nor is a folder that holds notes removed
                    remove(folder)


def _is_complete(folder: Path) -> bool:
    """Whether a folder is the checkpoint that its name says (no copy), and its files have their lengths."""
    try:
        manifest = read_manifest(folder)
        digests = {name: recorded_digest(folder / name) for name in TENSOR_FILES}
    except UserError:
        return False
    return digests == manifest.files and checkpoint_name(manifest.images_seen) == folder.name


def remove_leftovers(run: Path) -> None:
    """Removes what a killed process was writing or removing. The caller must hold the run's lock."""
    for folder in (run / "checkpoints").glob(".*k[0-9]*.part"):
        if IN_WORK.fullmatch(folder.name):
            remove_files(folder)
    for file in (run / "samples").glob(".*.part.png"):
        if GRID_IN_WORK.fullmatch(file.name):
            file.unlink()
