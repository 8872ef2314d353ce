"""`vitgan train PRESET`: a preset, overrides, and a run."""

import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from pydantic import Field

from vitgan.cli.arguments import check_useless
from vitgan.cli.parsing import Group
from vitgan.cli.preset_texts import PRESETS, RECOMMENDED, SIZES, VARIANTS, summary
from vitgan.cli.progress import training_display
from vitgan.cli.stopping import stop_on_signal
from vitgan.errors import UserError, command
from vitgan.runs.processes import speaks

if TYPE_CHECKING:
    from vitgan.config import RunConfig
    from vitgan.models.vit_generator import ViTGeneratorConfig

ABOUT = f"""Trains a GAN from a preset, or goes on with a run.

`vitgan train PRESET --help` lists every field of the configuration.
`--model.discriminator.kind` is vit, stylegan2 or projected.

examples:
  vitgan train quickstart
  vitgan train {RECOMMENDED} --data data/cifar10 --training.seed 1
  vitgan train cifar10 --model.discriminator.overlap 0 --dry-run
  vitgan train --resume runs/00000-quickstart --training.total-kimg 200
  vitgan train --config runs/00000-quickstart/config.json --training.seed 1

variants of {", ".join(SIZES)}:
{chr(10).join(f"  {f'cifar10-{name}':<25} {about}" for name, about in VARIANTS.items())}"""

OPTIONS = """Args:
    resume: The run's folder.
    config: File .json or .yaml with all fields of the configuration (such as a run's config.json) or some of them. Options
        override it.
    out: Folder in which a new run folder is made.
    folder: The run's own folder, in place of a numbered one. If a run is there, it goes on: the same command can be
        started again.
    dry_run: Print the configuration, the parameter counts and the memory needed, and stop.
    profile_steps: Measure where the time of this many steps goes, after a warm-up, and write a Chrome trace into the run.
"""


def starts(words: list[str]) -> Group | Callable[..., None]:
    """What can follow `vitgan train`: a preset's name, `--config FILE` or `--resume RUN`: what the options override.

    Raises:
        UserError: If there is no such preset (with the nearest one), the file or run cannot be read, there are a run
            and another configuration, or a preset and a file of another.
    """
    run, file = value_of("--resume", words), value_of("--config", words)
    named = words[0] if words and not words[0].startswith("-") else None
    if run is None and file is None and named is None:
        return Group(ABOUT, PRESETS | SIZES)
    from vitgan.presets import from_file, preset
    from vitgan.runs.folder import CHANGEABLE, config_of_run

    if run is not None:
        if named is not None or file is not None:
            surplus, parameter = (named, None) if named is not None else ("--config", "config")
            raise UserError(
                f"a run that is resumed keeps its configuration: leave out {surplus}; what may change is {CHANGEABLE}",
                parameter,
            )
        return trains(config_of_run(Path(run)), words, "Goes on with a run.")
    base = preset(named) if named is not None else None
    start = from_file(file, base) if file is not None else base
    assert start is not None
    if named is None:
        return trains(start, words, "Trains from a configuration file.")
    if start.preset != named:  # most likely a whole configuration, beside which the preset would do nothing
        raise UserError(f"{file} is of the preset {start.preset}, not {named}: leave out one of the two", "config")
    return Group(ABOUT, {named: trains(start, words, textwrap.fill(summary(named), 78, subsequent_indent="  "))})


def value_of(option: str, words: list[str]) -> str | None:
    """What stands behind an option, "--option value" or "--option=value", the last time; None if it is not there.

    Raises:
        UserError: If nothing stands behind it.
    """
    value = None
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word.replace("_", "-") == option or word.startswith(f"{option}="):
            value = word.partition("=")[2] or following
            if not value:
                raise UserError(f"{option} needs a value", option[2:])
    return value


def trains(start: "RunConfig", words: list[str], about: str) -> Callable[..., None]:
    """The command whose options are the fields of a configuration, of the kinds of network that the words ask for."""
    from vitgan.config import RunConfig, check_effect, differences, merged
    from vitgan.runs.images import holds_images_to_prepare

    for network in ("generator", "discriminator"):
        if (kind := value_of(f"--model.{network}.kind", words)) is not None:
            start = merged(start, {"model": {network: {"kind": kind}}})

    def train(
        settings: Annotated[RunConfig, tyro.conf.arg(name=""), tyro.conf.AvoidSubcommands] = start,
        resume: Path | None = None,
        config: Path | None = None,
        out: Path = Path("runs"),
        folder: Path | None = None,
        dry_run: bool = False,
        profile_steps: Annotated[int, Field(ge=0, le=1000)] = 0,
    ) -> None:
        if resume is not None:
            check_useless(train, "beside --resume", out=out)
        elif folder is not None and not holds_images_to_prepare(settings.data):
            check_useless(train, "beside --folder, where there are no images to prepare", out=out)
        check_effect(settings, differences(settings, start))
        if dry_run:
            print(describe(settings))
        else:
            carry_out(settings, profile_steps, out=out, resume=resume, folder=folder)

    train.__doc__ = f"{about}\n\n{OPTIONS}"
    return train


