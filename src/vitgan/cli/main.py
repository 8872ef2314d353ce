"""`vitgan COMMAND ...`: from the words of a command line to the end of the process."""

import os
import sys
import warnings
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from vitgan import __version__
from vitgan.cli.output import check_output, make_output_safe
from vitgan.cli.preset_texts import RECOMMENDED
from vitgan.cli.stopping import stop_on_signal
from vitgan.devices import keep_freed_memory, lacks_memory
from vitgan.errors import ProcessError, UserError, one_line
from vitgan.runs.processes import one_of_several, speaks

if TYPE_CHECKING:
    from vitgan.cli.parsing import Group

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
    "env": "versions, devices and threads, for a bug report",
}
"""Each is in a module of its name, and called so there."""

ABOUT = f"""Train, study and use GANs made of Vision Transformers.

examples:
  vitgan train quickstart
  vitgan train {RECOMMENDED} --data my_photos
  vitgan sample runs/00000-quickstart --grid grid.png"""


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
    arguments = sys.argv[1:]
    try:
        _run(arguments)
    except Exception as error:
        if (line := _line(error, arguments)) is None:
            raise
        if speaks() or isinstance(error, ProcessError) or not isinstance(error, UserError):
            print(f"vitgan: {line}", file=sys.stderr)
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
        SystemExit: If it was asked to end, or to print help.
    """
    if arguments[:1] == ["--version"]:
        print(f"vitgan {__version__}")
        return
    words = ["--help"] if arguments[:1] in ([], ["-h"], ["help"]) else with_guess(arguments)
    with stop_on_signal() as received:  # an import that is interrupted says that a library is broken
        from vitgan.cli.parsing import parse

        command = parse(command_tree(words), words)
    if received:
        sys.exit(128 + received[0])
    command()


def with_guess(words: list[str]) -> list[str]:
    """`vitgan data PATH` is `vitgan data auto PATH`."""
    path = words[1] if len(words) > 1 else ""
    if words[0] == "data" and (os.path.exists(path) or path.startswith("hf://")):  # noqa: PTH110 - False for odd names
        from vitgan.cli.data import data

        if words[1] not in data.commands:
            return ["data", "auto", *words[1:]]
    return words


def command_tree(words: list[str]) -> "Group":
    """All commands, of which only the one that is meant is imported."""
    from vitgan.cli.parsing import Group

    name = words[0]
    if name not in COMMANDS:
        return Group(ABOUT, COMMANDS)
    if name != "train" and one_of_several():
        raise UserError(f"`vitgan {name}` is work for one process: start it without torchrun")
    from vitgan.files import user_error

    with user_error("the working directory is gone", OSError, advice="change to another"):
        Path.cwd()
    module = import_module(f"vitgan.cli.{name}")
    return Group(ABOUT, {name: module.starts(words[1:]) if name == "train" else getattr(module, name)})


def _line(error: Exception, arguments: list[str]) -> str | None:
    """What is said of an error that is no fault of the program; of a parameter's, with the option that sets it."""
    if isinstance(error, UserError):
        return f"{error}{_option(error, arguments)}"
    if lacks_memory(error):
        return one_line(f"the memory does not suffice ({str(error)[:200]}): ask for less, or end other programs")
    if isinstance(error, OSError):  # of a file that no command expected to fail, e.g. a name too long for the system
        place = f"{error.filename}: " if error.filename else ""
        return one_line(f"{place}{error.strerror or error}: mend that, or pass another path")
    return None


def _option(error: UserError, arguments: list[str]) -> str:
    if error.parameter is None:
        return ""
    from vitgan.cli.parsing import find, flag, option

    with suppress(UserError):  # the same again where the tree itself cannot be made
        words = with_guess(arguments)
        _, node = find(command_tree(words), words)
        name = option(node, error.parameter)
        if name and flag(name) not in str(error):
            return f" ({flag(name)})"
    return ""
