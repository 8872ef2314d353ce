"""`vitgan explore WHAT MODEL`: ways of looking at a trained generator."""

import difflib
import inspect
from collections.abc import Callable
from typing import Any

from vitgan.cli.arguments import parse
from vitgan.cli.explore_pixels import Attention, Invert, Zoom, attention, invert, zoom
from vitgan.cli.explore_styles import (
    Directions,
    Grow,
    Interpolate,
    Mix,
    Truncate,
    directions,
    grow,
    interpolate,
    mix,
    truncate,
)
from vitgan.errors import UserError

WAYS: dict[str, tuple[type, Callable[[Any], None]]] = {
    "interpolate": (Interpolate, interpolate),
    "mix": (Mix, mix),
    "truncate": (Truncate, truncate),
    "directions": (Directions, directions),
    "zoom": (Zoom, zoom),
    "attention": (Attention, attention),
    "invert": (Invert, invert),
    "grow": (Grow, grow),
}


def main(arguments: list[str]) -> None:
    """Runs `vitgan explore WHAT ARGUMENTS`.

    Raises:
        UserError: If there is no such way of looking, or it says so.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return
    name, rest = arguments[0], arguments[1:]
    if name not in WAYS:
        near = difflib.get_close_matches(name, WAYS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UserError(f"cannot explore {name!r}: {hint}choose one of {', '.join(WAYS)} (`vitgan explore --help`)")
    options, look = WAYS[name]
    look(parse(options, rest, f"vitgan explore {name}", inspect.cleandoc(look.__doc__ or "")))


def usage() -> str:
    """The text of `vitgan explore --help`."""
    rows = "\n".join(f"  {name:<12} {(look.__doc__ or '').splitlines()[0]}" for name, (_, look) in WAYS.items())
    return (
        f"usage: vitgan explore WHAT MODEL ...\n\nWays of looking at a trained generator:\n{rows}\n\n"
        "example:\n  vitgan explore interpolate runs/00000-quickstart --seeds 0 1 2 3 --out walk.gif\n\n"
        "`vitgan explore WHAT --help` shows what it takes."
    )
