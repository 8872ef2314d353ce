"""`vitgan ablate SUITE`: a table of runs that differ in one thing, and its report."""

import sys
from pathlib import Path
from typing import Annotated

import tyro
from pydantic.dataclasses import dataclass

from vitgan.ablation.report import write_report
from vitgan.ablation.run import Plan, check_place, run_suite
from vitgan.ablation.suites import SUITES, Suite, find_suite
from vitgan.cli.arguments import Positive, Seed, parse
from vitgan.cli.stopping import stop_on_signal
from vitgan.cli.training_display import log_line
from vitgan.commands import command
from vitgan.config import RunConfig
from vitgan.errors import UserError
from vitgan.presets import preset, replaced
from vitgan.training.hooks import Hooks
from vitgan.training.objective import ObjectiveConfig

DESCRIPTION = """Trains the rows of a suite one after the other and writes one report (Markdown, CSV, PNG).

Runs that are finished are passed over, so that the same command goes on where it was stopped.

example: vitgan ablate discriminator --data data/cifar10 --minutes 20 --out runs/ablate-discriminator

""" + "\n\n".join(f"{name}: {suite.question} Rows: {', '.join(suite.rows)}." for name, suite in SUITES.items())


@dataclass
class Arguments:
    """Which table, at what budget, with which seeds.

    Attributes:
        suite: Name of the table.
        base: Preset whose sizes all rows share.
        data: Image store; by default the base's.
        kimg: Budget of a run in thousands of images.
        minutes: Budget of a run in minutes of training; the first budget that is used up ends it.
        cpu_minutes: The same in minutes of the processor, which other work on the machine does not shorten.
        evaluate_every_kimg: How often a run is measured; by default a fifth of --kimg, or 20.
        protocol: Protocol of the figures.
        seeds: Every row runs once with each.
        out: Folder of the ablation; by default runs/ablate-SUITE.
        only: Rows to run, by default all.
        paper_objective: Take the paper's loss, bCR and DiffAugment for the base in place of the preset's own.
        report_only: Write the report of what is there, and train nothing.
    """

    suite: Annotated[str, tyro.conf.Positional]
    base: str = "cifar10-tiny"
    data: str | None = None
    kimg: Positive | None = None
    minutes: Positive | None = None
    cpu_minutes: Positive | None = None
    evaluate_every_kimg: Positive | None = None
    protocol: str = "quick-5k"
    seeds: tuple[Seed, ...] = (0,)
    out: Path | None = None
    only: tuple[str, ...] = ()
    paper_objective: bool = True
    report_only: bool = False


def main(arguments: list[str]) -> None:
    """Runs `vitgan ablate ARGUMENTS`.

    Raises:
        UserError: If suite, base, rows, budget or folder do not fit.
    """
    parsed = parse(Arguments, arguments, "vitgan ablate", DESCRIPTION)
    suite = find_suite(parsed.suite)
    unknown = [row for row in parsed.only if row not in suite.rows]
    if unknown:
        raise UserError(f"suite {suite.name} has no row {unknown[0]!r}: its rows are {', '.join(suite.rows)}")
    if parsed.kimg is None and parsed.minutes is None and parsed.cpu_minutes is None:
        raise UserError("an ablation needs a budget for each run: pass --kimg, --minutes or --cpu-minutes")
    if not parsed.seeds or len(set(parsed.seeds)) < len(parsed.seeds):
        raise UserError("--seeds needs one or more different numbers from 0: --seeds 0 1")
    folder = parsed.out or Path("runs") / f"ablate-{suite.name}"
    plan = Plan(
        suite=suite.name,
        kimg=parsed.kimg,
        minutes=parsed.minutes,
        cpu_minutes=parsed.cpu_minutes,
        evaluate_every_kimg=parsed.evaluate_every_kimg or (20 if parsed.kimg is None else parsed.kimg / 5),
        seeds=parsed.seeds,
        base=base_config(parsed),
    )
    rows = {name: row for name, row in suite.rows.items() if not parsed.only or name in parsed.only}
    check_place(folder, plan)
    if parsed.report_only and not folder.is_dir():
        raise UserError(
            f"there is no ablation in {folder} to report: leave out --report-only, or pass its folder as --out"
        )
    with stop_on_signal() as received:
        finished = parsed.report_only or _train(Suite(suite.name, suite.question, rows), plan, folder, received)
    made_by = command("ablate", *(argument for argument in arguments if argument != "--report-only"))
    report = write_report(suite, plan, folder, made_by)
    print(f"report: {report}")
    if not finished:
        print("not all runs are finished; the same command goes on")
    if received:
        sys.exit(128 + received[0])


def base_config(arguments: Arguments) -> RunConfig:
    """The configuration that all rows start from."""
    base = preset(arguments.base)
    return replaced(
        base,
        data=arguments.data or base.data,
        protocol=arguments.protocol,
        objective=ObjectiveConfig() if arguments.paper_objective else base.objective,
    )


def _train(suite: Suite, plan: Plan, folder: Path, received: list[int]) -> bool:
    def hooks_for(name: str, config: RunConfig) -> Hooks:
        def on_log(record: dict[str, float]) -> None:
            print(f"{name}: {log_line(record, config)}", file=sys.stderr)

        return Hooks(on_log=on_log, should_stop=lambda: bool(received))

    return run_suite(suite, plan, folder, hooks_for, lambda: bool(received))
