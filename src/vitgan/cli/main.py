"""`vitgan COMMAND ...`: dispatches to one short file per command, imported when it is needed."""

import difflib
import importlib
import os
import sys
import warnings
from pathlib import Path

from vitgan import __version__
from vitgan.cli.output import check_output, make_output_safe
from vitgan.cli.stopping import stop_on_signal
from vitgan.commands import RECOMMENDED
from vitgan.devices import keep_freed_memory
from vitgan.errors import ProcessError, UserError
from vitgan.runs.processes import one_of_several, speaks

COMMANDS = {
    "data": "prepare images for training: your own folder, CIFAR-10, Fashion-MNIST, ...",
    "train": "train a GAN from a preset, or go on with a run",
    "sample": "make images with a trained generator",
    "evaluate": "FID or FD, KID, IS, precision and recall, by a named protocol",
    "explore": "interpolate, mix, truncate, steer, zoom, look at attention, invert, watch it grow",
    "export": "ONNX, a folder for the Hub, a static web page",
    "serve": "the web page and a PNG endpoint on this machine",
    "ablate": "train a table of variants at one budget, and write its report",
    "info": "show presets, runs and models",
}

EXAMPLES = f"""examples:
  vitgan train quickstart
  vitgan data folder --source my_photos --resolution 32 --out data/mine
  vitgan train {RECOMMENDED} --data data/mine
  vitgan sample runs/00000-quickstart --count 64 --grid grid.png"""


RUNS = ("train", "ablate")
"""Commands that print the way to what they made: a run is no failure because nobody could be told."""


def main() -> None:
    """Entry point of the command line.

    Ends the process with 0, 2 for a user's error, 128 and the signal's number when it was asked to end.
    """
    # OpenMP's default is to wait for other threads by spinning, which is many times slower on a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    keep_freed_memory()
    make_output_safe()
    if not speaks():
        warnings.simplefilter("ignore")
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 - for as long as the process lives
    try:
        _run(sys.argv[1:])
    except UserError as error:
        if speaks() or isinstance(error, ProcessError):
            print(f"vitgan: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:  # of a file that no command expected to fail, e.g. a name too long for the system
        from vitgan.files import one_line  # which imports numpy: not for a help text

        place = f"{error.filename}: " if error.filename else ""
        print(
            f"vitgan: {one_line(f'{place}{error.strerror or error}')}: mend that, or pass another path", file=sys.stderr
        )
        sys.exit(2)
    except KeyboardInterrupt:
        print("vitgan: interrupted", file=sys.stderr)
        sys.exit(130)


def _run(arguments: list[str]) -> None:
    try:
        dispatch(arguments)
    except SystemExit as end:
        if end.code:
            raise
    if arguments[:1] not in ([name] for name in RUNS):
        check_output()


def dispatch(arguments: list[str]) -> None:
    """Runs one command.

    Raises:
        UserError: If there is no such command, or the command says so.
        SystemExit: If it was asked to end.
    """
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return
    if arguments[0] == "--version":
        print(f"vitgan {__version__}")
        return
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UserError(f"unknown command {name!r}: {hint}commands are {', '.join(COMMANDS)} (`vitgan --help`)")
    if name != "train" and one_of_several():
        raise UserError(f"`vitgan {name}` is work for one process: start it without torchrun")
    try:
        Path.cwd()
    except OSError as error:
        raise UserError(f"the working directory is gone ({error.strerror}): change to another") from error
    with stop_on_signal() as received:  # an import that is interrupted says that a library is broken
        command = importlib.import_module(f"vitgan.cli.{name}")
    if received:
        sys.exit(128 + received[0])
    if sys.flags.optimize > 1:
        from vitgan.cli.arguments import restore_docstrings

        restore_docstrings()
    command.main(rest)


def usage() -> str:
    """The text of `vitgan --help`."""
    rows = "\n".join(f"  {name:<10} {text}" for name, text in COMMANDS.items())
    return (
        "usage: vitgan COMMAND ...\n\nTrain, study and use GANs made of Vision Transformers.\n\n"
        f"commands:\n{rows}\n\n{EXAMPLES}\n\n`vitgan COMMAND --help` shows what a command takes."
    )
