"""The base of every configuration: immutable, and closed to names it does not know."""

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator


class Config(BaseModel):
    """A frozen configuration. An unknown field is an error, and so is a value outside its bounds, no finite number, or a
    truth value in a number's place, which would be 0 or 1.

    The text below a field is its description, also in the command line's help.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    @model_validator(mode="before")
    @classmethod
    def _truth_values_are_no_numbers(cls, values: Any) -> Any:
        """Gives a number's field the word in place of the truth value, which would be 0 or 1: the field refuses it."""
        if not isinstance(values, dict):
            return values
        kinds = {name: _kinds(field.annotation) for name, field in cls.model_fields.items()}
        numbers = {name for name, kind in kinds.items() if kind & {int, float} and bool not in kind}
        return values | {name: _words(values[name]) for name in numbers & values.keys()}


def _kinds(annotation: Any) -> set[Any]:
    """What an annotation is made of: float and None of `tuple[float, ...] | None`, say."""
    parts = [_kinds(part) for part in get_args(annotation)]
    return set().union(*parts) if parts else {annotation}


def _words(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_words(part) for part in value]
    return str(value).lower() if isinstance(value, bool) else value


def flat(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of every leaf of a configuration's dump."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def first_problem(error: ValidationError) -> tuple[str, str]:
    """The first value that does not fit: its dotted place, and "must be greater than 0, but is -1"."""
    first = error.errors(include_url=False)[0]
    place, reason, found = ".".join(map(str, first["loc"])), first["msg"], repr(first["input"])
    if first["type"] == "union_tag_invalid":
        about = first.get("ctx", {})
        place, reason, found = f"{place}.kind", f"must be one of {about['expected_tags']}", repr(about["tag"])
    reason = reason.removeprefix("Value error, ").replace("Input should", "must")
    return place, reason if first["type"] == "missing" else f"{reason}, but is {found}"
