"""`vitgan explore` where it is about latents and styles: walks, mixtures, truncation, directions, history."""

from pathlib import Path
from typing import Annotated, Literal

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
    Psi,
    Seed,
    Seeds,
    Size,
    Truncation,
    check_different,
    chosen_file,
)
from vitgan.cli.progress import progress_bar

Amount = Annotated[float, Field(ge=-100, le=100)]


def interpolate(
    model: Model,
    seeds: Seeds = (0, 1, 2, 3),
    steps: Frames = 30,
    space: Literal["z", "w"] = "z",
    way: Literal["spherical", "linear"] = "spherical",
    loop: bool = True,
    frames_per_second: FramesPerSecond = 20,
    size: Size = 256,
    truncation: Truncation = 1.0,
    label: Label = None,
    device: Device = "cpu",
    out: AnimationFile | None = None,
) -> None:
    """A walk through the images of several seeds.

    example: vitgan explore interpolate runs/00000-quickstart --seeds 0 1 2 3

    Args:
        seeds: Images to pass through.
        steps: Frames from one to the next.
        space: Walk among latents (z) or styles (w).
        way: Along arcs or straight lines.
        loop: Return to the first image.
        out: A .gif, .webp or .mp4 animation, or a .png strip; by default interpolate.gif.
    """
    from vitgan.explore.interpolate import interpolate as walk
    from vitgan.explore.sheet import picture, save_animation, sheet
    from vitgan.files.pictures import check_animation_size, save_image
    from vitgan.pretrained.generators import load

    out = chosen_file(out, "interpolate.gif")
    check_animation_size(len(seeds) * steps, size, size)
    generator = load(model, device)
    with progress_bar("Interpolating") as on_progress:
        frames = walk(generator, seeds, steps, space, way, loop, truncation, label, on_progress)
    if out.suffix.lower() == ".png":
        legs = [list(leg) for leg in frames.split(steps)]
        if not loop:
            end = legs.pop()
            legs[-1] += end
        ends = zip(seeds, [*seeds[1:], seeds[0]], strict=True)
        titles = [f"seed {a} to {b}" for a, b in ends]
        save_image(sheet(legs, row_titles=titles[: len(legs)]), out)
    else:
        save_animation((picture(f, size) for f in frames), out, frames_per_second)
    print(f"{len(frames)} frames: {out}")


def mix(
    model: Model,
    early: Seeds = (0, 1, 2, 3),
    late: Seeds = (10, 11, 12, 13, 14),
    layer: Index | None = None,
    truncation: Truncation = 1.0,
    label: Label = None,
    device: Device = "cpu",
    out: PictureFile | None = None,
    layers_out: PictureFile | None = None,
) -> None:
    """A grid: early layers follow one latent, late layers another.

    example: vitgan explore mix runs/00000-quickstart --early 0 1 --late 10 11

    Args:
        early: Seeds whose styles the early layers take, a row each.
        late: Seeds whose styles the late layers take, a column each.
        layer: First layer that follows the late seeds; default the last.
        out: The grid; by default mix.png.
        layers_out: Another picture: the first pair mixed at every layer.
    """
    from vitgan.explore.latents import styles_of_seeds
    from vitgan.explore.mix import crossover
    from vitgan.explore.mix import mix as mixtures
    from vitgan.explore.sheet import sheet
    from vitgan.files.pictures import save_image
    from vitgan.pretrained.generators import load

    out = chosen_file(out, "mix.png")
    check_different(out=out, layers_out=layers_out)
    generator = load(model, device)
    before, after = (styles_of_seeds(generator, seeds, truncation, label) for seeds in (early, late))
    with progress_bar("Mixing") as on_progress:
        grid = mixtures(generator, before, after, layer, on_progress)
    titles = ["early \\ late", *(f"seed {s}" for s in late)]
    save_image(sheet([list(r) for r in grid], titles, ["", *(f"seed {s}" for s in early)]), out)
    print(f"mixtures: {out}")
    if layers_out is not None:
        strip = crossover(generator, before[:1], after[:1])
        titles = [f"layer {k}" for k in range(len(strip))]
        save_image(sheet([list(strip)], titles, [f"seed {late[0]} to {early[0]}"]), layers_out)
        print(f"the first pair at every layer: {layers_out}")


