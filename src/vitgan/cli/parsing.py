"""The tree of commands: annotated functions, read by tyro, checked by pydantic, and each complaint in one line."""

import ast
import difflib
import functools
import inspect
import itertools
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, get_args, get_type_hints

import tyro
from pydantic import BaseModel, ValidationError, validate_call
from tyro import _errors as events  # its hook for complaints as data, not text, is in no public module yet
from tyro.constructors import MISSING, ConstructorRegistry, StructConstructorSpec, StructFieldSpec, StructTypeInfo
from tyro.extras import SubcommandApp

from vitgan.errors import UserError
from vitgan.schema import Config

Command = Callable[..., None]


class Group(NamedTuple):
    """Commands behind one word.

    Attributes:
        about: The text of its help; the first paragraph stands in the list above it.
        commands: By name, in the help's order.
    """

    about: str
    commands: "dict[str, Group | Command]"


def listed(about: str) -> Command:
    """A command that is in a list of commands, and not the one that is meant."""

    def other() -> None: ...

    other.__doc__ = about
    return other


def parse(tree: Group, words: list[str], nullable: bool = False) -> Callable[[], None]:
    """The command that the words ask for, with its arguments, ready to be called; `--help` prints and ends the process.

    Args:
        tree: All commands.
        words: What stands behind `vitgan`.
        nullable: Whether the word None may be given where it is a value.

    Raises:
        UserError: If a command or option is unknown (with the nearest one), or a value does not fit.
    """
    path, node = find(tree, words)
    if isinstance(node, Group):
        words = words if len(path) < len(words) else [*words, "--help"]
        if words[len(path)] not in ("-h", "--help"):
            raise _unknown_command(words[len(path)], path, node)

    def refuse(event: events.ParseErrorEvent) -> None:
        raise _refusal(event, path, node)

    config = () if nullable else (tyro.conf.DisallowNone,)
    try:
        with events.on_parse_error(refuse):
            return _app(tree, words).cli(
                prog="vitgan", description=tree.about, args=words, config=config, registry=REGISTRY
            )
    except ValidationError as error:
        raise _out_of_range(error, path, node) from error


def find(tree: Group, words: list[str]) -> "tuple[list[str], Group | Command]":
    """The longest beginning of the words that names something in the tree, and what it names."""
    path: list[str] = []
    node: Group | Command = tree
    for word in words:
        if not isinstance(node, Group) or word not in node.commands:
            break
        path.append(word)
        node = node.commands[word]
    return path, node


def option(node: "Group | Command", parameter: str | None) -> str | None:
    """The option of a command that sets a parameter or field, e.g. "--training.batch-size"; None if it has none."""
    known = list(parameters(node))
    parts = (parameter or "").split(".")
    # A field's whole name begins with its argument's name, and may hold the tag of a union.
    for length in range(len(parts), 0, -1):
        for name in map(".".join, itertools.combinations(parts, length)):
            if name in known:
                return _flag(name)
    return None


def parameters(node: "Group | Command") -> Iterator[str]:
    """What a command's options set: parameters, and fields of configurations."""
    if isinstance(node, Group):
        return
    for name, parameter in inspect.signature(node).parameters.items():
        kind, *metadata = get_args(parameter.annotation) or (parameter.annotation,)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _fields(kind if parameter.default is parameter.empty else parameter.default)
        elif tyro.conf.Positional not in metadata:
            yield name


