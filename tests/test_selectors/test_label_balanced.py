"""Labels taking turns."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kshot.arrays import Candidates, Feature, Signal
from kshot.errors import InvalidInput, InvalidParameter
from kshot.selectors.label_balanced import LabelBalanced
from tests.strategies import candidate_sets, random_candidates

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


def turn_by_turn(candidates, k, max_labels, min_per_label):
    """Let the labels give one row after the other, each its best one left."""
    left = sorted(range(len(candidates)), key=lambda i: (-candidates.relevance[i], i))
    labels = [int(code) for code in candidates.labels]
    order: list[int] = []
    for i in left:
        if labels[i] not in order:
            order.append(labels[i])
    order.sort(key=lambda code: code == -1)
    drawn_from = order[: min(max_labels or len(order), max(1, k // min_per_label))]
    chosen: list[int] = []
    while len(chosen) < min(k, len(labels)):
        before = len(chosen)
        for code in drawn_from:
            best = next((i for i in left if labels[i] == code and i not in chosen), None)
            if best is not None and len(chosen) < k:
                chosen.append(best)
        if len(chosen) == before:
            chosen += [i for i in left if i not in chosen][: k - before]
            break
    return chosen


@settings(max_examples=100)
@given(
    candidates=candidate_sets(),
    k=st.integers(1, 15),
    max_labels=st.none() | st.integers(1, 4),
    min_per_label=st.integers(1, 3),
)
def test_picks_equal_the_loop(candidates, k, max_labels, min_per_label):
    picks = select(k, candidates, max_labels=max_labels, min_per_label=min_per_label)
    assert picks.indices.tolist() == turn_by_turn(candidates, k, max_labels, min_per_label)


NAMED = dataclasses.replace(CANDIDATES, label_names=("red", "green", "blue", "never used"))


def test_numbers_by_label_are_given_in_turn():
    picks = select(4, NAMED, quotas={"green": 2, "red": 2})
    assert picks.indices.tolist() == [0, 3, 1, 5]
    assert picks.diagnostics == {"unmet": {}, "labels": 2, "filled": 0}


def test_places_beyond_the_numbers_go_to_the_most_similar_rows_of_any_label():
    picks = select(5, NAMED, quotas={"green": 1, "blue": 1})
    assert picks.indices.tolist() == [2, 3, 6, 0, 1]
    assert picks.diagnostics == {"unmet": {}, "labels": 2, "filled": 3}


def test_numbers_that_cannot_be_reached_are_told():
    # There are two reds and two greens, and no example left of the fourth label.
    picks = select(7, NAMED, quotas={"red": 3, "green": 1, "never used": 2})
    assert picks.indices.tolist() == [0, 3, 1, 6, 2, 4, 5]
    assert picks.diagnostics == {"unmet": {"red": 1, "never used": 2}, "labels": 2, "filled": 4}
    cut = select(3, NAMED, quotas={"red": 2, "green": 2})
    assert cut.indices.tolist() == [0, 3, 1]
    assert cut.diagnostics["unmet"] == {"green": 1}


def test_a_label_that_does_not_exist_is_refused_with_those_that_do():
    with pytest.raises(InvalidParameter) as refusal:
        select(3, NAMED, quotas={"red": 1, "pink": 1})
    (error,) = refusal.value.errors
    assert error.pointer == "/method/quotas"
    assert error.message == "received 'pink', which is no label here; labels: 'blue', 'green', 'red'"
    many = Candidates(
        rows=np.arange(30),
        relevance=np.zeros(30),
        labels=np.arange(30),
        label_names=[f"l{i:02}" for i in range(30)],
    )
    with pytest.raises(InvalidParameter, match=r"'l19' and 10 more$"):
        select(3, many, quotas={"pink": 1})
    none = Candidates(rows=np.arange(1), relevance=np.zeros(1), labels=np.full(1, -1), label_names=())
    with pytest.raises(InvalidParameter, match=r"labels: none$"):
        select(3, none, quotas={"pink": 1})


def test_numbers_by_label_need_the_labels_names():
    with pytest.raises(InvalidInput, match="label_names"):
        select(3, quotas={"red": 1})


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"quotas": {}}, "allowed 'equal', 'proportional' or an object of numbers >= 1"),
        ({"quotas": {"red": 0}}, "numbers >= 1"),
        ({"quotas": {"red": 1.5}}, "numbers >= 1"),
        ({"quotas": "even"}, "received 'even'"),
        ({"quotas": {"red": 1}, "max_labels": 2}, "without max_labels and min_per_label only"),
        ({"quotas": {"red": 1}, "min_per_label": 2}, "without max_labels and min_per_label only"),
        ({"relevance": "bsr"}, "received 'bsr', allowed 'similarity', 'fused'"),
    ],
)
def test_senseless_parameters_are_refused(parameters, said):
    with pytest.raises(InvalidParameter, match=said):
        LabelBalanced(**parameters)


def test_proportions_are_those_of_the_candidates():
    # 60, 30 and 10 of 100: after one of each, the next seven by size / (given + 1/2).
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    candidates = Candidates(rows=np.arange(100), relevance=-np.arange(100.0), labels=labels)
    for k, expected in ((3, [1, 1, 1]), (4, [2, 1, 1]), (6, [3, 2, 1]), (10, [6, 3, 1]), (100, [60, 30, 10])):
        picks = select(k, candidates, quotas="proportional")
        assert np.bincount(labels[picks.indices]).tolist() == expected, k


@settings(max_examples=50)
@given(candidates=candidate_sets(), k=st.integers(1, 12), least=st.integers(1, 3))
def test_no_label_could_claim_a_place_more_than_the_one_that_got_it(candidates, k, least):
    picks = select(k, candidates, quotas="proportional", min_per_label=least)
    drawn = candidates.labels[picks.indices[: len(picks) - picks.diagnostics["filled"]]]
    codes, given_ = np.unique(drawn, return_counts=True)
    sizes = np.array([(candidates.labels == code).sum() for code in codes])
    for code, count in zip(codes, given_, strict=True):
        if count > least:
            last_claim = (candidates.labels == code).sum() / (count - 0.5)
            can_give_more = given_ < sizes
            assert (sizes / (given_ + 0.5) <= last_claim + 1e-12)[can_give_more].all()
            assert (given_ >= np.minimum(least, sizes)).all()


def test_a_fused_relevance_decides_who_stands_for_a_label():
    candidates = random_candidates(seed=3, n=60)
    by_words: dict[str, Any] = {"relevance": "fused", "similarity": 0, "bsr": 0, "bm25": 1}
    picks = select(6, candidates, **by_words)
    for code in range(3):
        rows = np.flatnonzero(candidates.labels == code)
        best = rows[np.argsort(-candidates.bm25[rows])][:2]
        assert [i for i in picks.indices.tolist() if candidates.labels[i] == code] == best.tolist()
    moments = candidates.moments[Signal.BM25]
    np.testing.assert_allclose(
        picks.scores, (candidates.bm25[picks.indices] - moments.mean) / moments.std, rtol=1e-12
    )
    assert LabelBalanced(**by_words).needs == {Feature.LABELS, Feature.MOMENTS, Feature.LEXICAL}
    assert LabelBalanced().needs == {Feature.LABELS}