def truncate(
    model: Model,
    seeds: Seeds = (0, 1, 2, 3),
    psis: tuple[Psi, ...] = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25),
    label: Label = None,
    device: Device = "cpu",
    out: PictureFile | None = None,
) -> None:
    """Each seed at several psi: 0 is the mean image, 1 the plain one.

    example: vitgan explore truncate runs/00000-quickstart --psis 0 0.5 0.7 1

    Args:
        seeds: Images, a row each.
        psis: Values of psi, a column each.
        out: A picture; by default truncate.png.
    """
    from vitgan.explore.latents import styles_of_seeds
    from vitgan.explore.sheet import sheet
    from vitgan.explore.truncate import truncate as at_each_psi
    from vitgan.files.pictures import save_image
    from vitgan.pretrained.generators import load

    out = chosen_file(out, "truncate.png")
    generator = load(model, device)
    with progress_bar("Truncating") as on_progress:
        grid = at_each_psi(generator, styles_of_seeds(generator, seeds, 1.0, label), psis, on_progress)
    titles = [f"psi {p:g}" for p in psis]
    save_image(sheet([list(r) for r in grid], titles, [f"seed {s}" for s in seeds]), out)
    print(f"truncations: {out}")


def directions(
    model: Model,
    seed: Seed = 0,
    count: Count = 6,
    amounts: tuple[Amount, ...] = (-1, -0.5, -0.25, 0, 0.25, 0.5, 1),
    truncation: Truncation = 1.0,
    label: Label = None,
    device: Device = "cpu",
    out: PictureFile | None = None,
) -> None:
    """Directions of largest change, from the modulation weights (SeFa).

    example: vitgan explore directions runs/00000-quickstart --seed 3 --count 6

    Args:
        seed: The image that is moved.
        count: Directions, strongest first, a row each.
        amounts: Steps along them, in units of the styles' spread, a column each.
        out: A picture; by default directions.png.
    """
    from vitgan.explore.directions import edit, find_directions
    from vitgan.explore.latents import styles_of_seeds
    from vitgan.explore.sheet import sheet
    from vitgan.files.pictures import save_image
    from vitgan.pretrained.generators import load

    out = chosen_file(out, "directions.png")
    generator = load(model, device)
    found = find_directions(generator, count)
    with progress_bar("Moving") as on_progress:
        grid = edit(generator, styles_of_seeds(generator, [seed], truncation, label), found, amounts, on_progress)
    rows = [f"{k + 1} ({strength:.2g})" for k, strength in enumerate(found.strengths.tolist())]
    save_image(sheet([list(r) for r in grid], [f"{a:+g}" if a else "plain" for a in amounts], rows), out)
    print(f"{count} directions (strength in brackets): {out}")


def grow(
    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")],
    count: Annotated[int, Field(ge=1, le=1024)] = 16,
    seed: Seed = 0,
    truncation: Truncation = 1.0,
    frames_per_second: FramesPerSecond = 2,
    out: AnimationFile | None = None,
) -> None:
    """The training history of fixed latents, from the run's checkpoints.

    example: vitgan explore grow runs/00000-quickstart --count 16

    Args:
        run: The run's folder.
        count: Images.
        seed: Of the latents.
        out: A .gif, .webp or .mp4 animation, or a .png with a row per checkpoint; by default grow.gif.
    """
    from vitgan.explore.grow import grow as history
    from vitgan.explore.sheet import captioned, save_animation, sheet
    from vitgan.files.pictures import enlargement, image_grid, save_image

    out = chosen_file(out, "grow.gif")
    with progress_bar("Growing", unit="checkpoints") as on_progress:
        ages = list(history(run, count, seed, truncation, on_progress))
    names = [f"{int(age.name.replace('k', '')):,} images" for age in ages]
    if out.suffix.lower() == ".png":
        save_image(sheet([list(age.images) for age in ages], row_titles=names, side=64), out)
    else:
        enlarge = enlargement(ages[0].images.shape[-1])
        grids = [image_grid(age.images, enlarge=enlarge) for age in ages]
        frames = [captioned(grid, name) for grid, name in zip(grids, names, strict=True)]
        save_animation([*frames, *frames[-1:] * 3], out, frames_per_second)  # the end stays a while
    print(f"{len(ages)} checkpoints: {out}")
