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


class WithSwitch(Config):
    on: bool = False
    maybe: bool | None = None
    sizes: tuple[int, ...] = ()
    counts: tuple[int, ...] | None = None


class WrongDefault(Config):
    rate: float = Field(default=2.0, le=1)


def problem(error: ValidationError) -> tuple[tuple[int | str, ...], str]:
    """Where the first value is that does not fit, and the kind of fault."""
    first = error.errors()[0]
    return first["loc"], first["type"]


def test_unknown_fields_are_refused_at_any_depth() -> None:
    for values, place in (({"sizes": 3}, ("sizes",)), ({"inner": {"rat": 0.1}}, ("inner", "rat"))):
        with pytest.raises(ValidationError) as error:
            Outer.model_validate(values)
        assert problem(error.value) == (place, "extra_forbidden")


def test_values_outside_their_bounds_are_refused_and_so_are_such_defaults() -> None:
    for make in (lambda: Inner(rate=1.5), WrongDefault):
        with pytest.raises(ValidationError) as error:
            make()
        assert problem(error.value) == (("rate",), "less_than_equal")


def test_a_truth_value_is_no_number_and_stays_one_where_it_is_meant() -> None:
    """YAML's "yes" and "on" are truth values too."""
    for kind, values, place in (
        (Outer, {"inner": {"rate": True}}, ("inner", "rate")),
        (Outer, {"size": False}, ("size",)),
        (WithSwitch, {"sizes": [2, True]}, ("sizes", 1)),
        (WithSwitch, {"counts": [False]}, ("counts", 0)),
    ):
        with pytest.raises(ValidationError) as error:
            kind.model_validate(values)
        assert error.value.errors()[0]["loc"] == place
    switch = WithSwitch.model_validate({"on": True, "maybe": False, "sizes": [2]})
    assert (switch.on, switch.maybe, switch.sizes) == (True, False, (2,))


def test_a_configuration_cannot_be_changed() -> None:
    config = Outer()
    with pytest.raises(ValidationError) as error:
        config.size = 3
    assert problem(error.value) == (("size",), "frozen_instance")
    assert hash(config) == hash(Outer())


@pytest.mark.parametrize("name", PRESET_NAMES)
def test_json_gives_the_same_configuration_again(name: str) -> None:
    """Tuples and None included."""
    config = preset(name)
    assert type(config).model_validate_json(config.model_dump_json()) == config
    assert type(config).model_validate(config.model_dump(mode="json")) == config
