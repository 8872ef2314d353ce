"""`vitgan explore` where it is about latents and styles: walks, mixtures, truncation, directions, history."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from pydantic import Field
from pydantic.dataclasses import dataclass

from vitgan.cli.arguments import (
    AnimationFile,
    Count,
    Device,
    FramesPerSecond,
    Index,
    PictureFile,
    Seed,
    Truncation,
    chosen_file,
)
from vitgan.cli.progress import progress_bar

if TYPE_CHECKING:
    from vitgan.models.generator import Generator

Amount = Annotated[float, Field(ge=-100, le=100)]
Size = Annotated[int, Field(ge=8, le=4096)]
Frames = Annotated[int, Field(ge=1, le=10_000)]


@dataclass
class OfModel:
    """What every way of looking at a model takes.

    Attributes:
        model: A run, checkpoint or model folder, a bundled model's name, or a Hub repository user/name.
        device: Where to compute: auto, cpu, cuda, mps.
    """

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    device: Device = "cpu"

    def generator(self) -> "Generator":
        """The model on its device."""
        from vitgan.pretrained.generators import load

        return load(self.model, self.device)


@dataclass
class OfClass(OfModel):
    """What every way takes that draws from latents.

    Attributes:
        label: Class index of a conditional model (0 by default).
    """

    label: Index | None = None


@dataclass
class Common(OfClass):
    """What most ways take.

    Attributes:
        truncation: psi of the truncation trick: 1 is the plain model, less is more typical.
    """

    truncation: Truncation = 1.0


@dataclass
class Interpolate(Common):
    """What `interpolate` takes.

    Attributes:
        seeds: Images to pass through.
        steps: Frames from one to the next.
        space: Walk among latents (z) or styles (w).
        way: Along arcs or straight lines.
        loop: Return to the first image.
        frames_per_second: Of the animation.
        size: About how many screen pixels a frame is wide.
        out: A .gif, .webp or .mp4 animation, or a .png strip; by default interpolate.gif.
    """

    seeds: tuple[Seed, ...] = (0, 1, 2, 3)
    steps: Frames = 30
    space: Literal["z", "w"] = "z"
    way: Literal["spherical", "linear"] = "spherical"
    loop: bool = True
    frames_per_second: FramesPerSecond = 20
    size: Size = 256
    out: AnimationFile | None = None


def interpolate(options: Interpolate) -> None:
    """A walk through the images of several seeds.

    example: vitgan explore interpolate runs/00000-quickstart --seeds 0 1 2 3 --out walk.gif
    """
    from vitgan.explore.interpolate import interpolate as walk
    from vitgan.explore.sheet import picture, save_animation, sheet
    from vitgan.files.pictures import check_animation_size, save_image

    out = chosen_file(options.out, "interpolate.gif")
    check_animation_size(len(options.seeds) * options.steps, options.size, options.size)
    generator = options.generator()
    with progress_bar("Interpolating") as on_progress:
        frames = walk(
            generator,
            options.seeds,
            options.steps,
            options.space,
            options.way,
            options.loop,
            options.truncation,
            options.label,
            on_progress,
        )
    if out.suffix.lower() == ".png":
        legs = [list(frames[start : start + options.steps]) for start in range(0, len(frames), options.steps)]
        ends = zip(options.seeds, [*options.seeds[1:], options.seeds[0]], strict=True)
        titles = [f"seed {a} to {b}" for a, b in ends][: len(legs)]
        whole = [leg for leg in legs if len(leg) == options.steps]
        save_image(sheet(whole, row_titles=titles[: len(whole)]), out)
    else:
        save_animation((picture(f, options.size) for f in frames), out, options.frames_per_second)
    print(f"{len(frames)} frames: {out}")


@dataclass
class Mix(Common):
    """What `mix` takes.

    Attributes:
        early: Seeds whose styles the early layers take, a row each.
        late: Seeds whose styles the late layers take, a column each.
        layer: First layer that follows the late seeds; default the last.
        out: The grid; by default mix.png.
        layers_out: Another picture: the first pair mixed at every layer.
    """

    early: tuple[Seed, ...] = (0, 1, 2, 3)
    late: tuple[Seed, ...] = (10, 11, 12, 13, 14)
    layer: Index | None = None
    out: PictureFile | None = None
    layers_out: PictureFile | None = None


def mix(options: Mix) -> None:
    """A grid: early layers follow one latent, late layers another.

    example: vitgan explore mix runs/00000-quickstart --early 0 1 2 --late 10 11 12 --layer 1 --out mix.png
    """
    from vitgan.explore.mix import crossover
    from vitgan.explore.mix import mix as mixtures
    from vitgan.explore.sheet import sheet
    from vitgan.files.pictures import save_image

    out = chosen_file(options.out, "mix.png")
    generator = options.generator()
    with progress_bar("Mixing") as on_progress:
        grid = mixtures(
            generator, options.early, options.late, options.layer, options.truncation, options.label, on_progress
        )
    titles = ["early \\ late", *(f"seed {s}" for s in options.late)]
    save_image(sheet([list(r) for r in grid], titles, ["", *(f"seed {s}" for s in options.early)]), out)
    print(f"mixtures: {out}")
    if options.layers_out is None:
        return
    strip = crossover(generator, options.early[0], options.late[0], options.truncation, options.label)
    titles = [f"layer {k}" for k in range(len(strip))]
    save_image(sheet([list(strip)], titles, [f"seed {options.late[0]} to {options.early[0]}"]), options.layers_out)
    print(f"the first pair at every layer: {options.layers_out}")


@dataclass
class Truncate(OfClass):
    """What `truncate` takes.

    Attributes:
        seeds: Images, a row each.
        psis: Values of psi, a column each.
        out: A picture; by default truncate.png.
    """

    seeds: tuple[Seed, ...] = (0, 1, 2, 3)
    psis: tuple[Truncation, ...] = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)
    out: PictureFile | None = None


def truncate(options: Truncate) -> None:
    """Each seed at several psi, from the mean image (0) to the plain one (1) and beyond.

    example: vitgan explore truncate runs/00000-quickstart --seeds 0 1 2 --psis 0 0.5 0.7 1 --out truncate.png
    """
    from vitgan.explore.sheet import sheet
    from vitgan.explore.truncate import truncate as at_each_psi
    from vitgan.files.pictures import save_image

    out = chosen_file(options.out, "truncate.png")
    with progress_bar("Truncating") as on_progress:
        grid = at_each_psi(options.generator(), options.seeds, options.psis, options.label, on_progress)
    titles = [f"psi {p:g}" for p in options.psis]
    save_image(sheet([list(r) for r in grid], titles, [f"seed {s}" for s in options.seeds]), out)
    print(f"truncations: {out}")


@dataclass
class Directions(Common):
    """What `directions` takes.

    Attributes:
        seed: The image that is moved.
        count: Directions, strongest first, a row each.
        amounts: Steps along them, in units of the styles' spread, a column each.
        out: A picture; by default directions.png.
    """

    seed: Seed = 0
    count: Count = 6
    amounts: tuple[Amount, ...] = (-1, -0.5, -0.25, 0, 0.25, 0.5, 1)
    out: PictureFile | None = None


def directions(options: Directions) -> None:
    """Directions of largest change, in closed form from the modulation weights (SeFa).

    example: vitgan explore directions runs/00000-quickstart --seed 3 --count 6 --out directions.png
    """
    from vitgan.explore.directions import edit, find_directions
    from vitgan.explore.sheet import sheet
    from vitgan.files.pictures import save_image

    out = chosen_file(options.out, "directions.png")
    generator = options.generator()
    found = find_directions(generator, options.count)
    with progress_bar("Moving") as on_progress:
        grid = edit(generator, options.seed, found, options.amounts, options.truncation, options.label, on_progress)
    rows = [f"{k + 1} ({strength:.2g})" for k, strength in enumerate(found.strengths.tolist())]
    save_image(sheet([list(r) for r in grid], [f"{a:+g}" if a else "plain" for a in options.amounts], rows), out)
    print(f"{options.count} directions (strength in brackets): {out}")


@dataclass
class Grow:
    """What `grow` takes.

    Attributes:
        run: The run's folder.
        count: Images.
        seed: Of the latents.
        truncation: psi of the truncation trick.
        frames_per_second: Of the animation.
        out: A .gif, .webp or .mp4 animation, or a .png with a row per checkpoint; by default grow.gif.
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    count: Annotated[int, Field(ge=1, le=1024)] = 16
    seed: Seed = 0
    truncation: Truncation = 1.0
    frames_per_second: FramesPerSecond = 2
    out: AnimationFile | None = None


def grow(options: Grow) -> None:
    """The training history of fixed latents, from the run's checkpoints.

    example: vitgan explore grow runs/00000-quickstart --count 16 --out grow.gif
    """
    from vitgan.explore.grow import grow as history
    from vitgan.explore.sheet import captioned, save_animation, sheet
    from vitgan.files.pictures import enlargement, image_grid, save_image

    out = chosen_file(options.out, "grow.gif")
    with progress_bar("Growing", unit="checkpoints") as on_progress:
        ages = list(history(options.run, options.count, options.seed, options.truncation, on_progress))
    names = [f"{int(age.name.replace('k', '')):,} images" for age in ages]
    if out.suffix.lower() == ".png":
        save_image(sheet([list(age.images) for age in ages], row_titles=names, side=64), out)
    else:
        enlarge = enlargement(ages[0].images.shape[-1])
        frames = [
            captioned(image_grid(age.images, enlarge=enlarge), name) for age, name in zip(ages, names, strict=True)
        ]
        save_animation([*frames, *frames[-1:] * 3], out, options.frames_per_second)  # the end stays a while
    print(f"{len(ages)} checkpoints: {out}")
