"""The latent of a given picture: a style is moved by gradient until its image looks like the target."""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from vitgan.devices import usual_torch
from vitgan.errors import UserError
from vitgan.explore.directions import style_spread
from vitgan.models.draws import checked_choice, checked_count, draw_latents
from vitgan.models.generator import Generator, check_finite, checked_images

STARTS = 256
FoundSpace = Literal["w", "w+"]
Features = Callable[[Tensor], Tensor]


class Inversion(NamedTuple):
    """What `invert` returns.

    Attributes:
        styles: (1, num_styles, w_dim).
        image: (1, C, H, W), float32 in [-1, 1].
        psnr: Of the image against the target, decibels, peak 2 (the range [-1, 1]).
    """

    styles: Tensor
    image: Tensor
    psnr: float


def psnr(image: Tensor, target: Tensor) -> float:
    """Peak signal-to-noise ratio in decibels of images in [-1, 1]."""
    return (10 * torch.log10(4 / (image - target).square().mean().clamp_min(1e-12))).item()


@usual_torch()
def invert(
    generator: Generator,
    target: Tensor,
    features: Features | None = None,
    space: FoundSpace = "w+",
    steps: int = 600,
    learning_rate: float = 0.1,
    perceptual_weight: float = 0.1,
    seed: int = 0,
    on_step: Callable[[int, Tensor], object] | None = None,
) -> Inversion:
    """Finds styles whose image is the target's.

    Starts from the nearest of 256 random images and the mean style, and follows Adam on the pixels' mean squared error,
    with `features` plus their relative squared distance; the learning rate falls to 0 along a half cosine.

    Args:
        generator: The model; its weights are left alone.
        target: (1, C, H, W) in [-1, 1], of the model's size.
        features: (B, C, H, W) in [-1, 1] -> (B, F), differentiable; None is pixels alone.
        space: One style for all layers ("w"), or one for each ("w+": nearer to the target, further from typical images).
        steps: Gradient steps.
        learning_rate: Adam's, in units of the styles' own spread per dimension.
        perceptual_weight: Weight of the features' term.
        seed: Of the random images.
        on_step: Called with (steps done, the image (1, C, H, W) in [-1, 1] before the last of them) after every step.

    Raises:
        UserError: If the target has another size or is not finite, the space is unknown, there are no steps, or the loss or
            the model's images are not finite.
    """
    expected = (1, generator.image_channels, generator.image_size, generator.image_size)
    if tuple(target.shape) != expected:
        raise UserError(
            f"the picture has the shape {tuple(target.shape)}, the model makes {expected}: bring it to that",
            "target",
        )
    if not target.isfinite().all():
        raise UserError("the picture has values that are not finite: pass numbers in [-1, 1]", "target")
    checked_choice(space, get_args(FoundSpace), "space")
    steps = checked_count(steps, "steps")
    dtype = torch.promote_types(generator.w_mean.dtype, torch.float32)
    target = target.to(generator.device, dtype, copy=True)  # one of `render` is an inference tensor
    wanted = features(target) if features is not None else None
    start = _nearest_start(generator, target, seed)
    scale = style_spread(generator) / generator.w_dim**0.5
    places = generator.num_styles if space == "w+" else 1
    moved = torch.zeros(1, places, generator.w_dim, device=target.device, requires_grad=True)
    optimizer = torch.optim.Adam([moved], lr=learning_rate, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    best, best_loss = moved.detach().clone(), float("inf")
    for step in range(steps):
        image = generator.images_of((start + moved * scale).expand(-1, generator.num_styles, -1))
        loss = F.mse_loss(image, target)
        if features is not None and wanted is not None:
            loss = loss + perceptual_weight * (features(image) - wanted).square().sum() / wanted.square().sum()
        if loss.item() < best_loss:
            best, best_loss = moved.detach().clone(), loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if on_step:
            on_step(step + 1, image.detach().clamp(-1, 1))
    if not math.isfinite(best_loss):
        raise UserError("the loss was finite at no step: lower perceptual_weight, or pass features that are finite")
    with torch.no_grad():
        styles = (start + best * scale).expand(-1, generator.num_styles, -1)
        image = checked_images(generator.images_of(styles))
    return Inversion(styles, image, psnr(image, target))


@torch.no_grad()
def _nearest_start(generator: Generator, target: Tensor, seed: int) -> Tensor:
    """(1, 1, w_dim): the style, of 256 random ones and the mean, whose image has the smallest squared error."""
    z = draw_latents(STARTS, generator.z_dim, seed).to(target.device)
    w = torch.cat([generator.w_mean.unsqueeze(0), generator.mapping(z, generator.labels(STARTS))])
    images = (generator.images_of(generator.styles(part)) for part in w.split(32))
    errors = torch.cat([(image - target).square().mean((1, 2, 3)) for image in images])
    check_finite(errors)
    return w[errors.argmin()].view(1, 1, -1)
