"""`vitgan explore WAY MODEL`: ways of looking at a trained generator."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from pydantic import Field

from vitgan.cli.arguments import (
    AnimationFile,
    Count,
    Device,
    Frames,
    FramesPerSecond,
    Index,
    Label,
    Model,
    PictureFile,
    Point,
    Points,
    Psi,
    Seed,
    Size,
    TensorFile,
    Truncation,
    Usual,
    check_different,
    check_useless,
    open_model,
)
from vitgan.cli.parsing import Group
from vitgan.cli.progress import progress_bar
from vitgan.errors import UserError
from vitgan.explore.sheet import captioned, picture, save_animation, save_sheet, sheet
from vitgan.files import user_error, whole_file
from vitgan.files.pictures import check_animation_size, check_picture_size, check_rate, enlargement, image_grid

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import torch
    from torch import Tensor

    from vitgan.models.generator import Generator

Amount = Annotated[float, Field(ge=-100, le=100)]
Pixel = Annotated[float, Field(ge=0, le=4096)]


def interpolate(
    model: Model,
    seeds: Points = (0, 1, 2, 3),
    steps: Frames = 30,
    space: Literal["z", "w"] = "z",
    way: Literal["spherical", "linear"] = "spherical",
    loop: bool = True,
    frames_per_second: FramesPerSecond = 20,
    size: Size = 256,
    truncation: Truncation = 1.0,
    label: Label = None,
    device: Device = "cpu",
    out: AnimationFile = Usual("interpolate.gif"),
) -> None:
    """A walk through the images of several seeds.

    example: vitgan explore interpolate runs/00000-quickstart --seeds 0 1 2 3

    Args:
        seeds: Seeds of the images that the walk passes through, or files of styles that `invert` found (in w).
        steps: Frames from one image to the next.
        space: Walk among latents (z) or among styles (w).
        way: Walk along arcs or along straight lines.
        loop: Return to the first image.
        out: A .gif, .webp or .mp4 animation, or a .png strip.
    """
    from vitgan.explore import latents

    still = is_still(out)
    if still:
        check_useless(interpolate, "in a strip", frames_per_second=frames_per_second, size=size)
    else:
        check_rate(out, frames_per_second)
    check_animation_size(len(seeds) * steps, size, size)
    check_label(seeds, label, truncation)
    generator = open_model(model, device)
    points, names = images_of(generator, seeds)
    styles = latents.interpolate(generator, points, steps, space, way, loop, truncation, label)
    with progress_bar("Interpolating") as on_progress:
        frames = latents.render(generator, styles, on_progress)
    if still:
        legs = [list(leg) for leg in frames.split(steps)]
        if not loop:
            end = legs.pop()
            legs[-1] += end
        titles = [f"{a} to {b.removeprefix('seed ')}" for a, b in zip(names, [*names[1:], names[0]], strict=True)]
        save_sheet(out, legs, (), titles[: len(legs)])
    else:
        save_animation((picture(frame, size) for frame in frames), out, frames_per_second)
    print(f"{len(frames)} frames: {out}")


def is_still(path: Path) -> bool:
    """Whether a file is a picture that does not move."""
    return path.suffix.lower() == ".png"


def check_label(seeds: Points, label: str | None, truncation: float) -> None:
    """Refuses a class that would do nothing to styles in files, before the model is opened."""
    if label is not None and truncation == 1.0 and not any(isinstance(seed, int) for seed in seeds):
        raise UserError(
            "label does nothing to styles that were found, unless they are truncated: leave it out", "label"
        )


def images_of(generator: "Generator", seeds: Points) -> "tuple[list[int | Tensor], list[str]]":
    """What stands for the images, for `styles_of`, and what stands beside them: seeds, and the model's styles in files.

    Raises:
        UserError: If a file holds no styles, or those of another model.
    """
    from vitgan.explore.latents import read_styles

    points = [seed if isinstance(seed, int) else read_styles(seed, generator) for seed in seeds]
    return points, [f"seed {seed}" if isinstance(seed, int) else seed.stem for seed in seeds]


def mix(
    model: Model,
    early: Points = (0, 1, 2, 3),
    late: Points = (10, 11, 12, 13, 14),
    layer: Index | None = None,
    truncation: Truncation = 1.0,
    label: Label = None,
    device: Device = "cpu",
    out: PictureFile = Usual("mix.png"),
    layers_out: PictureFile | None = None,
) -> None:
    """A grid: early layers follow one latent, late layers another. Corner: the mean.

    example: vitgan explore mix runs/00000-quickstart --early 0 1 --late 10 11

    Args:
        early: Seeds whose styles the early layers take, or files of styles that `invert` found; each has a row.
        late: The same for the late layers; each has a column.
        layer: First layer that follows the late seeds; by default the last.
        out: File for the grid.
        layers_out: File for another picture: the first pair of seeds, mixed at every layer.
    """
    from vitgan.explore import latents

    check_different(out=out, layers_out=layers_out)
    check_label((*early, *late), label, truncation)
    generator = open_model(model, device)
    points, names = images_of(generator, (*early, *late))
    row_names, column_names = names[: len(early)], names[len(early) :]
    before, after = (
        latents.styles_of(generator, part, truncation, label) for part in (points[: len(early)], points[len(early) :])
    )
    styles = latents.mix(generator, before, after, layer)
    with progress_bar("Mixing") as on_progress:
        grid = latents.render(generator, styles, on_progress)
    save_sheet(out, grid, ["early \\ late", *column_names], ["", *row_names])
    print(f"mixtures: {out}")
    if layers_out is not None:
        strip = latents.render(generator, latents.crossover(generator, before[:1], after[:1]))
        save_sheet(
            layers_out, [strip], [f"layer {k}" for k in range(len(strip))], [f"{column_names[0]} to {row_names[0]}"]
        )
        print(f"the first pair at every layer: {layers_out}")


def truncate(
    model: Model,
    seeds: Points = (0, 1, 2, 3),
    psis: tuple[Psi, ...] = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25),
    label: Label = None,
    device: Device = "cpu",
    out: PictureFile = Usual("truncate.png"),
) -> None:
    """Each image at several psi: at 0 it is the mean image, at 1 it is unchanged.

    example: vitgan explore truncate runs/00000-quickstart --psis 0 0.5 0.7 1

    Args:
        seeds: Seeds of the images, or files of styles that `invert` found; each has a row.
        psis: Values of psi; each has a column.
        out: File for the picture.
    """
    from vitgan.explore import latents

    generator = open_model(model, device)
    points, names = images_of(generator, seeds)
    styles = latents.truncate(generator, points, psis, label)
    with progress_bar("Truncating") as on_progress:
        grid = latents.render(generator, styles, on_progress)
    save_sheet(out, grid, [f"psi {psi:g}" for psi in psis], names)
    print(f"truncations: {out}")


def directions(
    model: Model,
    seed: Point = 0,
    count: Count = 6,
    amounts: tuple[Amount, ...] = (-1, -0.5, -0.25, 0, 0.25, 0.5, 1),
    truncation: Truncation = 1.0,
    label: Label = None,
    device: Device = "cpu",
    out: PictureFile = Usual("directions.png"),
) -> None:
    """Moves an image along the directions that change images most (SeFa).

    example: vitgan explore directions runs/00000-quickstart --seed 3 --count 6

    Args:
        seed: Seed of the image, or a file of styles that `invert` found.
        count: How many directions, the strongest first; each has a row.
        amounts: How far to move, in units of a style's usual distance from the mean style; each has a column.
        out: File for the picture.
    """
    from vitgan.explore.directions import edit, find_directions
    from vitgan.explore.latents import render, styles_of

    check_label((seed,), label, truncation)
    generator = open_model(model, device)
    points, _ = images_of(generator, (seed,))
    found = find_directions(generator, count)
    styles = edit(generator, styles_of(generator, points, truncation, label), found, amounts)
    with progress_bar("Moving") as on_progress:
        grid = render(generator, styles, on_progress)
    rows = [f"{k} ({strength:.2g})" for k, strength in enumerate(found.strengths.tolist(), start=1)]
    save_sheet(out, grid, [f"{amount:+g}" if amount else "plain" for amount in amounts], rows)
    print(f"{count} directions (strength in brackets): {out}")


def zoom(
    model: Model,
    seeds: Points = (0, 1, 2),
    factors: tuple[Annotated[int, Field(ge=1, le=64)], ...] = (2, 4, 8),
    centre: tuple[Pixel, Pixel] | None = None,
    largest: Annotated[float, Field(ge=1, le=1000)] = 8.0,
    frames: Frames = 60,
    size: Size = 256,
    truncation: Truncation = 1.0,
    label: Label = None,
    device: Device = "cpu",
    out: AnimationFile = Usual("zoom.png"),
) -> None:
    """Draws an image at more pixels, beside bicubic (implicit decoders only).

    example: vitgan explore zoom runs/00001-cifar10-tiny --seeds 0 1 --factors 2 4 8

    Args:
        seeds: Seeds of the images, or files of styles that `invert` found; each has a row.
        factors: How many times as many pixels along each side; each has two columns.
        centre: Where the video zooms to, in pixels x y; by default the middle.
        largest: Largest magnification of the video.
        frames: Frames of the video.
        out: A .png of still images beside bicubic ones, or a .gif, .webp or .mp4: a video that zooms into the first seed.
    """
    from torch.nn.functional import avg_pool2d

    from vitgan.explore import zoom as zooming
    from vitgan.explore.invert import psnr
    from vitgan.explore.latents import styles_of

    still = is_still(out)
    if still:
        check_useless(zoom, "in stills", centre=centre, largest=largest, frames=frames, size=size)
    else:
        check_useless(zoom, "in a video", factors=factors)
        check_animation_size(frames, size, size)
    check_label(seeds, label, truncation)
    generator = open_model(model, device)
    points, names = images_of(generator, seeds)
    pixels = generator.image_size * max(factors, default=1)
    check_picture_size(pixels * len(points), pixels)
    styles = styles_of(generator, points, truncation, label)
    if not still:
        shown = []
        with progress_bar("Zooming", unit="frames") as on_progress:
            for frame in zooming.zoom_frames(generator, styles[:1], frames, largest, size, centre):
                shown.append(picture(frame[0], size))
                on_progress(len(shown), frames)
        save_animation(shown, out, frames_per_second=20)
        print(f"{frames} frames: {out}")
        return
    plain = zooming.zoom(generator, styles, 1)
    columns, titles = [plain], ["plain"]
    for factor in factors:
        dense = zooming.zoom(generator, styles, factor)
        columns += [dense, zooming.bicubic(plain, factor)]
        titles += [f"{factor}x rendered", f"{factor}x bicubic"]
        similarity = psnr(avg_pool2d(dense, factor), plain)
        print(
            f"factor {factor}: its mean over {factor}×{factor} pixels has PSNR {similarity:.1f} dB to the plain image"
        )
    save_sheet(out, zip(*columns, strict=True), titles, names, side=generator.image_size * 8)
    print(f"zooms: {out}")


def attention(
    model: Model,
    seed: Point = 0,
    queries: tuple[Index, ...] = (),
    truncation: Truncation = 1.0,
    label: Label = None,
    device: Device = "cpu",
    out: PictureFile = Usual("attention.png"),
    discriminator_out: PictureFile | None = None,
) -> None:
    """Shows what patches attend to in G, and in D: the mean over heads.

    example: vitgan explore attention runs/00000-quickstart --seed 3

    Args:
        seed: Seed of the image, or a file of styles that `invert` found.
        queries: Patches that attend, numbered row by row from the top left; by default five, spread over the image. Both
            pictures show them.
        out: File for the generator's picture.
        discriminator_out: File for the discriminator's picture, if the model is a run, a checkpoint, or carries its D.
    """
    from vitgan.explore.attention import (
        attention_rows,
        generator_attention,
        load_discriminator,
        spread_queries,
    )
    from vitgan.explore.latents import render, styles_of
    from vitgan.pretrained.generators import locate_networks

    check_different(out=out, discriminator_out=discriminator_out)
    check_label((seed,), label, truncation)
    if discriminator_out is not None:
        model = str(locate_networks(model).parent)  # once: a run that trains may have a newer checkpoint soon
    discriminator = load_discriminator(model) if discriminator_out else None
    generator = open_model(model, device)
    points, _ = images_of(generator, (seed,))
    styles = styles_of(generator, points, truncation, label)
    maps = generator_attention(generator, styles)
    image = render(generator, styles)
    shown: list[tuple[Path, list[Tensor], tuple[int | None, ...]]] = [(out, maps, ())]
    if discriminator is not None and discriminator_out is not None:
        made = image if generator.vae is None else generator.synthesis(styles)  # D judges latents where G makes them
        judged = discriminator.to(image.device).attention_maps(made)
        shown.append((discriminator_out, judged, (None,)))
    for _, maps, tokens in shown:
        patches = maps[0].shape[-1] - len(tokens)
        if max(queries, default=0) >= patches:
            raise UserError(f"there is no patch {max(queries)}: choose 0 to {patches - 1}", "queries")
    for path, maps, tokens in shown:
        asked = (*tokens, *(queries or spread_queries(maps[0].shape[-1] - len(tokens))))
        titles = ["class token" if query is None else f"patch {query}" for query in asked]
        columns = ["image", *(f"block {k}" for k in range(1, len(maps) + 1))]
        save_sheet(path, attention_rows(image[0], maps, asked), columns, titles, side=128)
        whose = "discriminator's attention, the class token first" if tokens else "generator's attention"
        print(f"the {whose}, a column per block: {path}")


VIDEO_STEPS, VIDEO_RATE = 150, 25
"""Steps of a search that its video shows at most, and its frames a second."""


def invert(
    model: Model,
    photo: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="PHOTO")],
    space: Literal["w", "w+"] = "w+",
    steps: Annotated[int, Field(ge=1, le=1_000_000)] = 600,
    seed: Seed = 0,
    perceptual_weight: Annotated[float, Field(ge=0, le=1e6)] = 0.0,
    device: Device = "cpu",
    out: PictureFile = Usual("invert.png"),
    styles_out: TensorFile | None = None,
    video_out: AnimationFile | None = None,
) -> None:
    """Finds the styles of a photo by gradient.

    example: vitgan explore invert runs/00000-quickstart photo.jpg --space w+

    Args:
        photo: A PNG, JPEG or WebP file.
        space: One style for all layers (w) or one for each layer (w+).
        steps: Gradient steps.
        seed: Seed of the random starts.
        perceptual_weight: Weight of a loss on lite0 features beside the pixels'; it takes time and some dB.
        out: File for a picture: the photo beside the result.
        styles_out: A .safetensors file for the styles that were found; with this model other ways take it in a seed's place.
        video_out: A .gif, .webp or .mp4 of the search, the target at the left.
    """
    check_different(photo, weights_of(model), out=out, styles_out=styles_out, video_out=video_out)
    if video_out is not None and is_still(video_out):
        raise UserError(f"{video_out} is a picture that does not move: choose .gif, .webp or .mp4", "video_out")
    import torch

    from vitgan.explore.invert import invert as find_styles
    from vitgan.explore.latents import write_styles

    generator = open_model(model, device)
    pixels = read_photo(photo, generator.image_size, generator.image_channels)
    target = torch.tensor(pixels).unsqueeze(0).float() / 127.5 - 1
    features = perceptual_features(generator.w_mean.device) if perceptual_weight else None
    shown, every = [], -(-steps // VIDEO_STEPS)

    with progress_bar("Inverting", unit="steps") as on_progress:

        def on_step(done: int, image: "Tensor") -> None:
            if video_out is not None and (done - 1) % every == 0:
                shown.append(image[0].cpu())
            on_progress(done, steps)

        found = find_styles(
            generator,
            target,
            features,
            space,
            steps,
            perceptual_weight=perceptual_weight,
            seed=seed,
            on_step=on_step,
        )
    save_sheet(out, [[target[0], found.image[0]]], ["photo", f"found, {found.psnr:.1f} dB"], side=256)
    print(f"PSNR {found.psnr:.2f} dB: {out}")
    if styles_out is not None:
        with whole_file(styles_out) as temporary:
            write_styles(temporary, generator, found.styles)
        print(f"styles (1, layers, w_dim): {styles_out}")
    if video_out is not None:
        frames = [*shown, *[found.image[0].cpu()] * VIDEO_RATE]  # what was found stays a second
        save_animation((sheet([[target[0], frame]], side=256) for frame in frames), video_out, VIDEO_RATE)
        print(f"the search, {len(shown)} of {steps} steps: {video_out}")


def weights_of(model: str) -> Path:
    """The file of weights that is read."""
    from vitgan.pretrained.generators import locate

    return locate(model)[0]


def read_photo(photo: Path, resolution: int, channels: int) -> "np.ndarray":
    """A photo's middle at a model's resolution, (C, H, W) uint8."""
    from vitgan.data.decode import Framing, decode
    from vitgan.data.sources.source import UnreadableImage

    what, advice = f"cannot read the photo {photo}", "pass a PNG, JPEG or WebP"
    with user_error(what, OSError, UnreadableImage, advice=advice, parameter="photo"):
        return decode(photo.read_bytes(), Framing(resolution, channels))[0]


def perceptual_features(device: "torch.device") -> "Callable[[Tensor], Tensor]":
    """EfficientNet-Lite0's pooled features of images in [-1, 1], with gradients."""
    from vitgan.frozen.features import weights_file
    from vitgan.metrics.lite import load_lite

    network = load_lite("lite0", weights_file("lite0")).to(device)
    return lambda images: network((images.expand(-1, 3, -1, -1) + 1) * 127.5)[0]


