"""`vitgan train PRESET`: a preset, overrides, and a run."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from vitgan.cli.arguments import parse
from vitgan.cli.stopping import stop_on_signal
from vitgan.cli.training_display import training_display
from vitgan.commands import RECOMMENDED, command
from vitgan.config import RunConfig
from vitgan.errors import UserError
from vitgan.models.costs import model_costs
from vitgan.presets import PRESETS, preset, summary
from vitgan.runs.folder import config_of_run
from vitgan.runs.processes import speaks
from vitgan.runs.train import train

USAGE = f"""usage: vitgan train PRESET [--data STORE] [--out DIR] [--SECTION.FIELD VALUE ...] [--dry-run]
       vitgan train --resume RUN [--training.total-kimg KIMG]

examples:
  vitgan train quickstart
  vitgan train {RECOMMENDED} --data data/cifar10 --training.batch-size 64
  vitgan train cifar10 --model.discriminator.overlap 0 --dry-run
  vitgan train --resume runs/00000-quickstart --training.total-kimg 200

presets (`vitgan train PRESET --help` shows every field and its value):
"""


@dataclass
class Arguments:
    """A run. Every field of the preset can be overridden.

    Attributes:
        config: The run's configuration.
        out: Folder in which a new run folder is made.
        dry_run: Print the resolved configuration, parameter counts and the memory needed, and stop.
    """

    config: Annotated[RunConfig, tyro.conf.arg(name="")]
    out: Path = Path("runs")
    dry_run: bool = False


def main(arguments: list[str]) -> None:
    """Runs `vitgan train ARGUMENTS`.

    Raises:
        UserError: If the preset, the run, the data or the folders do not fit.
        SystemExit: With 128 and the signal's number if it was asked to end.
    """
    with stop_on_signal() as received:
        _main(arguments, received)


def _main(arguments: list[str], received: list[int]) -> None:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE + "\n".join(f"  {name:<21} {summary(name)}" for name in PRESETS))
        return
    arguments, resume = _take_resume(arguments)
    if resume is not None:
        start = config_of_run(resume)
    elif arguments and not arguments[0].startswith("-"):
        start, arguments = preset(arguments[0]), arguments[1:]
    else:
        raise UserError(f"no preset given: `vitgan train PRESET`, where presets are {', '.join(PRESETS)}")
    kind = tyro.conf.AvoidSubcommands[Arguments]
    parsed = parse(kind, arguments, f"vitgan train {start.preset}", default=Arguments(start))
    parsed.config.check()
    if parsed.dry_run:
        print(describe(parsed.config))
        return
    _train(parsed.config, parsed.out, resume, received)


def describe(config: RunConfig) -> str:
    """The resolved configuration with what it costs."""
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


def _take_resume(arguments: list[str]) -> tuple[list[str], Path | None]:
    """Splits `--resume RUN` off: it decides which configuration the other arguments override."""
    for index, argument in enumerate(arguments):
        if argument.startswith("--resume="):
            return arguments[:index] + arguments[index + 1 :], Path(argument.removeprefix("--resume="))
        if argument == "--resume":
            if index + 1 == len(arguments):
                raise UserError("--resume needs a run folder: `vitgan train --resume runs/00000-quickstart`")
            return arguments[:index] + arguments[index + 2 :], Path(arguments[index + 1])
    return arguments, None


def _train(config: RunConfig, out: Path, resume: Path | None, received: list[int]) -> None:
    told = False

    def should_stop() -> bool:
        nonlocal told
        if received and not told and speaks():
            print("\nstopping: saving a checkpoint (Ctrl-C again to end at once)", file=sys.stderr)
            told = True
        return bool(received)

    if received:
        sys.exit(128 + received[0])
    with training_display(config) as hooks:
        hooks.should_stop = should_stop
        hooks.on_notice = lambda line: print(f"vitgan: {line}", file=sys.stderr)
        run = train(config, out, resume, hooks)
    grids = sorted((run / "samples").glob("*.png"))
    if received:
        print(f"stopped and saved; go on with: {command('train', '--resume', run)}")
        sys.exit(128 + received[0])
    print(f"trained: {run}")
    if grids:
        print(f"images:  {grids[-1]}")
    print(f"more:    {command('sample', run, '--count', 64, '--grid', 'grid.png')}")
