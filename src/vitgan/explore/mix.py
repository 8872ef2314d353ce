"""Style mixing: early layers follow one latent, late layers another."""

import torch
from torch import Tensor

from vitgan.errors import UserError
from vitgan.explore.latents import OnProgress, render
from vitgan.models.generator import Generator


def mixed_styles(generator: Generator, early: Tensor, late: Tensor, layer: int) -> Tensor:
    """Styles that follow `early` before `layer` and `late` from there on.

    Args:
        generator: The model.
        early: w (B, w_dim).
        late: w (B, w_dim).
        layer: 0 is all `late`, `generator.num_styles` all `early`.

    Returns:
        (B, num_styles, w_dim).

    Raises:
        UserError: If the layer is out of range or the generator takes w in one place only.
    """
    if generator.num_styles < 2:
        raise UserError("this generator takes the latent in one place only: there are no layers to mix")
    if not 0 <= layer <= generator.num_styles:
        raise UserError(f"layer {layer} is out of range: choose 0 to {generator.num_styles}")
    first = torch.arange(generator.num_styles, device=early.device) < layer
    return torch.where(first[None, :, None], early.unsqueeze(1), late.unsqueeze(1))


@torch.inference_mode()
def mix(
    generator: Generator, early: Tensor, late: Tensor, layer: int | None = None, on_progress: OnProgress | None = None
) -> Tensor:
    """All mixtures of two lists of styles at one layer.

    Args:
        generator: The model.
        early: w (E, w_dim), from `styles_of_seeds`: what the layers before `layer` take.
        late: w (L, w_dim): what the others take.
        layer: See `mixed_styles`; None is the last.
        on_progress: Called with (images done, images in all).

    Returns:
        (1 + E, 1 + L, C, H, W), float32 in [-1, 1]: the pure images of `late` in row 0, those of `early` in column 0,
        mixtures inside. The corner (0, 0) is white.
    """
    layer = generator.num_styles - 1 if layer is None else layer
    rows, columns = len(early), len(late)
    mixtures = mixed_styles(generator, early.repeat_interleave(columns, 0), late.repeat(rows, 1), layer)
    styles = torch.cat([generator.styles(early), generator.styles(late), mixtures])
    images = render(generator, styles, on_progress)
    grid = images.new_ones(rows + 1, columns + 1, *images.shape[1:])
    grid[1:, 0], grid[0, 1:] = images[:rows], images[rows : rows + columns]
    grid[1:, 1:] = images[rows + columns :].unflatten(0, (rows, columns))
    return grid


@torch.inference_mode()
def crossover(generator: Generator, early: Tensor, late: Tensor) -> Tensor:
    """One pair of w (1, w_dim) mixed at every layer: (num_styles + 1, C, H, W), from all `late` to all `early`."""
    layers = range(generator.num_styles + 1)
    return render(generator, torch.cat([mixed_styles(generator, early, late, layer) for layer in layers]))
