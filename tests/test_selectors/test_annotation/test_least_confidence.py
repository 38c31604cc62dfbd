"""Least confidence: sorted, with the unknown first."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kshot.errors import InvalidParameter, InvalidShape
from kshot.selectors import least_confidence

NAN = float("nan")
confidences = st.lists(
    st.one_of(st.just(NAN), st.integers(-3, 3).map(lambda c: c / 2)), min_size=1, max_size=9
)


def test_unknown_rows_come_first_then_the_least_sure():
    picks = least_confidence([-0.5, -3, NAN, -1, NAN, -0.25], 5)
    assert picks.indices.tolist() == [2, 4, 1, 3, 0]
    # The surest row has -0.25; an unknown one counts as unsure as the least sure.
    assert picks.gains.tolist() == picks.scores.tolist() == [2.75, 2.75, 2.75, 0.75, 0.25]
    assert picks.diagnostics == {"unknown": 2}


@given(confidence=confidences, data=st.data())
def test_rows_are_sorted(confidence, data):
    n = len(confidence)
    labelled = sorted(data.draw(st.sets(st.integers(0, n - 1))))
    budget = data.draw(st.integers(1, n + 2))
    picks = least_confidence(confidence, budget, labelled=np.array(labelled, np.int64))
    left = [i for i in range(n) if i not in labelled]
    expected = sorted(left, key=lambda i: (-np.inf if np.isnan(confidence[i]) else confidence[i], i))
    assert picks.indices.tolist() == expected[:budget]
    assert np.isfinite(picks.gains).all()
    assert (np.diff(picks.gains) <= 0).all()


def test_where_nothing_is_known_rows_come_in_their_order():
    picks = least_confidence([NAN, NAN, NAN], 2)
    assert picks.indices.tolist() == [0, 1]
    assert picks.gains.tolist() == [0, 0]


def test_senseless_input_is_refused():
    with pytest.raises(InvalidParameter, match="budget is 0"):
        least_confidence([0.5], 0)
    with pytest.raises(InvalidShape, match="infinity"):
        least_confidence([0.5, np.inf], 1)
    with pytest.raises(InvalidShape, match="confidence has shape"):
        least_confidence([[0.5]], 1)
    with pytest.raises(InvalidShape, match="labelled"):
        least_confidence([0.5], 1, labelled=np.array([1]))