def _fields(config: type[BaseModel] | BaseModel, prefix: str = "") -> Iterator[str]:
    kind = config if isinstance(config, type) else type(config)
    for name in kind.model_fields:
        value = getattr(config, name, None)
        if isinstance(value, BaseModel):
            yield from _fields(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def _flag(parameter: str) -> str:
    return "--" + parameter.replace("_", "-")


def _parameter(flag: str) -> str:
    return flag.lstrip("-").replace("-", "_").lower()


REGISTRY = ConstructorRegistry()


@REGISTRY.struct_rule
def _config_as_dictionary(info: StructTypeInfo) -> StructConstructorSpec | None:
    """A configuration's options become a dictionary, so that pydantic checks it as a whole and names fields in full."""
    if not (isinstance(info.type, type) and issubclass(info.type, Config)):
        return None
    hints = get_type_hints(info.type, include_extras=True)
    fields = []
    for name, field in info.type.model_fields.items():
        default = MISSING if field.is_required() else field.get_default(call_default_factory=True)
        if isinstance(info.default, Config):
            default = getattr(info.default, name)
        fields.append(StructFieldSpec(name, hints[name], default, " ".join((field.description or "").split())))
    return StructConstructorSpec(dict, tuple(fields))


def _app(group: Group, words: list[str]) -> SubcommandApp:
    """tyro's form of a tree. What the words do not lead to is listed by its first paragraph."""
    app = SubcommandApp()
    for name, node in group.commands.items():
        chosen = words[:1] == [name]
        about = node.about if isinstance(node, Group) else inspect.getdoc(node) or ""
        shown = about.split("\n\nArgs:")[0] if chosen else " ".join(about.split("\n\n")[0].split())
        if isinstance(node, Group):
            app.command(_app(node, words[1:] if chosen else []), name=name, help=shown)
        else:
            app.command(name=name, help=shown)(_checked(node))
    return app


def _checked(command: Command) -> Callable[..., Callable[[], None]]:
    """A function of the same signature that checks its arguments, and gives the command back to be called with them."""

    @functools.wraps(command)
    def remember(*arguments: object, **options: object) -> Callable[[], None]:
        return functools.partial(command, *arguments, **options)

    # An argument's text in one line: tyro would break its own lines where the docstring does.
    command.__doc__ = re.sub(r"\n {8,}", " ", inspect.getdoc(command) or "")
    return validate_call(remember)


def _refusal(event: Any, path: list[str], node: "Group | Command") -> UserError:
    """What is wrong with the words, in one line."""
    argument = getattr(event, "argument", None)
    name = _argument_name(argument) if argument else ""
    match event:
        case events.UnrecognizedArgs():
            return _unknown_option(event.tokens[0], path, node)
        case events.InvalidChoice():
            reason = f"{name} must be one of {', '.join(event.choices)}, but is {event.value!r}"
        case events.BadValue():
            reason = f"{name} needs a value"
        case events.MissingArgs() if event.unrecognized_tokens:
            return _unknown_option(event.unrecognized_tokens[0], path, node)
        case events.MissingArgs():
            name, *others = [_argument_name(missing.arg) for missing in event.missing_arguments]
            reason = f"missing: {', '.join([name, *others])}"
        case events.InstantiationFailure():
            expected = argument.lowered.metavar if argument else "other values"
            reason = f"{name} must be {expected}: {event.message.partition(chr(10))[0]}"
        case _:
            reason = f"these words cannot be read ({type(event).__name__})"
    return UserError(f"{reason}; {_see(path)}", _parameter(name))


def _argument_name(argument: Any) -> str:
    return str(argument.lowered.metavar) if argument.is_positional() else argument.lowered.name_or_flags[-1]


def _out_of_range(error: ValidationError, path: list[str], node: "Group | Command") -> UserError:
    """What pydantic says of the first value that does not fit."""
    first = error.errors(include_url=False)[0]
    name = option(node, ".".join(part for part in first["loc"] if isinstance(part, str)))
    reason = first["msg"].removeprefix("Value error, ").replace("Input should", "must")
    shown = f"{name} {reason}, but is {first['input']!r}" if name else reason
    return UserError(f"{shown}; {_see(path)}", _parameter(name) if name else None)


def _unknown_command(word: str, path: list[str], node: Group) -> UserError:
    names = ", ".join(node.commands)
    if word.startswith("-"):
        return UserError(f"`{' '.join(['vitgan', *path])}` needs one of {names} before {word!r}; {_see(path)}")
    near = difflib.get_close_matches(word, node.commands, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return UserError(f"unknown command {word!r}: {hint}choose one of {names}; {_see(path)}")


def _unknown_option(word: str, path: list[str], node: "Group | Command") -> UserError:
    known = list(parameters(node))
    name = word.split("=")[0].lstrip("-").replace("-", "_")
    same = [parameter for parameter in known if parameter.rsplit(".", 1)[-1] == name.rsplit(".", 1)[-1]]
    near = same or difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"perhaps you meant {' or '.join(map(_flag, near[:2]))}; " if near else ""
    kind = "option" if word.startswith("-") else "argument"
    return UserError(f"unknown {kind} {word!r}: {hint}{_see(path)}", near[0] if near else None)


def _see(path: list[str]) -> str:
    return f"see `{' '.join(['vitgan', *path, '--help'])}`"


def restore_docstrings() -> None:
    """Reads docstrings from the sources of what is imported of the package: they are the help, and `python -OO` has none."""
    for name, module in [*sys.modules.items()]:
        if name.startswith("vitgan."):
            tree = ast.parse(inspect.getsource(module))
            for node in tree.body:
                if isinstance(node, ast.FunctionDef | ast.ClassDef):
                    vars(module)[node.name].__doc__ = ast.get_docstring(node)
