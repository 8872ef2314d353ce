"""The base of every configuration: immutable, and closed to names it does not know."""

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """A frozen configuration. An unknown field is an error, and so is a value outside its bounds or no finite number.

    The text below a field is its description, also in the command line's help.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
