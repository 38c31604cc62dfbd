"""The k largest scores."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kshot.errors import InvalidParameter, InvalidShape
from kshot.selectors import top_k
from tests import oracles


@given(scores=st.lists(st.sampled_from([-np.inf, -1.0, 0.0, -0.0, 2.5, 3.0, np.inf])), k=st.integers(1, 12))
def test_it_equals_sorting(scores, k):
    assert top_k(scores, k).tolist() == oracles.top_k(scores, k)


def test_among_equal_scores_at_the_cut_the_lowest_rows_stay():
    scores = np.zeros(10_000)
    scores[[9_000, 4]] = 1.0
    assert top_k(scores, 5).tolist() == [4, 9_000, 0, 1, 2]


@given(scores=st.lists(st.sampled_from([-np.inf, -1.0, 0.0, 2.5, 3.0]), min_size=1), k=st.integers(1, 12))
def test_parity_sorts_upwards_and_reads_from_the_end(scores, k):
    expected = np.argsort(scores, kind="stable")[::-1][:k]
    assert top_k(scores, k, parity="reference").tolist() == expected.tolist()


def test_an_unknown_parity_is_refused():
    parity: Any = "paper"
    with pytest.raises(InvalidParameter, match="parity is 'paper', allowed none, reference"):
        top_k([1.0], 1, parity=parity)


def test_integers_are_ranked_as_numbers():
    assert top_k([3, -7, 3, 5], 3).tolist() == [3, 0, 2]


def test_the_scores_are_not_changed():
    scores = np.array([1.0, 3.0, 2.0])
    scores.setflags(write=False)
    assert top_k(scores, 2).tolist() == [1, 2]


def test_nan_has_no_rank():
    with pytest.raises(InvalidShape, match="NaN at 1"):
        top_k([1.0, np.nan, 2.0], 2)


def test_a_matrix_is_refused():
    with pytest.raises(InvalidShape, match=r"scores has shape \(2, 2\)"):
        top_k(np.eye(2), 1)


def test_fewer_than_one_is_refused():
    with pytest.raises(InvalidParameter, match="k is -1"):
        top_k([1.0], -1)