def carry_out(config: "RunConfig", profile_steps: int, **places: Any) -> None:
    """Trains, until the end or until a signal asks for it; `places` are arguments of `vitgan.train`.

    Raises:
        UserError: If the run, the data or the folders do not fit.
        SystemExit: With 128 and the signal's number if it was asked to end.
    """
    from vitgan.runs.train import train

    with stop_on_signal() as received:
        with training_display(config) as hooks:
            hooks.should_stop = _asked(received)
            hooks.on_prepare = _until_asked(hooks.on_prepare, received)
            hooks.on_notice = lambda line: print(f"vitgan: {line}", file=sys.stderr)
            hooks.profile_steps = profile_steps
            hooks.on_profile = lambda path, table: print(f"{table}\nprofile: {path}", file=sys.stderr)
            run = train(config, hooks=hooks, **places)
        if received:
            print(f"stopped and saved; go on with: {command('train', '--resume', run)}")
            sys.exit(128 + received[0])
        print(f"trained: {run}")
        if grids := sorted((run / "samples").glob("*.png")):
            print(f"images:  {grids[-1]}")
        print(f"more:    {command('sample', run, '--grid', 'grid.png')}")


def _until_asked(on_prepare: Callable[[int, int], object], received: list[int]) -> Callable[[int, int], None]:
    """Ends the process while images are prepared, if a signal asked for it: what is prepared is kept."""

    def on_progress(done: int, total: int) -> None:
        if received:
            print("\nstopped: the same command goes on with preparing", file=sys.stderr)
            sys.exit(128 + received[0])
        on_prepare(done, total)

    return on_progress


def _asked(received: list[int]) -> Callable[[], bool]:
    """Whether a signal asked for the end; says once that it was heard."""
    told = False

    def should_stop() -> bool:
        nonlocal told
        if received and not told and speaks():
            print("\nstopping: saving a checkpoint (Ctrl-C again to end at once)", file=sys.stderr)
            told = True
        return bool(received)

    return should_stop


def describe(config: "RunConfig") -> str:
    """The resolved configuration with what it costs."""
    from vitgan.models.costs import model_costs

    generator, discriminator = model_costs(config.model)
    weights = 4 * (5 * generator.parameters + 4 * discriminator.parameters)  # weights, gradients, Adam's two, EMA
    views = 4 if config.objective.bcr_real or config.objective.bcr_fake else 2
    activations = config.training.batch_size * max(
        views * discriminator.activation_bytes_per_image,
        generator.activation_bytes_per_image + discriminator.activation_bytes_per_image,
    )
    rows = [
        config.model_dump_json(indent=2),
        f"generator      {generator.parameters:>13,} parameters  {generator.flops_per_image / 1e9:8.2f} GFLOPs/image",
        f"discriminator  {discriminator.parameters:>13,} parameters  "
        f"{discriminator.flops_per_image / 1e9:8.2f} GFLOPs/image",
        f"memory         {weights / 2**30:8.2f} GiB weights, gradients, optimisers and average, "
        f"about {activations / 2**30:.2f} GiB activations in float32 at batch {config.training.batch_size}",
    ]
    return "\n".join(rows)


def recommended(resolution: int, channels: int, labelled: bool, latents: bool = False) -> list[str]:
    """The words behind `vitgan train` for images of a size, or latents: a preset, and what it must be told."""
    from vitgan.models.vit_generator import ViTGeneratorConfig
    from vitgan.presets import preset

    # Convolutions onto pixels need patches that are a power of two, so an even size.
    of_pixels = "quickstart" if channels == 1 else "cifar10-tiny-modern" if resolution % 2 else RECOMMENDED
    name = "cifar10-tiny-modern" if latents else of_pixels  # frozen features see pixels
    model = preset(name).model
    assert isinstance(model.generator, ViTGeneratorConfig)
    words = [name]
    if latents:
        words += ["--model.channels", str(channels), "--training.no-horizontal-flip"]
    if resolution != model.resolution:
        words += ["--model.resolution", str(resolution)]
        patch = min(_patch_sizes(resolution, model.generator), key=lambda side: abs(side - resolution / 8))
        if patch != model.generator.patch_size:
            networks = ["generator", "discriminator"] if model.discriminator.kind == "vit" else ["generator"]
            words += [word for network in networks for word in (f"--model.{network}.patch-size", str(patch))]
    return [*words, "--model.no-conditional"] if model.conditional and not labelled else words


def _patch_sizes(resolution: int, generator: "ViTGeneratorConfig") -> list[int]:
    """Sides of patches that a grid can be made of."""
    sides = [side for side in range(1, resolution + 1) if resolution % side == 0]
    return [side for side in sides if side.bit_count() == 1] if generator.pixel_mapping == "conv" else sides
