import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kshot.index import columns
from kshot.index.columns import MISSING, ColumnWriter, ListValue, flatten

NAMES = st.sampled_from(["id", "split", "metadata.a", "metadata.a.b", "metadata.c"])
VALUES = st.sampled_from([None, True, False, 0, 1, 1.0, -0.5, "", "1", "x", [], [1], [True], ["x", None]])
ROWS = st.lists(st.tuples(NAMES, VALUES), max_size=6)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), ROWS),
        st.tuples(st.just("replace"), ROWS, st.integers(0, 200)),
        st.tuples(st.just("extend"), st.integers(0, 70)),
        st.tuples(st.just("freeze")),
    ),
    max_size=25,
)


def typed(value):
    """Tell 1, 1.0 and True apart, and read a list as it was given."""
    return ("list", repr(list(value.items))) if isinstance(value, ListValue) else (type(value), value)


def read(frozen, rows):
    found = [
        {
            name: typed(column.values[column.codes[row]])
            for name, column in frozen.items()
            if column.codes[row] != MISSING
        }
        for row in range(rows)
    ]
    assert all(column.codes.shape == (rows,) for column in frozen.values())
    return found


def stated(fields):
    return {
        name: ("list", repr(value)) if isinstance(value, list) else (type(value), value)
        for name, value in fields
        if value is not None
    }


@given(steps=STEPS)
def test_frozen_columns_show_for_ever_what_the_rows_were(steps):
    writer, rows, frozen = ColumnWriter(), [], []
    for what, *details in [*steps, ("freeze",)]:
        if what == "append":
            writer.append(details[0])
            rows.append(stated(details[0]))
        elif what == "extend":
            writer.extend(details[0])
            rows.extend({} for _ in range(details[0]))
        elif what == "replace" and rows:
            row = details[1] % len(rows)
            writer.replace(row, details[0])
            rows[row] = stated(details[0])
        elif what == "freeze":
            frozen.append((writer.freeze(), copy.deepcopy(rows)))
    for found, wanted in frozen:
        assert read(found, len(wanted)) == wanted


def test_a_frozen_column_cannot_be_written():
    writer = ColumnWriter()
    writer.append([("id", "a")])
    with pytest.raises(ValueError, match="read-only"):
        writer.freeze()["id"].codes[0] = 5


def test_an_unchanged_column_is_shared_by_the_views_before_and_after_a_change():
    writer = ColumnWriter()
    writer.append([("id", "a"), ("split", "train")])
    before = writer.freeze()
    writer.replace(0, [("id", "a"), ("split", "test")])
    after = writer.freeze()
    assert np.shares_memory(before["id"].codes, after["id"].codes)
    assert not np.shares_memory(before["split"].codes, after["split"].codes)


def test_counts_are_of_the_masked_rows_most_frequent_first():
    writer = ColumnWriter()
    for label in ("a", "b", "b", None, "c", "c", "c", "b"):
        writer.append([("label", label)])
    column = writer.freeze()["label"]
    assert list(column.counts(np.ones(8, np.bool_)).items()) == [("b", 3), ("c", 3), ("a", 1)]
    assert column.counts(np.arange(8) > 3) == {"c": 3, "b": 1}
    assert column.counts(np.zeros(8, np.bool_)) == {}


def test_flatten_names_leaves_by_their_path():
    nested = {"a": {"b": {"c": 1}, "d": None, "e": {}}, "f": [{"g": 2}], "h": "x", "i.j": False}
    assert list(flatten(nested)) == [
        ("metadata.a.b.c", 1),
        ("metadata.f", [{"g": 2}]),
        ("metadata.h", "x"),
        ("metadata.i.j", False),
    ]


def test_flatten_reaches_every_depth_that_is_accepted():
    nested: object = "leaf"
    for _ in range(16):
        nested = {"a": nested}
    assert isinstance(nested, dict)
    assert list(flatten(nested)) == [("metadata" + ".a" * 16, "leaf")]


def test_metadata_fields_beyond_the_limit_are_left_out_and_plain_fields_never(monkeypatch):
    monkeypatch.setattr(columns, "MAX_METADATA_FIELDS", 3)
    writer = ColumnWriter()
    writer.append([("metadata.a", 1), ("metadata.b", 1)])
    writer.append([("metadata.c", 1), ("metadata.d", 1), ("group", "g"), ("metadata.a", 2)])
    frozen = writer.freeze()
    assert sorted(frozen) == ["group", "metadata.a", "metadata.b", "metadata.c"]
    assert frozen["metadata.a"].codes.tolist() == [0, 1]
