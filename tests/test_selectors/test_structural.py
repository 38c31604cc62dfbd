"""Structural recall, covering it, and the methods that do."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kshot.arrays import Candidates
from kshot.errors import InvalidParameter, InvalidShape
from kshot.selectors import (
    SELECTORS,
    bm25_partial_scores,
    bm25_scores,
    coverage_greedy,
    covering_picks,
    structural_recall,
)
from kshot.selectors.set_bm25 import SetBm25
from kshot.selectors.structural import Structural
from kshot.structures import ngrams, structures_of
from tests import oracles

RNG = np.random.default_rng(0)
WORDS = st.sampled_from("abcde")
TEXTS = st.lists(WORDS, max_size=7)


def test_recall_by_hand_with_a_structure_that_the_query_repeats():
    query, *rows = structures_of(["a b a", "a b", "b a", "c"], "ngrams", max_words=2)
    # a, b, a, a b, b a
    expected = np.array([[1, 1, 1, 1, 0], [1, 1, 1, 0, 1], [0, 0, 0, 0, 0]]) / 5
    np.testing.assert_allclose(structural_recall(query, rows), expected, rtol=1e-7)


@settings(max_examples=60)
@given(query=TEXTS, documents=st.lists(TEXTS, max_size=6), longest=st.integers(1, 4))
def test_recall_sums_to_the_share_of_the_querys_structures(query, documents, longest):
    wanted = ngrams(query, longest)
    rows = [ngrams(document, longest) for document in documents]
    scores = structural_recall(wanted, rows)
    assert scores.shape == (len(documents), len(wanted))
    for row, score in zip(rows, scores, strict=True):
        share = sum(structure in row for structure in wanted) / max(len(wanted), 1)
        assert score.sum() == pytest.approx(share, abs=1e-6)


@settings(max_examples=60)
@given(
    query=TEXTS,
    documents=st.lists(TEXTS, min_size=1, max_size=6).filter(any),
    longest=st.integers(1, 4),
    variant=st.sampled_from(["okapi", "lucene"]),
)
def test_bm25_of_structures_sums_to_the_score_of_the_row(query, documents, longest, variant):
    terms = ngrams(query, longest)
    rows = [ngrams(document, longest) for document in documents]
    scores = bm25_partial_scores(rows, terms, variant=variant)
    assert scores.shape == (len(documents), len(terms))
    total = scores.sum(axis=1)
    np.testing.assert_allclose(total, bm25_scores(rows, terms, variant=variant), rtol=0, atol=1e-6)
    formula = {"okapi": oracles.okapi, "lucene": oracles.lucene}[variant]
    np.testing.assert_allclose(total, formula(rows, terms), rtol=0, atol=1e-6)


def test_equally_many_structures_tie_whatever_their_number():
    # Three columns of 1/7 each, in different places: thirds and sevenths have no exact sums otherwise.
    query = list("abcdefg")
    scores = structural_recall(query, [list("aceg"), list("bdfg"), list("abcd")])
    assert len(set(scores.sum(axis=1))) == 1
    assert covering_picks(scores, [0.1, 0.9, 0.5], 1).indices.tolist() == [0]


def test_demonstrations_share_the_structures_between_them():
    query, *rows = structures_of(
        ["cheap flights to rome on sunday", "flights to rome", "flights to oslo", "on sunday", "hello"],
        "ngrams",
        max_words=2,
    )
    picks = covering_picks(structural_recall(query, rows), [0.9, 0.8, 0.2, 0.3], 4)
    # 11 structures: flights, to, rome, flights to, to rome; then on, sunday, on sunday; then a new round.
    assert picks.indices.tolist() == [0, 2, 1, 3]
    np.testing.assert_allclose(picks.gains * 11, [5, 3, 3, 0], rtol=1e-6)
    np.testing.assert_allclose(picks.scores * 11, [5, 3, 3, 0], rtol=1e-6)
    assert picks.diagnostics == {
        "resets": 1,
        "rounds": [0, 0, 1],
        "stopped_by_budget": False,
        "filled": 1,
    }


def sparse_scores(seed):
    rng = np.random.default_rng(seed)
    n, length = int(rng.integers(1, 14)), int(rng.integers(0, 5))
    scores = rng.integers(0, 3, size=(n, length)) * rng.integers(0, 2, size=(n, length)) / 8
    return scores, rng.integers(-4, 5, size=n) / 4


@pytest.mark.parametrize("block", range(4))
def test_picks_are_those_of_the_coverage_loop_and_then_the_most_similar(block):
    for seed in range(50 * block, 50 * block + 50):
        scores, relevance = sparse_scores(seed)
        some = [i for i in range(len(scores)) if scores[i].any()]
        none = [i for i in range(len(scores)) if not scores[i].any()]
        k = 1 + seed % 9
        expected, resets = oracles.coverage_greedy(scores[some], k) if some else ([], 0)
        by_similarity = [none[i] for i in oracles.top_k(relevance[none], len(none))]
        picks = covering_picks(scores, relevance, k)
        assert picks.indices.tolist() == ([some[i] for i in expected] + by_similarity)[:k], seed
        assert picks.diagnostics.get("resets", 0) == resets


def test_rows_without_any_structure_change_only_the_fill():
    scores = np.array([[0, 0, 0], [1, 0, 0], [0, 0, 0], [1, 1, 0], [0, 0, 1], [0, 1, 1]], np.float64)
    relevance = [0.1, 0, 0.2, 0, 0, 0]
    assert coverage_greedy(scores, 6).indices.tolist() == [3, 4, 5, 1, 0, 2]
    assert covering_picks(scores, relevance, 6).indices.tolist() == [3, 4, 5, 1, 2, 0]


@pytest.mark.parametrize("scores", [np.zeros((3, 0)), np.zeros((3, 2))])
def test_a_query_that_shares_nothing_is_served_by_similarity(scores):
    picks = covering_picks(scores, [0.2, 0.9, 0.5], 2)
    assert picks.indices.tolist() == [1, 2]
    assert picks.gains.tolist() == picks.scores.tolist() == [0.9, 0.5]
    assert picks.diagnostics == {"fallback": "similarity"}


@pytest.mark.parametrize("name", ["structural", "set_bm25"])
def test_the_methods_cover_the_structure_scores(name):
    for seed in range(20):
        scores, relevance = sparse_scores(seed)
        candidates = Candidates(np.arange(len(scores)), relevance, structure_scores=scores)
        picks = SELECTORS.get(name)().select(candidates, 4, RNG)
        plain = covering_picks(scores, relevance, 4)
        assert picks.indices.tolist() == plain.indices.tolist()
        assert picks.gains.tolist() == plain.gains.tolist()


def test_the_methods_say_how_structures_are_to_be_scored():
    assert (Structural().structures, Structural().max_words, Structural.weighting) == ("ngrams", 4, "recall")
    assert (SetBm25().structures, SetBm25().max_words, SetBm25.weighting) == ("ngrams", 4, "bm25")


@pytest.mark.parametrize("name", ["structural", "set_bm25"])
def test_an_unknown_kind_of_structure_is_refused_with_those_that_exist(name):
    cls: Any = SELECTORS.get(name)
    with pytest.raises(InvalidParameter, match=r"structures: received 'words', allowed 'ngrams', 'depend"):
        cls(structures="words")


def test_shapes_that_disagree_and_no_picks_are_refused():
    with pytest.raises(InvalidShape, match=r"structure_scores has shape \(2, 1\), wanted \(3, any\)"):
        covering_picks(np.zeros((2, 1)), np.zeros(3), 1)
    with pytest.raises(InvalidShape, match="structure_scores holds nan"):
        covering_picks([[np.nan]], [0.0], 1)
    for scores in ([[0.0]], [[1.0]]):
        with pytest.raises(InvalidParameter, match="k is 0"):
            covering_picks(scores, [0.0], 0)
