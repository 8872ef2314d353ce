"""From seeds or found styles to images: walks, mixtures and truncation.

All of these give styles (..., num_styles, w_dim), one for each place of the synthesis. `render` makes images of them.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, get_args

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from vitgan.errors import UserError
from vitgan.files.tensors import DIGEST, digest, read_tensors
from vitgan.files.writing import write_bytes
from vitgan.models.draws import checked_choice, checked_count, checked_number, latents_of_seeds
from vitgan.models.generator import Generator, checked_images
from vitgan.pretrained.generators import weights_digest

MODEL = "model"
"""Where the header of a file of styles has the digest of the model's weights."""

Space = Literal["z", "w"]
Way = Literal["spherical", "linear"]
OnProgress = Callable[[int, int], None]
Point = int | Tensor
"""What stands for an image: its seed, or its styles (num_styles, w_dim), such as `invert` finds."""


@torch.inference_mode()
def render(generator: Generator, styles: Tensor, on_progress: OnProgress | None = None) -> Tensor:
    """Styles (..., num_styles, w_dim) -> images (..., C, H, W), float32 clipped to [-1, 1], a batch at a time.

    Raises:
        UserError: If the model makes numbers that are not finite.
    """
    every, images, batch_size = styles.flatten(0, -3), [], generator.fast_batch()
    for start in range(0, len(every), batch_size):
        images.append(checked_images(generator.images_of(every[start : start + batch_size])))
        if on_progress:
            on_progress(min(start + batch_size, len(every)), len(every))
    return torch.cat(images).unflatten(0, styles.shape[:-2])


def write_styles(path: Path, generator: Generator, styles: Tensor) -> None:
    """Writes the styles (1, num_styles, w_dim) of an image as safetensors, with the digest of the model they are of."""
    tensors = {"styles": styles.detach().cpu().contiguous()}
    write_bytes(path, save(tensors, metadata={DIGEST: digest(tensors), MODEL: weights_digest(generator)}))


def read_styles(path: Path, generator: Generator) -> Tensor:
    """The styles (num_styles, w_dim) that `write_styles` wrote for the same model.

    Raises:
        UserError: If the file is not there, holds no styles, or was written for a model of other weights.
    """
    wanted = "take a file that `vitgan explore invert --styles-out` wrote"
    if not path.exists():
        raise UserError(f"there is no {path}: {wanted}")
    styles = read_tensors(path).get("styles")
    if styles is None or styles.ndim != 3 or len(styles) != 1 or not styles.isfinite().all():
        raise UserError(f"{path} holds no styles: {wanted}")
    with safe_open(path, framework="pt") as file:
        model = (file.metadata() or {}).get(MODEL)
    if model is None:
        raise UserError(f"{path} does not say which model its styles are of: {wanted}")
    if model != weights_digest(generator):
        raise UserError(f"the styles in {path} were found in another model: invert the photo in this one, or take that")
    return styles[0]


def check_one(generator: Generator, styles: Tensor, parameter: str = "styles") -> None:
    """Refuses styles that are not those of one image of the model.

    Raises:
        UserError: If they are not (1, num_styles, w_dim).
    """
    found, expected = tuple(styles.shape), (1, generator.num_styles, generator.w_dim)
    if found != expected:
        raise UserError(f"{parameter} has the shape {found}, one image's {expected}: pass those of one", parameter)


def labels_of_seeds(generator: Generator, seeds: Sequence[int], label: int | str | None) -> Tensor | None:
    """Class indices (K,): one class by name or index, or each seed's own; None for an unconditional model."""
    if label is None:
        return generator.classes_of_seeds(seeds)
    return torch.full((len(seeds),), generator.class_of(label), device=generator.device)


@torch.inference_mode()
def styles_of(
    generator: Generator, seeds: Sequence[Point], truncation: float = 1.0, label: int | str | None = None
) -> Tensor:
    """Styles (K, num_styles, w_dim) of images, pulled towards the mean style by `truncation`.

    Args:
        generator: The model.
        seeds: Seeds, whose latents are those of `vitgan sample`; or styles that are known.
        truncation: psi of the truncation trick.
        label: Class of a conditional model; by default each seed has one of its own, and known styles go to the mean of all.

    Raises:
        UserError: If there are none, a seed is out of range, styles are of another model, psi is not finite, or the model
            has no such class.
    """
    if len(seeds) == 0:
        raise UserError("no seeds were given: pass at least one", "seeds")
    return torch.cat([_styles_of_one(generator, seed, truncation, label) for seed in seeds])


def _styles_of_one(generator: Generator, point: Point, truncation: float, label: int | str | None) -> Tensor:
    """(1, num_styles, w_dim)."""
    if not isinstance(point, Tensor) or point.ndim == 0:
        z = latents_of_seeds([point], generator.z_dim).to(generator.device)
        labels = labels_of_seeds(generator, [int(point)], label)
        return generator.styles(generator.mapping(z, labels), truncation, labels)
    found, expected = tuple(point.shape), (generator.num_styles, generator.w_dim)
    if found != expected:
        raise UserError(f"the styles are {found}, this model's {expected}: they were found in another", "seeds")
    mean = generator.w_mean if label is None else generator.class_means()[generator.class_of(label)]
    return mean.lerp(point.to(mean), checked_number(truncation, "truncation")).unsqueeze(0)


