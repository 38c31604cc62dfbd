import operator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from kshot.index.columns import ColumnWriter, flatten
from kshot.index.filtering import bitmap, fields_of
from kshot.schemas.filters import Filter

ADAPTER: TypeAdapter[Filter] = TypeAdapter(Filter)

NUMBERS = st.sampled_from([0, 1, 2, -1, 0.0, 1.0, 0.5, 1.5, 2**60, 2**60 + 1])
TEXTS = st.sampled_from(["", "0", "1", "a", "ab", "b", "True", "[1]"])
SCALARS = st.one_of(st.booleans(), NUMBERS, TEXTS)
LISTS = st.lists(st.one_of(SCALARS, st.none(), st.lists(SCALARS, max_size=2)), max_size=3)
NAMES = st.sampled_from(["a", "b", "c", "a.b"])
VALUES = st.recursive(
    st.one_of(st.none(), SCALARS, LISTS),
    lambda inner: st.dictionaries(NAMES, inner, max_size=2),
    max_leaves=4,
)
RECORDS = st.fixed_dictionaries(
    {"metadata": st.dictionaries(NAMES, VALUES, max_size=3)},
    optional={"split": TEXTS, "label": TEXTS, "group": TEXTS},
)
FIELDS = st.sampled_from(
    ["split", "label", "group", "subject_id"]
    + [f"metadata.{name}" for name in ("a", "b", "c", "a.b", "a.a", "b.a.b", "zz")]
)
ORDERED = st.one_of(NUMBERS, TEXTS)
CONDITIONS = st.builds(
    lambda field, comparisons: {"field": field, **comparisons},
    FIELDS,
    st.fixed_dictionaries(
        {},
        optional={
            "eq": SCALARS,
            "ne": SCALARS,
            "in": st.lists(SCALARS, max_size=4),
            "gt": ORDERED,
            "gte": ORDERED,
            "lt": ORDERED,
            "lte": ORDERED,
            "exists": st.booleans(),
            "contains": SCALARS,
        },
    ).filter(bool),
)
# Most filters should compare little, or nothing would ever match.
SMALL = CONDITIONS.filter(lambda condition: len(condition) <= 3)
FILTERS = st.recursive(
    SMALL,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda parts: {"all": parts}),
        st.lists(inner, max_size=3).map(lambda parts: {"any": parts}),
        inner.map(lambda part: {"not": part}),
    ),
    max_leaves=6,
)


def leaves(value, path):
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, f"{path}.{name}")
    elif value is not None:
        yield path, value


def field_values(record):
    plain = {name: value for name, value in record.items() if name != "metadata"}
    return plain | dict(leaves(record["metadata"], "metadata"))


def kind(value):
    return "number" if type(value) in (int, float) else type(value).__name__


def equal(a, b):
    return kind(a) == kind(b) and a == b


COMPARE = {
    "eq": equal,
    "ne": lambda value, operand: not equal(value, operand),
    "in": lambda value, operand: any(equal(value, one) for one in operand),
    "contains": lambda value, operand: (
        any(equal(item, operand) for item in value)
        if isinstance(value, list)
        else isinstance(value, str) and isinstance(operand, str) and operand in value
    ),
}
ORDER = {"gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le}


def holds(name, values, field, operand):
    if name == "exists":
        return (field in values) == operand
    if field not in values:
        return False
    value = values[field]
    if name in ORDER:
        return kind(value) == kind(operand) and bool(ORDER[name](value, operand))
    return COMPARE[name](value, operand)


def matches(values, expression):
    match expression:
        case {"all": parts}:
            return all(matches(values, part) for part in parts)
        case {"any": parts}:
            return any(matches(values, part) for part in parts)
        case {"not": part}:
            return not matches(values, part)
        case {"field": field, **comparisons}:
            return all(holds(name, values, field, operand) for name, operand in comparisons.items())
    raise AssertionError(expression)


def frozen(records):
    writer = ColumnWriter()
    for record in records:
        plain = [(name, value) for name, value in record.items() if name != "metadata"]
        writer.append([*plain, *flatten(record["metadata"])])
    return writer.freeze()


@settings(max_examples=100)
@given(records=st.lists(RECORDS, max_size=8), expression=FILTERS)
def test_a_bitmap_says_of_each_row_what_its_record_says(records, expression):
    found = bitmap(ADAPTER.validate_python(expression), frozen(records), len(records))
    assert found.dtype == np.bool_
    assert found.tolist() == [matches(field_values(record), expression) for record in records]


@given(record=RECORDS, operand=SCALARS, field=FIELDS)
def test_each_row_with_the_field_equals_a_scalar_or_does_not(record, operand, field):
    columns = frozen([record])
    answers = [
        bitmap(ADAPTER.validate_python({"field": field, name: operand}), columns, 1)[0]
        for name in ("eq", "ne")
    ]
    assert sum(answers) == (field in field_values(record))


RECORD = {
    "split": "train",
    "metadata": {"n": 3, "flag": True, "text": "spam", "tags": ["x", 1], "deep": {"a": 1}},
}


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"field": "split", "eq": "train"}, True),
        ({"field": "metadata.n", "eq": 3.0}, True),
        ({"field": "metadata.n", "eq": "3"}, False),
        ({"field": "metadata.n", "ne": "3"}, True),
        ({"field": "metadata.n", "gte": 3, "lt": 4}, True),
        ({"field": "metadata.n", "gt": 3}, False),
        ({"field": "metadata.n", "lt": "4"}, False),
        ({"field": "metadata.n", "in": [1, "3", True, 3]}, True),
        ({"field": "metadata.n", "in": []}, False),
        ({"field": "metadata.flag", "eq": 1}, False),
        ({"field": "metadata.flag", "eq": True}, True),
        ({"field": "metadata.flag", "gte": 0}, False),
        ({"field": "metadata.text", "contains": "pa"}, True),
        ({"field": "metadata.text", "gt": "spa"}, True),
        ({"field": "metadata.tags", "contains": "x"}, True),
        ({"field": "metadata.tags", "contains": 1.0}, True),
        ({"field": "metadata.tags", "contains": True}, False),
        ({"field": "metadata.tags", "eq": "x"}, False),
        ({"field": "metadata.tags", "ne": "x"}, True),
        ({"field": "metadata.deep", "exists": True}, False),
        ({"field": "metadata.deep.a", "exists": True}, True),
        ({"field": "metadata.none", "ne": 1}, False),
        ({"field": "metadata.none", "exists": False}, True),
        ({"not": {"field": "metadata.none", "eq": 1}}, True),
        ({"all": []}, True),
        ({"any": []}, False),
    ],
)
def test_the_filter_language_by_example(condition, expected):
    assert bitmap(ADAPTER.validate_python(condition), frozen([RECORD]), 1).tolist() == [expected]


def test_a_value_that_no_row_has_any_more_plays_no_part():
    writer = ColumnWriter()
    writer.append([("split", "old")])
    writer.replace(0, [("split", "new")])
    columns = writer.freeze()
    assert not bitmap(ADAPTER.validate_python({"field": "split", "eq": "old"}), columns, 1).any()


def test_fields_of_a_filter_are_those_of_all_its_parts():
    expression = {
        "all": [
            {"any": [{"field": "split", "eq": "a"}, {"all": []}]},
            {"not": {"field": "metadata.x", "gt": 1}},
            {"field": "split", "ne": "b"},
        ]
    }
    assert fields_of(ADAPTER.validate_python(expression)) == {"split", "metadata.x"}
