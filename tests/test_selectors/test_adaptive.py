"""How many demonstrations are worth their tokens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kshot.errors import InvalidInput, InvalidParameter, InvalidShape
from kshot.selectors import adaptive_k

NUMBERS = st.floats(-10, 10, allow_nan=False)


@pytest.mark.parametrize(
    ("threshold", "min_k", "kept"),
    [
        (0.05, 1, 1),
        (0.04, 1, 2),
        (0.02, 1, 2),
        (0.01, 1, 4),
        (1.0, 1, 1),
        (1.0, 0, 0),
        (1.0, 3, 3),
        (1.0, 9, 4),
    ],
)
def test_the_first_poor_pick_ends_the_set(threshold, min_k, kept):
    curve = adaptive_k([0.5, 0.8, 0.1, 2.0], [10, 20, 10, 10], threshold, min_k=min_k)
    assert curve.gain_per_token.tolist() == pytest.approx([0.05, 0.04, 0.01, 0.2])
    assert curve.kept == kept


def test_no_pick_gives_an_empty_curve():
    curve = adaptive_k([], [], 0.1)
    assert (curve.kept, len(curve.gain_per_token)) == (0, 0)


def test_a_text_of_no_tokens_counts_as_one():
    assert adaptive_k([0.5], [0], 0.5).gain_per_token.tolist() == [0.5]


@given(st.lists(st.tuples(NUMBERS, st.integers(0, 50)), max_size=8), NUMBERS, st.integers(0, 9))
def test_all_that_is_kept_is_worth_it_and_the_next_is_not(picks, threshold, min_k):
    curve = adaptive_k([gain for gain, _ in picks], [length for _, length in picks], threshold, min_k=min_k)
    worth = [gain / max(length, 1) >= threshold for gain, length in picks]
    assert all(worth[min_k : curve.kept])
    assert curve.kept >= min(min_k, len(picks))
    assert curve.kept == len(picks) or not worth[curve.kept]


def test_wrong_input_is_named():
    with pytest.raises(InvalidShape, match="tokens has shape"):
        adaptive_k([1.0], [1, 2], 0.1)
    with pytest.raises(InvalidInput, match="go down to -1"):
        adaptive_k([1.0], [-1], 0.1)
    with pytest.raises(InvalidParameter, match="min_gain_per_token is nan"):
        adaptive_k([1.0], [1], float("nan"))
    with pytest.raises(InvalidParameter, match="min_k is -1"):
        adaptive_k([1.0], [1], 0.1, min_k=-1)
