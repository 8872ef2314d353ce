"""The base of all configurations: frozen, closed, checked, and the same again from JSON."""

import pytest
from pydantic import Field, ValidationError

from vitgan.presets import PRESET_NAMES, preset
from vitgan.schema import Config


class Inner(Config):
    rate: float = Field(default=0.5, ge=0, le=1)
    names: tuple[str, ...] = ("a",)


class Outer(Config):
    inner: Inner = Inner()
    size: int | None = None


class WrongDefault(Config):
    rate: float = Field(default=2.0, le=1)


def test_unknown_fields_are_refused_at_any_depth() -> None:
    for values in ({"sizes": 3}, {"inner": {"rat": 0.1}}):
        with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
            Outer.model_validate(values)


def test_values_outside_their_bounds_are_refused_and_so_are_such_defaults() -> None:
    with pytest.raises(ValidationError, match="less than or equal to 1"):
        Inner(rate=1.5)
    with pytest.raises(ValidationError, match="less than or equal to 1"):
        WrongDefault()


def test_a_configuration_cannot_be_changed() -> None:
    config = Outer()
    with pytest.raises(ValidationError, match="frozen"):
        config.size = 3
    assert hash(config) == hash(Outer())


@pytest.mark.parametrize("name", PRESET_NAMES)
def test_json_gives_the_same_configuration_again(name: str) -> None:
    """Tuples and None included."""
    config = preset(name)
    assert type(config).model_validate_json(config.model_dump_json()) == config
    assert type(config).model_validate(config.model_dump(mode="json")) == config
