"""The base of every configuration: immutable, and closed to names it does not know."""

from pydantic import BaseModel, ConfigDict, ValidationError


class Config(BaseModel):
    """A frozen configuration. An unknown field is an error, and so is a value outside its bounds or no finite number.

    The text below a field is its description, also in the command line's help.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


def first_problem(error: ValidationError) -> tuple[str, str]:
    """The first value that does not fit: its dotted place, and "must be greater than 0, but is -1"."""
    first = error.errors(include_url=False)[0]
    reason = first["msg"].removeprefix("Value error, ").replace("Input should", "must")
    found = "" if first["type"] == "missing" else f", but is {first['input']!r}"
    return ".".join(map(str, first["loc"])), reason + found
