"""From seeds to latents and styles, as `vitgan sample` draws them, and ways between two points."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vitgan.models.generator import Generator, latents_of_seeds

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
    """w (K, w_dim) of the seeds' latents, pulled towards the mean style by `truncation`."""
    z = latents_of_seeds(seeds, generator.z_dim).to(generator.w_mean.device)
    w = generator.mapping(z, labels_of_seeds(generator, seeds, label))
    return generator.styles(w, truncation)[:, 0]


@torch.inference_mode()
def render(generator: Generator, styles: Tensor, on_progress: OnProgress | None = None) -> Tensor:
    """Images (B, C, H, W), float32 clipped to [-1, 1], of styles (B, num_styles, w_dim), a batch at a time."""
    images, batch_size = [], generator.fast_batch()
    for start in range(0, len(styles), batch_size):
        images.append(generator.synthesis(styles[start : start + batch_size]).float().clamp(-1, 1))
        if on_progress:
            on_progress(min(start + batch_size, len(styles)), len(styles))
    return torch.cat(images)


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
