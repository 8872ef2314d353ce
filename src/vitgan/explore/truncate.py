"""The truncation trick: variety against typicality."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vitgan.errors import UserError
from vitgan.explore.latents import OnProgress, render
from vitgan.models.generator import Generator


@torch.inference_mode()
def truncate(generator: Generator, w: Tensor, psis: Sequence[float], on_progress: OnProgress | None = None) -> Tensor:
    """Each style w (B, w_dim) at each psi: 0 is the mean image, 1 the plain one, above 1 exaggerates.

    Returns:
        (B, psis, C, H, W), float32 in [-1, 1].
    """
    if not psis:
        raise UserError("no psi was given: pass at least one", "psis")
    styles = torch.stack([generator.styles(w, psi) for psi in psis], dim=1).flatten(0, 1)
    return render(generator, styles, on_progress).unflatten(0, (len(w), len(psis)))
