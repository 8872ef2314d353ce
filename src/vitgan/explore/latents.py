"""From seeds to latents, styles and images: walks, mixtures and truncation."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from vitgan.errors import UserError
from vitgan.models.draws import latents_of_seeds
from vitgan.models.generator import Generator

OnProgress = Callable[[int, int], None]


def labels_of_seeds(generator: Generator, seeds: Sequence[int], label: int | str | None) -> Tensor | None:
    """Class indices (K,): one class by name or index, or each seed's own; None for an unconditional model.

    Raises:
        UserError: If the model has no such class, or no classes.
    """
    if label is None:
        return generator.classes_of_seeds(seeds)
    return torch.full((len(seeds),), generator.class_of(label), device=generator.w_mean.device)


@torch.inference_mode()
def styles_of_seeds(
    generator: Generator, seeds: Sequence[int], truncation: float = 1.0, label: int | str | None = None
) -> Tensor:
    """w (K, w_dim) of the seeds' latents, as `vitgan sample` draws them, pulled towards the mean style by `truncation`."""
    z = latents_of_seeds(seeds, generator.z_dim).to(generator.w_mean.device)
    labels = labels_of_seeds(generator, seeds, label)
    return generator.styles(generator.mapping(z, labels), truncation, labels)[:, 0]


@torch.inference_mode()
def render(generator: Generator, styles: Tensor, on_progress: OnProgress | None = None) -> Tensor:
    """Images (B, C, H, W), float32 clipped to [-1, 1], of styles (B, num_styles, w_dim), a batch at a time."""
    images, batch_size = [], generator.fast_batch()
    for start in range(0, len(styles), batch_size):
        images.append(generator.to_images(generator.synthesis(styles[start : start + batch_size])).clamp(-1, 1))
        if on_progress:
            on_progress(min(start + batch_size, len(styles)), len(styles))
    return torch.cat(images)


@torch.inference_mode()
def truncate(
    generator: Generator,
    w: Tensor,
    psis: Sequence[float],
    on_progress: OnProgress | None = None,
    labels: Tensor | None = None,
) -> Tensor:
    """Each style w (B, w_dim) at each psi: 0 is the mean image, 1 the plain one, above 1 exaggerates.

    Args:
        generator: The model.
        w: Styles.
        psis: Of the truncation trick.
        on_progress: Called with (images done, images in all).
        labels: (B,) int64, the styles' classes: the mean image is then that of the class.

    Returns:
        (B, psis, C, H, W), float32 in [-1, 1].

    Raises:
        UserError: If there is no psi.
    """
    if not psis:
        raise UserError("no psi was given: pass at least one", "psis")
    styles = torch.stack([generator.styles(w, psi, labels) for psi in psis], dim=1).flatten(0, 1)
    return render(generator, styles, on_progress).unflatten(0, (len(w), len(psis)))


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
        raise UserError(f"layer {layer} is out of range: choose 0 to {generator.num_styles}", "layer")
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
        labels = labels_of_seeds(generator, [seeds[0]] * len(z), label)
        styles = generator.styles(generator.mapping(z, labels), truncation, labels)
    else:
        points = styles_of_seeds(generator, seeds, truncation, label) - mean
        styles = generator.styles(walk(points, steps, join, loop) + mean)
    return render(generator, styles, on_progress)


def lerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """The straight line from a to b: (d,), (d,), t (T,) in [0, 1] -> (T, d)."""
    return a + (b - a) * t.unsqueeze(1)


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """The arc from a to b at constant angular speed, the length changing evenly: (d,), (d,), t (T,) -> (T, d).

    Between normal latents a straight line passes through vectors that are too short to be typical; an arc does not
    (Shoemake 1985). Vectors in (nearly) one line are joined by the straight line.
    """
    from_a, from_b = a / a.norm(), b / b.norm()
    angle = torch.acos((from_a @ from_b).clamp(-1, 1))
    if angle < 1e-4 or torch.pi - angle < 1e-4 or not torch.isfinite(angle):
        return lerp(a, b, t)
    t = t.unsqueeze(1)
    direction = (torch.sin((1 - t) * angle) * from_a + torch.sin(t * angle) * from_b) / torch.sin(angle)
    return direction * (a.norm() * (1 - t) + b.norm() * t)


def walk(points: Tensor, steps: int, way: Callable[[Tensor, Tensor, Tensor], Tensor], loop: bool) -> Tensor:
    """Through all points (K, d) in turn, `steps` frames from each to the next: (frames, d).

    Each point is met exactly once; a loop goes back to the first without repeating it, an open walk ends on the last.
    """
    following = points.roll(-1, 0) if loop else points[1:]
    t = torch.arange(steps, device=points.device) / steps
    legs = [way(a, b, t) for a, b in zip(points, following, strict=False)]
    # The first frame of a leg is the point itself, not what rounding makes of it.
    for leg, point in zip(legs, points, strict=False):
        leg[0] = point
    return torch.cat(legs if loop else [*legs, points[-1:]])