def grow(
    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")],
    count: Annotated[int, Field(ge=1, le=1024)] = 16,
    seed: Seed = 0,
    truncation: Truncation = 1.0,
    frames_per_second: FramesPerSecond = 2,
    out: AnimationFile = Usual("grow.gif"),
) -> None:
    """Shows the same latents at each checkpoint of a run.

    example: vitgan explore grow runs/00000-quickstart --count 16

    Args:
        run: The run's folder.
        count: Number of images.
        seed: Seed of the latents.
        out: A .gif, .webp or .mp4 animation, or a .png with a row for each checkpoint.
    """
    from vitgan.explore.grow import grow as history

    still = is_still(out)
    if still:
        check_useless(grow, "in a still picture", frames_per_second=frames_per_second)
    else:
        check_rate(out, frames_per_second)
    with progress_bar("Growing", unit="checkpoints") as on_progress:
        ages = list(history(run, count, seed, truncation, on_progress))
    names = [f"{int(age.name.replace('k', '')):,} images" for age in ages]
    if still:
        save_sheet(out, [age.images for age in ages], (), names, side=64)
    else:
        enlarge = enlargement(ages[0].images.shape[-1])
        grids = [image_grid(age.images, enlarge=enlarge) for age in ages]
        frames = [captioned(grid, name) for grid, name in zip(grids, names, strict=True)]
        save_animation([*frames, *frames[-1:] * 3], out, frames_per_second)  # the end stays a while
    print(f"{len(ages)} checkpoints: {out}")


ABOUT = """Ways of looking at a trained generator.

example: vitgan explore interpolate runs/00000-quickstart --seeds 0 1 2 3"""

explore = Group(
    ABOUT,
    {way.__name__: way for way in (interpolate, mix, truncate, directions, zoom, attention, invert, grow)},
)
