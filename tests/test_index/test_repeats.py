"""Of rows with equal content only the first that may be chosen is."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kshot.index.repeats import Repeats


def test_the_first_that_the_mask_lets_through_stays():
    contents = np.array([7, 5, 7, 9, 5, 7], np.uint64)
    repeats = Repeats.of(contents, np.array([True, True, True, True, True, True]))
    assert repeats.rows.tolist() == [0, 1, 2, 4, 5]
    assert repeats.later(np.array([True] * 6)).tolist() == [2, 4, 5]
    assert repeats.later(np.array([False, True, True, True, True, True])).tolist() == [4, 5]
    assert repeats.later(np.zeros(6, np.bool_)).tolist() == []


def test_copies_are_all_rows_of_that_content():
    repeats = Repeats.of(np.array([7, 5, 7, 9, 5, 7], np.uint64), np.ones(6, np.bool_))
    assert repeats.copies(np.array([2])).tolist() == [0, 2, 5]
    assert repeats.copies(np.array([3])).tolist() == []
    assert repeats.copies(np.array([3, 5, 1])).tolist() == [0, 1, 2, 4, 5]


def test_rows_that_are_gone_repeat_nothing():
    repeats = Repeats.of(np.array([7, 7, 7], np.uint64), np.array([True, False, False]))
    assert len(repeats.rows) == 0


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.booleans()), max_size=12))
def test_every_content_stays_once(rows):
    contents = np.array([content for content, _, _ in rows], np.uint64)
    live = np.array([is_live for _, is_live, _ in rows], np.bool_)
    mask = np.array([is_live and is_in for _, is_live, is_in in rows], np.bool_)
    left = mask.copy()
    left[Repeats.of(contents, live).later(mask)] = False
    first: dict[int, int] = {}
    for row in np.flatnonzero(mask).tolist():
        first.setdefault(int(contents[row]), row)
    assert np.flatnonzero(left).tolist() == sorted(first.values())
