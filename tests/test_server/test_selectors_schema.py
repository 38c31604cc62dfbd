"""Selectors from JSON: what is allowed follows from their fields alone."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pytest

from kshot.arrays import Feature
from kshot.errors import InvalidParameter, UnknownSelector
from kshot.selectors import SELECTORS
from kshot.selectors.base import parameter
from kshot.selectors.mmr import Mmr
from kshot.server.selectors_schema import build_selector, parameter_model, selector_infos


@dataclass(frozen=True)
class Toy:
    """One of each kind of parameter."""

    needs: ClassVar[frozenset[Feature]] = frozenset()
    count: int = parameter(3, description="how many", ge=1, le=9)
    weight: float = parameter(0.5, description="how much", gt=0)
    is_on: bool = parameter(default=False, description="whether")
    mode: Literal["a", "b"] = parameter("a", description="which")
    limit: int | None = parameter(None, description="at most", ge=2)


def refuse(values: dict[str, Any]) -> list[str]:
    with pytest.raises(ValueError) as caught:
        parameter_model(Toy).model_validate(values)
    return [error["type"] for error in caught.value.errors()]  # type: ignore[attr-defined]  # pydantic's


def test_the_schema_says_type_default_range_and_meaning():
    schema = parameter_model(Toy).model_json_schema()
    count = schema["properties"]["count"]
    assert (count["type"], count["default"], count["minimum"], count["maximum"]) == ("integer", 3, 1, 9)
    assert count["description"] == "how many"
    assert schema["properties"]["weight"]["exclusiveMinimum"] == 0
    assert schema["properties"]["mode"]["enum"] == ["a", "b"]
    assert schema["additionalProperties"] is False
    assert list(schema["properties"]) == ["count", "weight", "is_on", "mode", "limit"]


@pytest.mark.parametrize(
    "values",
    [
        {"count": 0},
        {"count": 10},
        {"count": True},
        {"count": 3.0},
        {"count": "3"},
        {"weight": 0},
        {"weight": float("nan")},
        {"weight": float("inf")},
        {"is_on": 1},
        {"mode": "c"},
        {"limit": 1},
        {"other": 1},
    ],
)
def test_values_are_not_coerced_and_ranges_hold(values: dict[str, Any]):
    assert len(refuse(values)) == 1


def test_a_whole_number_is_a_number_and_null_is_allowed_where_declared():
    parsed = parameter_model(Toy).model_validate({"weight": 2, "limit": None})
    assert parsed.model_dump() == {"count": 3, "weight": 2.0, "is_on": False, "mode": "a", "limit": None}


def test_a_selector_is_built_with_what_is_given():
    assert build_selector("mmr", {"diversity": 0.3}) == Mmr(diversity=0.3)
    assert build_selector("mmr", {}) == Mmr()


def test_an_unknown_parameter_is_named_with_those_that_exist():
    with pytest.raises(InvalidParameter) as caught:
        build_selector("mmr", {"lambda": 0.3})
    (error,) = caught.value.errors
    assert error.pointer == "/method/lambda"
    assert "lambda is unknown; allowed: diversity" in caught.value.message


def test_a_parameter_out_of_range_is_named_with_its_range():
    with pytest.raises(InvalidParameter) as caught:
        build_selector("mmr", {"diversity": 1.5})
    (error,) = caught.value.errors
    assert (error.pointer, error.message) == ("/method/diversity", "received 1.5, allowed <= 1")


def test_an_unknown_method_lists_those_that_exist():
    with pytest.raises(UnknownSelector, match="mmr"):
        build_selector("nearest", {})


@pytest.mark.parametrize("name", SELECTORS.names())
def test_every_selector_can_be_built_and_described(name: str):
    assert build_selector(name, {}) == SELECTORS.get(name)()
    (info,) = [one for one in selector_infos() if one.name == name]
    assert info.summary
    for described in info.parameters.get("properties", {}).values():
        assert described["description"]
