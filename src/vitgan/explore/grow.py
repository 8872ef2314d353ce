"""The training history of fixed latents, from a run's checkpoints."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from vitgan.errors import UserError
from vitgan.explore.latents import OnProgress
from vitgan.pretrained.generators import load
from vitgan.training.checkpoint import checkpoints, is_whole


class Age(NamedTuple):
    """What the generator made at one moment of its training.

    Attributes:
        name: The checkpoint's: "000200k064" is 200,064 images.
        images: (count, C, H, W), float32 in [-1, 1].
    """

    name: str
    images: Tensor


def grow(
    run: Path, count: int = 16, seed: int = 0, truncation: float = 1.0, on_progress: OnProgress | None = None
) -> Iterator[Age]:
    """The same latents through every whole checkpoint of a run, oldest first.

    Args:
        run: The run's folder.
        count: Images.
        seed: Of the latents.
        truncation: psi of the truncation trick.
        on_progress: Called with (checkpoints done, checkpoints in all).

    Raises:
        UserError: If the run has no whole checkpoint.
    """
    whole = [folder for folder in checkpoints(run) if is_whole(folder)]
    if not whole:
        raise UserError(f"{run} has no whole checkpoints: pass the folder of a run (`vitgan info` lists them)")
    for done, folder in enumerate(whole, start=1):
        yield Age(folder.name, load(folder).sample(count, seed, truncation))
        if on_progress:
            on_progress(done, len(whole))
