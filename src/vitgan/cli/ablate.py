"""`vitgan ablate SUITE`: a table of runs that differ in one thing, and its report."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from vitgan.cli.arguments import Positive, Seed
from vitgan.cli.progress import log_hooks
from vitgan.cli.stopping import stop_on_signal
from vitgan.errors import UserError, command

if TYPE_CHECKING:
    from vitgan.config import RunConfig
    from vitgan.training.hooks import Hooks


def ablate(
    suite: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SUITE")],
    base: str = "cifar10-tiny",
    data: str | None = None,
    kimg: Positive | None = None,
    minutes: Positive | None = None,
    cpu_minutes: Positive | None = None,
    evaluate_every_kimg: Positive | None = None,
    protocol: str = "quick-5k",
    seeds: tuple[Seed, ...] = (0,),
    out: Path | None = None,
    only: tuple[str, ...] = (),
    paper_objective: bool = True,
    report_only: bool = False,
) -> None:
    """Trains the rows of a suite one after the other and writes one report.

    Finished runs are passed over: the same command goes on where it stopped.

    suites: discriminator, generator, pairs, modern (docs/ablations.md)

    example: vitgan ablate discriminator --data data/cifar10 --minutes 20

    Args:
        suite: Name of the table.
        base: Preset whose sizes all rows share.
        data: Image store; by default the base's.
        kimg: Budget of a run in thousands of images.
        minutes: Budget of a run in minutes of training; the first budget that is used up ends it.
        cpu_minutes: The same in minutes of the processor, which other work on the machine does not shorten.
        evaluate_every_kimg: How often a run is measured; by default a fifth of --kimg, or 20.
        protocol: Protocol of the metrics.
        seeds: Every row runs once with each.
        out: Folder of the ablation; by default runs/ablate-SUITE.
        only: Rows to run, by default all.
        paper_objective: Take the paper's loss, bCR and DiffAugment for the base in place of the preset's own.
        report_only: Write the report of what is there, and train nothing.
    """
    from vitgan.ablation.report import write_report
    from vitgan.ablation.run import Plan, check_place, check_runs, run_suite
    from vitgan.ablation.suites import find_suite
    from vitgan.presets import preset, replaced
    from vitgan.training.augment import AugmentConfig
    from vitgan.training.objective import ObjectiveConfig

    table = find_suite(suite)
    rows = table.only(only)
    start = preset(base)
    if paper_objective:
        start = replaced(start, objective=ObjectiveConfig(), augment=AugmentConfig())
    plan = Plan(
        suite=suite,
        kimg=kimg,
        minutes=minutes,
        cpu_minutes=cpu_minutes,
        evaluate_every_kimg=evaluate_every_kimg or (20 if kimg is None else kimg / 5),
        seeds=seeds,
        base=replaced(start, data=data or start.data, protocol=protocol),
    )
    folder = out or Path("runs") / f"ablate-{suite}"
    check_place(folder, plan)
    if report_only and not folder.is_dir():
        raise UserError(f"there is no ablation in {folder} to report: pass the folder of one", "out")
    if report_only:
        check_runs(rows, plan, folder)
    with stop_on_signal() as received:

        def hooks_for(name: str, config: "RunConfig") -> "Hooks":
            def say(line: str) -> None:
                print(f"{name}: {line}", file=sys.stderr)

            hooks = log_hooks(config, say)
            hooks.on_notice, hooks.should_stop = say, lambda: bool(received)
            return hooks

        finished = report_only or run_suite(rows, plan, folder, hooks_for, lambda: bool(received))
    made_by = command(*(word for word in sys.argv[1:] if word != "--report-only"))
    print(f"report: {write_report(table, plan, folder, made_by)}")
    if not finished:
        print("not all runs are finished; the same command goes on")
    if received:
        sys.exit(128 + received[0])
