"""Walks through latent space."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from vitgan.errors import UserError
from vitgan.explore.latents import OnProgress, labels_of_seeds, lerp, render, slerp, walk
from vitgan.models.generator import Generator, latents_of_seeds


@torch.inference_mode()
def interpolate(
    generator: Generator,
    seeds: Sequence[int],
    steps: int = 30,
    space: Literal["z", "w"] = "z",
    way: Literal["spherical", "linear"] = "spherical",
    loop: bool = True,
    truncation: float = 1.0,
    label: int | str | None = None,
    on_progress: OnProgress | None = None,
) -> Tensor:
    """Frames of a walk through the images of several seeds.

    Args:
        generator: The model.
        seeds: The images to pass through, two or more.
        steps: Frames from one to the next.
        space: Walk among latents z, in one class, or among styles w (evener changes).
        way: Along arcs or straight lines; in w, arcs are drawn around the mean style.
        loop: Return to the first.
        truncation: psi of the truncation trick.
        label: Class of a conditional model; default the first seed's in z, each seed's own in w.
        on_progress: Called with (frames done, frames in all).

    Returns:
        (frames, C, H, W), float32 in [-1, 1]; frame k · steps is the image of the k-th seed.

    Raises:
        UserError: If there are fewer than two seeds or no steps.
    """
    if len(seeds) < 2:
        raise UserError("an interpolation needs at least two seeds", "seeds")
    if steps < 1:
        raise UserError(f"steps {steps} is too few: pass 1 or more", "steps")
    join = slerp if way == "spherical" else lerp
    mean = generator.w_mean
    z = latents_of_seeds(seeds, generator.z_dim).to(mean.device)
    if space == "z":
        z = walk(z, steps, join, loop)
        w = generator.mapping(z, labels_of_seeds(generator, [seeds[0]] * len(z), label))
    else:
        points = generator.mapping(z, labels_of_seeds(generator, seeds, label)) - mean
        w = walk(points, steps, join, loop) + mean
    return render(generator, generator.styles(w, truncation), on_progress)
