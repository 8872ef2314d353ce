"""Command-line arguments through tyro, whose complaints become one line each."""

import ast
import contextlib
import difflib
import inspect
import io
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro
from pydantic import AfterValidator, Field, ValidationError

from vitgan import files
from vitgan.devices import check_device_name
from vitgan.errors import UserError
from vitgan.files import check_file
from vitgan.files.pictures import check_animation, check_picture

Parsed = TypeVar("Parsed")

# What values an option takes. Options are dataclasses of pydantic's, so that each value is checked before any work is done.
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Index = Annotated[int, Field(ge=0, lt=2**31)]
Truncation = Annotated[float, Field(ge=-10, le=10, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
FramesPerSecond = Annotated[float, Field(ge=0.1, le=100)]
Device = Annotated[str, AfterValidator(check_device_name)]
OutputFile = Annotated[Path, AfterValidator(lambda path: check_file(path))]
PictureFile = Annotated[Path, AfterValidator(check_picture)]
AnimationFile = Annotated[Path, AfterValidator(check_animation)]
"""A still .png too."""


def chosen_file(given: Path | None, usual: str, option: str = "--out") -> Path:
    """The file that was asked for, else the usual one, which nobody asked for by name and which therefore replaces nothing.

    Raises:
        UserError: If the usual one is there or cannot be made.
    """
    if given is None and Path(usual).exists():
        raise UserError(f"{usual} is there already: pass {option} {usual} to replace it, or {option} with another name")
    return given or check_file(Path(usual))


def parse(
    kind: type[Parsed] | Callable[..., Parsed],
    arguments: list[str],
    prog: str,
    description: str | None = None,
    default: Any = None,
) -> Parsed:
    """Arguments as a `kind`; `--help` prints and ends the process.

    Args:
        kind: A dataclass, pydantic model or function, as tyro takes it.
        arguments: What stands behind the command.
        prog: The command as the user typed it.
        description: Text at the top of the help; its first lines should hold an example.
        default: An instance whose fields the arguments override.

    Raises:
        UserError: If an option is unknown (with the nearest one), or a value does not fit.
    """
    options: dict[str, Any] = {"prog": prog, "description": description}
    if default is not None:
        options["default"] = default
    if {"-h", "--help"} & set(arguments):
        return tyro.cli(kind, args=arguments, **options)
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint), contextlib.redirect_stdout(complaint):
            parsed, unknown = tyro.cli(kind, args=arguments, return_unknown_args=True, **options)
    except SystemExit as error:
        raise UserError(one_line(complaint.getvalue(), prog)) from error
    except ValidationError as error:  # of options that a function takes as a whole
        raise UserError(one_line(f"Error parsing {error.title}: {error}", prog)) from error
    if unknown:
        raise UserError(_unknown(unknown[0], kind, prog, options))
    return parsed


def restore_docstrings() -> None:
    """Reads docstrings from the sources of what is imported of the package: they are the help, and `python -OO` has none."""
    for name, module in [*sys.modules.items()]:
        if name.startswith("vitgan."):
            tree = ast.parse(inspect.getsource(module))
            module.__doc__ = ast.get_docstring(tree)
            for node in tree.body:
                if isinstance(node, ast.FunctionDef | ast.ClassDef):
                    vars(module)[node.name].__doc__ = ast.get_docstring(node)


REWORDINGS = (
    (r"For further information visit \S+", ""),
    (r"\s*\[type=[^\]]*input_value=([^,\]]*)[^\]]*\]", r" (got \1)"),
    (r"no type matching \{None\}\|\{?([^}]*?)\}? could be instantiated from \[(.*?)\]\. .*", r"expected \1, got \2"),
    (r"invalid literal for int\(\) with base 10:", "expected a whole number, got"),
    (r"could not convert string to float:", "expected a number, got"),
    (r"Could not find valid parse for arguments:", "cannot be read:"),
    (r"Input should be greater than or equal to", "must be at least"),
    (r"Input should be less than or equal to", "must be at most"),
    (r"Input should", "must"),
    (r"^(Value error|Parsing error|Missing argument|Required options?)\s+", ""),
    (r"^Error parsing (?=--)", ""),
)
"""What tyro and pydantic say -> what a person who typed a command is told."""


def one_line(complaint: str, prog: str) -> str:
    """tyro's boxed complaint without the box and the pointers to documentation, as one line."""
    lines = [line.strip("│╭╰╮╯─- \t") for line in complaint.split("Argument helptext")[0].splitlines()]
    text = " ".join(" ".join(line for line in lines if line and "full helptext" not in line).split())
    for pattern, words in REWORDINGS:
        text = re.sub(pattern, words, text)
    text = re.sub(r"^Error parsing ([\w.]+): \d+ validation errors? for \w+ ([\w.]+)", _option, text)
    return f"{files.one_line(' '.join(text.split()), 400)}; see `{prog} --help`"


def _option(match: re.Match[str]) -> str:
    """pydantic's "seeds.1", the second of several values, as what stands on the command line: "--seeds"."""
    section = match[1].removeprefix("config").removeprefix(".") if match[1].startswith("config") else ""
    name = re.sub(r"\.\d+$", "", match[2]).replace("_", "-")
    return f"--{section}.{name}:" if section else f"--{name}:"


def _unknown(option: str, kind: Any, prog: str, options: dict[str, Any]) -> str:
    help_text = io.StringIO()
    with contextlib.redirect_stdout(help_text), contextlib.suppress(SystemExit):
        tyro.cli(kind, args=["--help"], **options)
    known = sorted(set(re.findall(r"--[\w.-]+", help_text.getvalue())))
    name = option.split("=")[0].replace("_", "-")
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    last = [k for k in known if k.rsplit(".", 1)[-1] == name.removeprefix("--").rsplit(".", 1)[-1]]
    suggestions = " or ".join((last or near)[:2])
    hint = f"perhaps you meant {suggestions}; " if suggestions else ""
    return f"unknown option {option!r}: {hint}`{prog} --help` lists all"
