"""Command-line arguments through tyro, whose complaints become one line each."""

import ast
import contextlib
import difflib
import inspect
import io
import re
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import tyro

from vitgan.errors import UserError

Parsed = TypeVar("Parsed")


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


def one_line(complaint: str, prog: str) -> str:
    """tyro's boxed complaint without the box and the pointers to documentation, as one line."""
    lines = [line.strip("│╭╰╮╯─- \t") for line in complaint.split("Argument helptext")[0].splitlines()]
    text = " ".join(line for line in lines if line and "full helptext" not in line)
    text = re.sub(r"For further information visit \S+", "", text)
    text = re.sub(r"\s*\[type=[^\]]*input_value=([^,\]]*)[^\]]*\]", r" (got \1)", text)
    text = re.sub(r"^(Value error|Parsing error|Missing argument|Required options?)\s+", "", text)
    return f"{' '.join(text.split())}; see `{prog} --help`"


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
