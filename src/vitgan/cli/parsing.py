"""The tree of commands: annotated functions, read by tyro, checked by pydantic, and each complaint in one line."""

import functools
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any, NamedTuple, NoReturn, get_args, get_type_hints

import tyro
from pydantic import BaseModel, ValidationError, validate_call
from tyro import _errors as events  # its hook for complaints as data, not text, is in no public module yet
from tyro.constructors import MISSING, ConstructorRegistry, StructConstructorSpec, StructFieldSpec, StructTypeInfo
from tyro.extras import SubcommandApp

from vitgan.cli.output import wrapped_usage
from vitgan.errors import UserError, nearest, similar
from vitgan.schema import Config, first_problem

Command = Callable[..., None]


class Group(NamedTuple):
    """Commands behind one word.

    Attributes:
        about: The text of its help; the first paragraph stands in the list above it.
        commands: By name, in the help's order; of one that is listed and not meant, the text is enough.
    """

    about: str
    commands: "Mapping[str, Group | Command | str]"


Node = Group | Command | str


def parse(tree: Group, words: list[str]) -> Callable[[], None]:
    """The command that the words ask for, with its arguments, ready to be called; `--help` prints and ends the process.

    Raises:
        UserError: If a command or option is unknown (with the nearest one), or a value does not fit.
    """
    path, node = find(tree, words)
    program, words = " ".join(["vitgan", *path]), words[len(path) :]

    def refuse(reason: str, parameter: str | None = None) -> NoReturn:
        raise UserError(f"{reason}; see `{program} --help`", parameter)

    if isinstance(node, Group):
        if words[:1] not in ([], ["-h"], ["--help"]):
            refuse(f"unknown command {words[0]!r}: {nearest(words[0], node.commands)}")
        app = SubcommandApp()
        for name, child in node.commands.items():
            app.command(name=name, help=" ".join(_about(child).split("\n\n")[0].split()))(lambda: None)
        with wrapped_usage():
            return app.cli(prog=program, description=node.about, args=["--help"])
    assert callable(node)
    none = () if path[0] == "train" else (tyro.conf.DisallowNone,)  # only there a field may be set to None
    about = _about(node).split("\n\nArgs:")[0]
    try:
        with wrapped_usage(), events.on_parse_error(lambda event: refuse(*_refusal(event, node, words))):
            return tyro.cli(_checked(node), prog=program, description=about, args=words, config=none, registry=REGISTRY)
    except ValidationError as error:
        place, reason = first_problem(error)
        name = option(node, place)
        refuse(f"{flag(name)} {reason}" if name else reason, name)


def find(tree: Group, words: list[str]) -> tuple[list[str], Node]:
    """The longest beginning of the words that names something in the tree, and what it names."""
    path: list[str] = []
    node: Node = tree
    for word in words:
        if not isinstance(node, Group) or word not in node.commands:
            break
        path.append(word)
        node = node.commands[word]
    return path, node


def option(node: Node, parameter: str) -> str | None:
    """The parameter or field of a command that a field's whole name leads to; None if no option sets it.

    The whole name begins with the argument's name, and may hold the tag of a union.
    """

    def leads_to(name: str) -> bool:
        parts = iter(parameter.split("."))
        return all(part in parts for part in name.split("."))

    return max(filter(leads_to, parameters(node)), key=len, default=None)


def parameters(node: Node) -> Iterator[str]:
    """What a command's options set: parameters, and fields of configurations."""
    if not callable(node):
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


def flag(parameter: str) -> str:
    """ "--training.batch-size" of "training.batch_size"."""
    return "--" + parameter.replace("_", "-")


def _parameter(word: str) -> str:
    return word.partition("=")[0].lstrip("-").replace("-", "_").lower()


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


def _about(node: Node) -> str:
    return node if isinstance(node, str) else node.about if isinstance(node, Group) else inspect.getdoc(node) or ""


def _checked(command: Command) -> Callable[..., Callable[[], None]]:
    """A function of the same signature that checks its arguments, and gives the command back to be called with them."""

    @functools.wraps(command)
    def remember(*arguments: object, **options: object) -> Callable[[], None]:
        return functools.partial(command, *arguments, **options)

    # An argument's text in one line: tyro would break its own lines where the docstring does.
    command.__doc__ = re.sub(r"\n {8,}", " ", inspect.getdoc(command) or "")
    return validate_call(remember)


def _refusal(event: Any, node: Node, words: list[str]) -> tuple[str, str | None]:
    """What is wrong with the words, and the parameter."""
    argument = getattr(event, "argument", None)
    name = _argument_name(argument) if argument else ""
    match event:
        case events.UnrecognizedArgs():
            return _unknown_option(event.tokens[0], node, words)
        case events.InvalidChoice():
            reason = f"{name} must be one of {', '.join(event.choices)}, but is {event.value!r}"
        case events.BadValue() if argument and argument.is_positional() and (odd := _unknown_options(node, words)):
            return _unknown_option(odd[0], node, words)  # it stands where a value was looked for
        case events.BadValue():
            reason = f"{name} needs a value"
        case events.MissingArgs() if event.unrecognized_tokens[:1] and event.unrecognized_tokens[0].startswith("-"):
            return _unknown_option(event.unrecognized_tokens[0], node, words)
        case events.MissingArgs():
            name, *others = [_argument_name(missing.arg) for missing in event.missing_arguments]
            reason = f"missing: {', '.join([name, *others])}"
            if event.unrecognized_tokens:  # perhaps the value of what is missing
                reason = f"unknown argument {event.unrecognized_tokens[0]!r}; {reason}"
        case events.InstantiationFailure():
            expected = argument.lowered.metavar if argument else "other values"
            cause = event.message.splitlines()[-1].rpartition("]: ")[2]  # before it a type, where there may be several
            reason = f"{name} must be {expected}: {cause}"
        case _:
            reason = f"these words cannot be read ({type(event).__name__})"
    return reason, _parameter(name)


def _argument_name(argument: Any) -> str:
    return str(argument.lowered.metavar) if argument.is_positional() else argument.lowered.name_or_flags[-1]


def _unknown_options(node: Node, words: list[str]) -> list[str]:
    known = list(parameters(node))
    return [w for w in words if re.match("--?[a-zA-Z]", w) and _parameter(w).removeprefix("no_") not in known]


def _unknown_option(word: str, node: Node, words: list[str]) -> tuple[str, str | None]:
    known, name = list(parameters(node)), _parameter(word)
    if word.lower() in ("true", "false"):
        before = next((a for a, b in pairwise([*words, ""]) if word in (b, a.partition("=")[2])), "")
        if (switch := _parameter(before)) in known:
            on, (path, dot, last) = flag(switch), switch.rpartition(".")
            return f"{on} takes no value: write {on} for True, {flag(f'{path}{dot}no-{last}')} for False", switch
    near = similar(name, known) if word.startswith("-") else []
    hint = f": perhaps you meant {' or '.join(map(flag, near))}" if near else ""
    kind = "option" if word.startswith("-") else "argument"
    return f"unknown {kind} {word!r}{hint}", near[0] if near else None
