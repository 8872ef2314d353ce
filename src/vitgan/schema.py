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
    place, reason, found = ".".join(map(str, first["loc"])), first["msg"], repr(first["input"])
    if first["type"] == "union_tag_invalid":
        about = first.get("ctx", {})
        place, reason, found = f"{place}.kind", f"must be one of {about['expected_tags']}", repr(about["tag"])
    reason = reason.removeprefix("Value error, ").replace("Input should", "must")
    return place, reason if first["type"] == "missing" else f"{reason}, but is {found}"
