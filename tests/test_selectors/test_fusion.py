"""Reciprocal rank fusion, standardised signals, and the two methods made of them."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kshot.arrays import Candidates, Feature, Moments, Signal
from kshot.errors import InvalidParameter, InvalidShape
from kshot.selectors import reciprocal_rank_fusion, standardise
from kshot.selectors.fused import Fused
from kshot.selectors.hybrid import Hybrid
from tests import oracles
from tests.strategies import candidate_sets, random_candidates, rearranged

RNG = np.random.default_rng(0)


def test_ranks_are_fused_by_hand():
    # Ranks 1, 2, 3 and 3, 1, 2.
    fused = reciprocal_rank_fusion([[9, 8, 7], [0.1, 0.3, 0.2]], rank_constant=1)
    np.testing.assert_allclose(fused, [1 / 2 + 1 / 4, 1 / 3 + 1 / 2, 1 / 4 + 1 / 3])


def test_a_row_that_a_ranking_does_not_hold_gets_nothing_from_it():
    fused = reciprocal_rank_fusion([[1.0, -np.inf], [-np.inf, -np.inf]], rank_constant=60)
    assert fused.tolist() == [1 / 61, 0.0]


@given(
    data=st.data(),
    n=st.integers(1, 8),
    m=st.integers(1, 3),
    rank_constant=st.sampled_from([0.5, 1.0, 60.0]),
)
def test_fusion_equals_the_dictionary_version(data, n, m, rank_constant):
    value = st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 2.0])
    rankings = data.draw(st.lists(st.lists(value, min_size=n, max_size=n), min_size=m, max_size=m))
    weights = data.draw(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=m, max_size=m))
    fused = reciprocal_rank_fusion(rankings, weights=weights, rank_constant=rank_constant)
    np.testing.assert_allclose(fused, oracles.reciprocal_rank_fusion(rankings, weights, rank_constant))


@pytest.mark.parametrize(
    ("rankings", "options", "message"),
    [
        ([], {}, "0 weights for 0 rankings"),
        ([[1.0]], {"weights": [1.0, 2.0]}, "2 weights for 1 rankings"),
        ([[1.0]], {"weights": [-1.0]}, "allowed >= 0"),
        ([[1.0]], {"rank_constant": 0}, "rank_constant is 0"),
    ],
)
def test_senseless_fusions_are_refused(rankings, options, message):
    with pytest.raises(InvalidParameter, match=message):
        reciprocal_rank_fusion(rankings, **options)


def test_rankings_of_different_lengths_are_refused():
    with pytest.raises(InvalidShape, match=r"ranking has shape \(1,\)"):
        reciprocal_rank_fusion([[1.0, 2.0], [1.0]])


def test_nan_in_a_ranking_is_refused():
    with pytest.raises(InvalidShape, match="NaN"):
        reciprocal_rank_fusion([[1.0, np.nan]])


def test_standardising_counts_standard_deviations():
    np.testing.assert_allclose(standardise([1.0, 3.0, 7.0], Moments(3.0, 2.0)), [-1.0, 0.0, 2.0])


def test_a_signal_that_never_varies_tells_nothing():
    assert standardise([0.3, 0.9], Moments(0.5, 0.0)).tolist() == [0.0, 0.0]


def three_candidates(**parts):
    defaults = {
        "rows": np.arange(3),
        "relevance": np.array([0.9, 0.5, 0.1]),
        "bm25": np.array([0.0, 1.0, 4.0]),
        "partial_scores": np.array([[0.1, 0.1], [0.2, 0.4], [0.5, 0.1]]),
        "moments": {
            Signal.SIMILARITY: Moments(0.5, 0.4),
            Signal.BSR: Moments(0.4, 0.2),
            Signal.BM25: Moments(1.0, 1.0),
        },
    }
    return Candidates(**{**defaults, **parts})


def test_hybrid_by_hand():
    # Ranks by similarity 1, 2, 3; by BM25 row 2 is first, row 1 second, and row 0 shares no word.
    picks = Hybrid().select(three_candidates(), 3, RNG)
    assert picks.indices.tolist() == [2, 1, 0]
    np.testing.assert_allclose(picks.scores, [1 / 63 + 1 / 61, 1 / 62 + 1 / 62, 1 / 61])


def test_hybrid_without_any_shared_word_is_similarity():
    picks = Hybrid().select(three_candidates(bm25=np.zeros(3)), 3, RNG)
    assert picks.indices.tolist() == [0, 1, 2]


def test_hybrid_without_vectors_is_bm25():
    picks = Hybrid().select(three_candidates(relevance=np.zeros(3)), 2, RNG)
    assert picks.indices.tolist() == [2, 1]


def test_hybrid_follows_the_ranking_that_has_all_the_weight():
    candidates = random_candidates(seed=3, n=50)
    by_words = Hybrid(similarity=0).select(candidates, 8, RNG)
    assert by_words.indices.tolist() == oracles.top_k(candidates.bm25, 8)
    by_vectors = Hybrid(bm25=0).select(candidates, 8, RNG)
    assert by_vectors.indices.tolist() == oracles.top_k(candidates.relevance, 8)


@settings(max_examples=50)
@given(candidates=candidate_sets(), k=st.integers(1, 6), rank_constant=st.sampled_from([1.0, 60.0]))
def test_hybrid_equals_the_dictionary_version(candidates, k, rank_constant):
    rankings = [[s or -np.inf for s in scores.tolist()] for scores in (candidates.relevance, candidates.bm25)]
    fused = oracles.reciprocal_rank_fusion(rankings, [1.0, 1.0], rank_constant)
    picks = Hybrid(rank_constant=rank_constant).select(candidates, k, RNG)
    assert picks.indices.tolist() == oracles.top_k(fused, k)


def test_fused_by_hand():
    # z(similarity) = 1, 0, -1 and z(BSR) = -1, 1, 1.
    picks = Fused().select(three_candidates(), 3, RNG)
    assert picks.indices.tolist() == [1, 0, 2]
    np.testing.assert_allclose(picks.scores, [1.0, 0.0, 0.0], atol=1e-12)
    assert picks.diagnostics == {}


def test_fused_weighs_words_when_told_to():
    # Twice z(BM25) = -2, 0, 6 joins in.
    picks = Fused(bm25=2).select(three_candidates(), 3, RNG)
    assert picks.indices.tolist() == [2, 1, 0]
    np.testing.assert_allclose(picks.scores, [6.0, 1.0, -2.0], atol=1e-12)


@settings(max_examples=60)
@given(
    candidates=candidate_sets(),
    k=st.integers(1, 15),
    weights=st.tuples(*[st.sampled_from([0.0, 0.5, 1.0, 2.0])] * 3).filter(any),
)
def test_fused_equals_the_sum_row_by_row(candidates, k, weights):
    # Moments and values are such that every number here is exact in binary, so that ties are ties.
    def standard(signal, value):
        moments = candidates.moments[signal]
        return (value - moments.mean) / moments.std if moments.std else 0.0

    sums = []
    for i in range(len(candidates)):
        values = (
            candidates.relevance[i],
            sum(map(float, candidates.partial_scores[i])),
            candidates.bm25[i],
        )
        signals = (Signal.SIMILARITY, Signal.BSR, Signal.BM25)
        parts = [w * standard(s, float(v)) for w, s, v in zip(weights, signals, values, strict=True) if w]
        sums.append(sum(parts))
    picks = Fused(similarity=weights[0], bsr=weights[1], bm25=weights[2]).select(candidates, k, RNG)
    assert picks.indices.tolist() == oracles.top_k(sums, k)
    assert picks.scores.tolist() == [sums[i] for i in picks.indices]


def test_fused_needs_only_what_has_weight():
    assert Fused().needs == {Feature.MOMENTS, Feature.TOKENS}
    assert Fused(bsr=0, bm25=1).needs == {Feature.MOMENTS, Feature.LEXICAL}
    assert Fused(bsr=0).needs == {Feature.MOMENTS}


@pytest.mark.parametrize(
    ("weight", "part"),
    [
        ("similarity", lambda c: c.relevance),
        ("bsr", lambda c: c.partial_scores.sum(axis=1)),
        ("bm25", lambda c: c.bm25),
    ],
)
def test_fused_with_one_weight_is_that_signal(weight, part):
    candidates = random_candidates(seed=4, n=60)
    weights: Any = {"similarity": 0, "bsr": 0, "bm25": 0, weight: 1.5}
    selector = Fused(**weights)
    assert selector.select(candidates, 9, RNG).indices.tolist() == oracles.top_k(part(candidates), 9)


def test_fused_goes_without_bsr_when_the_query_has_no_tokens():
    moments = {Signal.SIMILARITY: Moments(0.5, 0.4)}
    picks = Fused().select(three_candidates(partial_scores=np.zeros((3, 0)), moments=moments), 2, RNG)
    assert picks.indices.tolist() == [0, 1]
    assert picks.diagnostics == {"absent": ["bsr"]}


def test_fused_picks_do_not_depend_on_how_many_candidates_there_are():
    candidates = random_candidates(seed=5, n=80)
    picks = Fused().select(candidates, 5, RNG)
    keep = np.sort(np.concatenate([picks.indices, np.setdiff1d(np.arange(0, 80, 2), picks.indices)]))
    fewer = rearranged(candidates, keep)
    assert keep[Fused().select(fewer, 5, RNG).indices].tolist() == picks.indices.tolist()
