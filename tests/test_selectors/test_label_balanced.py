"""Labels taking turns."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kshot.arrays import Candidates
from kshot.selectors.label_balanced import LabelBalanced
from tests.strategies import candidate_sets

RNG = np.random.default_rng(0)

# Label 0 has the best row, label 2 the second best, label 1 the third; row 6 has none.
CANDIDATES = Candidates(
    rows=np.arange(7),
    relevance=np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.95]),
    labels=np.array([0, 0, 2, 1, 2, 1, -1]),
)


def select(k, candidates=CANDIDATES, **parameters):
    return LabelBalanced(**parameters).select(candidates, k, RNG)


def test_labels_take_turns_by_their_best_row():
    picks = select(4)
    assert picks.indices.tolist() == [0, 2, 3, 6]
    assert picks.scores.tolist() == [0.9, 0.7, 0.6, 0.95]
    assert picks.diagnostics == {"labels": 4, "filled": 0}


def test_a_second_turn_takes_the_second_best_of_each_label():
    assert select(7).indices.tolist() == [0, 2, 3, 6, 1, 4, 5]


def test_rows_without_a_label_come_last_even_when_most_similar():
    assert select(3).indices.tolist() == [0, 2, 3]


def test_only_the_nearest_labels_are_drawn_from():
    picks = select(4, max_labels=2)
    assert picks.indices.tolist() == [0, 2, 1, 4]
    assert picks.diagnostics == {"labels": 2, "filled": 0}


def test_places_left_over_go_to_the_most_similar_rows():
    picks = select(6, max_labels=1)
    assert picks.indices.tolist() == [0, 1, 6, 2, 3, 4]
    assert picks.diagnostics == {"labels": 1, "filled": 4}


@pytest.mark.parametrize(("k", "labels"), [(1, 1), (3, 1), (4, 2), (5, 2), (6, 3)])
def test_fewer_labels_are_drawn_from_when_each_must_show_twice(k, labels):
    picks = select(k, min_per_label=2)
    assert picks.diagnostics["labels"] == labels
    assert picks.indices[:labels].tolist() == [0, 2, 3][:labels]


def test_more_labels_than_places_give_the_nearest_labels():
    many = Candidates(rows=np.arange(50), relevance=np.linspace(0, 1, 50), labels=np.arange(50))
    assert select(3, many).indices.tolist() == [49, 48, 47]


def test_any_integers_serve_as_labels():
    far_apart = Candidates(
        rows=np.arange(4), relevance=np.array([0.9, 0.8, 0.7, 0.6]), labels=np.array([2**40, 2**40, 7, -9])
    )
    assert select(4, far_apart).indices.tolist() == [0, 2, 3, 1]


@settings(max_examples=50)
@given(candidates=candidate_sets(), k=st.integers(1, 12))
def test_counts_differ_by_one_at_most_unless_a_label_runs_out(candidates, k):
    picks = select(k, candidates)
    codes, present = np.unique(candidates.labels, return_counts=True)
    counts = {int(c): int((candidates.labels[picks.indices] == c).sum()) for c in codes}
    most = max(counts.values())
    for code, available in zip(codes.tolist(), present.tolist(), strict=True):
        assert counts[code] >= min(most - 1, available)


@settings(max_examples=50)
@given(candidates=candidate_sets(), k=st.integers(1, 12))
def test_each_label_shows_its_most_similar_rows(candidates, k):
    picks = select(k, candidates)
    for code in np.unique(candidates.labels):
        rows = np.flatnonzero(candidates.labels == code)
        best = rows[np.argsort(-candidates.relevance[rows], kind="stable")].tolist()
        chosen = [i for i in picks.indices.tolist() if candidates.labels[i] == code]
        assert chosen == best[: len(chosen)]
