"""No two picks more alike than allowed, whatever the method."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kshot.arrays import Picks, unit_rows
from kshot.selectors import SELECTORS, select_distinct
from tests.strategies import random_candidates


def ranked(values):
    """Return a method that ranks by fixed values, and the sizes of what it was given."""
    sizes = []

    def select(indices):
        sizes.append(len(indices))
        some = np.asarray(values, np.float64)[indices]
        order = np.argsort(-some, kind="stable")[:2]
        return Picks(order, some[order], some[order])

    return select, sizes


def cosines_of(vectors):
    return lambda index: vectors @ vectors[index]


def test_the_second_of_two_equal_rows_makes_way_for_the_next():
    vectors = unit_rows([[1, 0], [1, 0], [0, 1]])
    select, sizes = ranked([3, 2, 1])
    picks = select_distinct(select, cosines_of(vectors), 3, 0.99)
    assert picks.indices.tolist() == [0, 2]
    assert picks.scores.tolist() == [3, 1]
    assert picks.diagnostics == {"near_duplicates": 1}
    assert sizes == [3, 2]


def test_a_hundred_copies_take_one_more_run():
    vectors = unit_rows([[1, 0]] * 100 + [[0, 1]])
    select, sizes = ranked(np.arange(101, 0, -1))
    assert select_distinct(select, cosines_of(vectors), 101, 0.99).indices.tolist() == [0, 100]
    assert sizes == [101, 2]


def test_copies_alone_give_one_pick():
    vectors = unit_rows([[1, 0]] * 4)
    select, _ = ranked([1, 1, 1, 1])
    assert select_distinct(select, cosines_of(vectors), 4, 1.0 - 1e-6).indices.tolist() == [0]


def test_different_rows_are_chosen_in_one_run_and_nothing_is_said():
    vectors = unit_rows([[1, 0], [0, 1]])
    select, sizes = ranked([1, 2])
    picks = select_distinct(select, cosines_of(vectors), 2, 0.5)
    assert (picks.indices.tolist(), dict(picks.diagnostics), sizes) == ([1, 0], {}, [2])


@pytest.mark.parametrize("name", SELECTORS.names())
@given(seed=st.integers(0, 2**16), threshold=st.sampled_from([-0.2, 0.1, 0.4, 0.8]), k=st.integers(1, 6))
def test_no_method_shows_two_that_are_alike(name, seed, threshold, k):
    candidates = random_candidates(seed, 16, d=3)
    selector = SELECTORS.get(name)()

    def select(indices):
        return selector.select(candidates.take(indices), k, np.random.default_rng(seed))

    cosines = cosines_of(candidates.vectors)
    chosen = select_distinct(select, cosines, 16, threshold).indices
    alike = candidates.vectors[chosen] @ candidates.vectors[chosen].T
    assert (alike[np.triu_indices(len(chosen), 1)] < threshold).all()
    plain = select(np.arange(16)).indices
    apart = candidates.vectors[plain] @ candidates.vectors[plain].T
    if (apart[np.triu_indices(len(plain), 1)] < threshold).all():
        assert chosen.tolist() == plain.tolist(), "nothing had to give way"


def test_taking_candidates_keeps_what_belongs_to_the_query():
    candidates = random_candidates(3, 10)
    some = candidates.take(np.array([1, 4, 9]))
    assert some.rows.tolist() == candidates.rows[[1, 4, 9]].tolist()
    assert some.partial_scores.tolist() == candidates.partial_scores[[1, 4, 9]].tolist()
    assert some.query_vector is candidates.query_vector
    assert some.moments == candidates.moments
