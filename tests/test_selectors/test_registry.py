"""Selectors are found by name, and each declares itself fully."""

import dataclasses
import importlib
import inspect
import pkgutil
from typing import Any

import numpy as np
import pytest

import kshot.selectors
from kshot.arrays import Feature
from kshot.errors import InvalidParameter, UnknownSelector
from kshot.selectors import SELECTORS, Registry, Selector
from kshot.selectors.base import check_parameters, parameter
from kshot.selectors.dpp import Dpp
from kshot.selectors.mmr import Mmr
from tests.strategies import random_candidates

NAMES = SELECTORS.names()


def parameters_of(cls: Any):
    return dataclasses.fields(cls)


PARAMETERS = [(name, field) for name in NAMES for field in parameters_of(SELECTORS.get(name))]


def test_every_class_with_a_select_method_is_registered():
    found = set()
    for module in pkgutil.iter_modules(kshot.selectors.__path__):
        contents = vars(importlib.import_module(f"kshot.selectors.{module.name}"))
        found |= {
            item
            for item in contents.values()
            if inspect.isclass(item)
            and hasattr(item, "select")
            and item.__module__ == f"kshot.selectors.{module.name}"
            and not getattr(item, "_is_protocol", False)
        }
    assert found == {SELECTORS.get(name) for name in NAMES}


def test_the_built_in_methods_are_there():
    singly = {"random", "similarity", "bm25", "hybrid", "fused", "bsr"}
    as_sets = {
        "mmr",
        "label_balanced",
        "set_bsr",
        "set_cosine",
        "set_bm25",
        "structural",
        "dpp",
        "sift",
        "cds",
    }
    assert singly | as_sets <= set(NAMES)


def test_a_second_class_under_a_name_is_refused():
    registry: Registry[Selector] = Registry("kshot.selectors", group="kshot.selectors")
    registry.register("dpp")(Dpp)
    registry.register("dpp")(Dpp)
    with pytest.raises(ValueError, match="'dpp' is registered twice"):
        registry.register("dpp")(Mmr)


def test_an_unknown_name_is_answered_with_those_that_exist():
    with pytest.raises(UnknownSelector, match="method 'nearest' is unknown; allowed: bm25, bsr"):
        SELECTORS.get("nearest")


def test_the_scan_does_not_hide_functions_behind_modules_of_the_same_name():
    SELECTORS.names()
    for name in kshot.selectors.__all__:
        assert not inspect.ismodule(getattr(kshot.selectors, name)), name


@pytest.mark.parametrize("name", NAMES)
def test_a_selector_is_a_frozen_dataclass_with_a_one_line_summary(name):
    assert dataclasses.is_dataclass(SELECTORS.get(name))
    cls: Any = SELECTORS.get(name)
    with pytest.raises((dataclasses.FrozenInstanceError, AttributeError, TypeError)):
        cls().something_new = 1
    summary = (inspect.getdoc(cls) or "").partition("\n")[0]
    assert 20 < len(summary) <= 100
    assert summary.endswith(".")
    assert cls().needs <= set(Feature)
    assert isinstance(cls.pool_wide, bool)


@pytest.mark.parametrize(("name", "field"), PARAMETERS, ids=lambda value: getattr(value, "name", value))
def test_every_parameter_has_a_description_and_a_default_within_its_range(name, field):
    assert field.metadata["description"].endswith(".")
    assert field.default is not dataclasses.MISSING
    assert getattr(SELECTORS.get(name)(), field.name) == field.default


def out_of_range(field):
    if (bound := field.metadata["ge"]) is not None:
        yield bound - 1
    if (bound := field.metadata["gt"]) is not None:
        yield bound
    if (bound := field.metadata["le"]) is not None:
        yield bound + 1
    yield float("nan")
    yield float("inf")


@pytest.mark.parametrize(("name", "field"), PARAMETERS, ids=lambda value: getattr(value, "name", value))
def test_values_outside_the_range_are_refused_by_name(name, field):
    for value in out_of_range(field):
        with pytest.raises(InvalidParameter, match=field.name) as refusal:
            SELECTORS.get(name)(**{field.name: value})
        assert refusal.value.errors[0].pointer == f"/method/{field.name}"


def at_the_edges(field):
    """Numbers just within the range; as large and as small as they come where there is no bound."""
    least = {"ge": field.metadata["ge"], "gt": field.metadata["gt"]}
    is_whole = "int" in str(field.type)
    yield 1e-320 if least["gt"] is not None else least["ge"]
    if (most := field.metadata["le"]) is not None:
        yield most
    else:
        yield 10**400 if is_whole else 1e308


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("name", "field"),
    [(name, field) for name, field in PARAMETERS if {field.metadata["ge"], field.metadata["gt"]} != {None}],
    ids=lambda value: getattr(value, "name", value),
)
@pytest.mark.parametrize("n", [9, 2_500])
def test_values_at_the_edges_of_the_range_give_finite_picks(name, field, n):
    # Rows enough for the searches that look at some of them only.
    candidates = random_candidates(seed=1, n=n)
    cls: Any = SELECTORS.get(name)
    variants: list[dict[str, Any]] = [{}]
    if (name, "relevance") in {(method, item.name) for method, item in PARAMETERS}:
        variants.append({"relevance": "fused", **({"add_cand_score": 1.0} if name == "set_bsr" else {})})
    for value in at_the_edges(field):
        for variant in variants:
            selector = cls(**{**variant, field.name: value})
            picks = selector.select(candidates, 8, np.random.default_rng(0))
            assert len(picks) == 8
            assert np.isfinite(picks.gains).all()
            assert np.isfinite(picks.scores).all()


def test_every_refused_parameter_is_reported_at_once():
    @dataclasses.dataclass(frozen=True)
    class Two:
        low: float = parameter(0.0, description="At least 0.", ge=0)
        high: int = parameter(1, description="At most 1.", le=1)

        def __post_init__(self):
            check_parameters(self)

    with pytest.raises(InvalidParameter) as refusal:
        Two(low=-1, high=2)
    assert [error.pointer for error in refusal.value.errors] == ["/method/low", "/method/high"]
    assert "received -1, allowed >= 0" in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "weights"),
    [("fused", {"similarity": 0, "bsr": 0, "bm25": 0}), ("hybrid", {"similarity": 0, "bm25": 0})],
)
def test_weights_that_are_all_zero_are_refused(name, weights):
    with pytest.raises(InvalidParameter, match="all 0"):
        SELECTORS.get(name)(**weights)