def truncate(
    generator: Generator, seeds: Sequence[Point], psis: Sequence[float], label: int | str | None = None
) -> Tensor:
    """Each image at each psi: 0 is the mean image, 1 the plain one, above 1 exaggerates.

    Returns:
        (seeds, psis, num_styles, w_dim).

    Raises:
        UserError: If there is no psi, or one is not finite.
    """
    if not psis:
        raise UserError("no psi was given: pass at least one", "psis")
    return torch.stack([styles_of(generator, seeds, checked_number(psi, "psis"), label) for psi in psis], dim=1)


def mixed_styles(generator: Generator, early: Tensor, late: Tensor, layer: int) -> Tensor:
    """Styles that follow `early` before `layer` and `late` from there on.

    Args:
        generator: The model.
        early: (..., num_styles, w_dim).
        late: (..., num_styles, w_dim).
        layer: 0 is all `late`, `generator.num_styles` all `early`.

    Returns:
        (..., num_styles, w_dim).

    Raises:
        UserError: If the layer is out of range or the generator takes w in one place only.
    """
    if generator.num_styles < 2:
        raise UserError("this generator takes the latent in one place only: there are no layers to mix")
    if layer not in range(generator.num_styles + 1):
        raise UserError(f"layer {layer} is out of range: choose 0 to {generator.num_styles}", "layer")
    first = torch.arange(generator.num_styles, device=early.device) < layer
    return torch.where(first.unsqueeze(1), early, late)


def mix(generator: Generator, early: Tensor, late: Tensor, layer: int | None = None) -> Tensor:
    """All mixtures of two lists of styles at one layer.

    Args:
        generator: The model.
        early: (E, num_styles, w_dim), from `styles_of`: what the layers before `layer` take.
        late: (L, num_styles, w_dim): what the others take.
        layer: See `mixed_styles`; None is the last.

    Returns:
        (1 + E, 1 + L, num_styles, w_dim): `late` alone in row 0, `early` alone in column 0, mixtures inside. The corner
        (0, 0) is the mean style.
    """
    mixtures = mixed_styles(generator, early.unsqueeze(1), late, generator.num_styles - 1 if layer is None else layer)
    top = torch.cat([generator.styles(generator.w_mean.unsqueeze(0)), late])
    return torch.cat([top.unsqueeze(0), torch.cat([early.unsqueeze(1), mixtures], dim=1)])


def crossover(generator: Generator, early: Tensor, late: Tensor) -> Tensor:
    """Two styles (1, num_styles, w_dim) mixed at every layer, from all `late` to all `early`: (num_styles + 1, ...).

    Raises:
        UserError: If one is not that of one image, or the generator takes w in one place only.
    """
    check_one(generator, early, "early")
    check_one(generator, late, "late")
    layers = range(generator.num_styles + 1)
    return torch.cat([mixed_styles(generator, early, late, layer) for layer in layers])


@torch.inference_mode()
def interpolate(
    generator: Generator,
    seeds: Sequence[Point],
    steps: int = 30,
    space: Space = "z",
    way: Way = "spherical",
    loop: bool = True,
    truncation: float = 1.0,
    label: int | str | None = None,
) -> Tensor:
    """A walk through several images.

    Args:
        generator: The model.
        seeds: The images to pass through, two or more.
        steps: Frames from one to the next.
        space: Walk among latents z, in one class, or among styles w (evener changes). Known styles have no z.
        way: Along arcs or straight lines; in w, arcs are drawn around the mean style.
        loop: Return to the first.
        truncation: psi of the truncation trick.
        label: Class of a conditional model; default the first seed's in z, each seed's own in w.

    Returns:
        (frames, num_styles, w_dim); frame k · steps is the k-th seed's.

    Raises:
        UserError: If there are fewer than two seeds, no steps, no such space or way, or known styles in z.
    """
    if len(seeds) < 2:
        raise UserError("an interpolation needs at least two seeds", "seeds")
    steps = checked_count(steps, "steps")
    checked_choice(space, get_args(Space), "space")
    checked_choice(way, get_args(Way), "way")
    join = slerp if way == "spherical" else lerp
    if space == "w":
        styles = (styles_of(generator, seeds, truncation, label) - generator.w_mean).flatten(1)
        return walk(styles, steps, join, loop).unflatten(1, (generator.num_styles, -1)) + generator.w_mean
    plain = [seed for seed in seeds if not isinstance(seed, Tensor) or seed.ndim == 0]
    if len(plain) < len(seeds):
        raise UserError("styles that were found have no z: walk in w", "space")
    z = walk(latents_of_seeds(plain, generator.z_dim).to(generator.device), steps, join, loop)
    labels = labels_of_seeds(generator, [int(plain[0])] * len(z), label)
    return generator.styles(generator.mapping(z, labels), truncation, labels)


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
