"""Trackers: programs that show runs to people. accelerate logs numbers; images are logged in each tracker's own way."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from accelerate.tracking import get_available_trackers
from PIL.Image import Image

from vitgan.errors import UserError

PROJECT = "vitgan"
SAMPLES = "samples"


def check_trackers(names: tuple[str, ...]) -> None:
    """Refuses trackers that accelerate does not know, that are not installed, or that are named twice."""
    installed = sorted(str(kind) for kind in get_available_trackers())
    for name in names:
        if name not in installed or names.count(name) > 1:
            raise UserError(
                f"the tracker {name!r} is unknown, not installed or named twice: choose from {', '.join(installed)}",
                "training.trackers",
            )


def tracker_options(run: Path) -> dict[str, dict[str, Any]]:
    """What each is told at its start, so that it calls the run by its name."""
    return {
        "wandb": {"name": run.name, "dir": str(run)},
        "trackio": {"name": run.name},
        "mlflow": {"run_name": run.name},
    }


def tell_configuration(tracker: Any, values: dict[str, Any]) -> None:
    """Tells a tracker the values of a run's configuration by their dotted names."""
    if tracker.name == "tensorboard":  # accelerate would make a second run of it
        rows = "\n".join(f"| {name} | {json.dumps(value)} |" for name, value in values.items())
        tracker.tracker.add_text("config", f"| field | value |\n| --- | --- |\n{rows}")
        return
    plain = (bool, int, float, str)
    tracker.store_init_configuration({n: v if isinstance(v, plain) else json.dumps(v) for n, v in values.items()})


def tell_images(tracker: Any, grid: Image, images_seen: int) -> None:
    """Shows a tracker a sample grid; one that takes no images is not asked."""
    pixels = np.asarray(grid.convert("RGB"))  # (H, W, 3) uint8
    match tracker.name:
        case "tensorboard":
            tracker.tracker.add_image(SAMPLES, pixels, images_seen, dataformats="HWC")
        case "wandb" | "swanlab":
            tracker.log_images({SAMPLES: [pixels]}, step=images_seen)
        case "aim" | "clearml":
            tracker.log_images({SAMPLES: pixels}, step=images_seen)
        case "mlflow":
            import mlflow  # pyright: ignore[reportMissingImports]

            mlflow.log_image(pixels, key=SAMPLES, step=images_seen)
        case "trackio":
            import trackio  # pyright: ignore[reportMissingImports]

            tracker.log({SAMPLES: trackio.Image(pixels)}, step=images_seen)
        case _:
            pass
