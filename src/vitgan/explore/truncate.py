"""The truncation trick: variety against typicality."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vitgan.errors import UserError
from vitgan.explore.latents import OnProgress, render, styles_of_seeds
from vitgan.models.generator import Generator


@torch.inference_mode()
def truncate(
    generator: Generator,
    seeds: Sequence[int],
    psis: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25),
    label: int | None = None,
    on_progress: OnProgress | None = None,
) -> Tensor:
    """Each seed at each psi: 0 is the mean image, 1 the plain one, above 1 exaggerates.

    Returns:
        (seeds, psis, C, H, W), float32 in [-1, 1].
    """
    if not psis:
        raise UserError("no psi was given: pass at least one")
    w = styles_of_seeds(generator, seeds, 1.0, label)
    styles = torch.stack([generator.styles(w, psi) for psi in psis], dim=1).flatten(0, 1)
    return render(generator, styles, on_progress=on_progress).unflatten(0, (len(seeds), len(psis)))
