"""Set methods over the weighed sum of standardised signals."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from kshot.arrays import Feature, Moments, Signal
from kshot.errors import InvalidInput, InvalidParameter
from kshot.selectors import bsr_scores, coverage_greedy, dpp_map, mmr, relevance_kernel_factors
from kshot.selectors.dpp import Dpp
from kshot.selectors.fused import Fused
from kshot.selectors.fused_relevance import FusedRelevance, FusedScores
from kshot.selectors.label_balanced import LabelBalanced
from kshot.selectors.mmr import Mmr
from kshot.selectors.set_bsr import SetBsr
from tests import oracles
from tests.strategies import random_candidates

RNG = np.random.default_rng(0)
WEIGHTS: dict[str, Any] = {"similarity": 0.5, "bsr": 2.0, "bm25": 1.0}


def z(candidates, signal, values):
    moments = candidates.moments[signal]
    return (values - moments.mean) / moments.std


def weighed(candidates):
    """Add the signals up with `WEIGHTS`, term by term."""
    return (
        0.5 * z(candidates, Signal.SIMILARITY, candidates.relevance)
        + 2.0 * z(candidates, Signal.BSR, candidates.partial_scores.sum(axis=1))
        + 1.0 * z(candidates, Signal.BM25, candidates.bm25)
    )


def on_scale(candidates, signal):
    moments = candidates.moments[signal]
    return moments.mean + moments.std * weighed(candidates) / 3.5


def test_the_sum_is_put_on_the_scale_of_a_signal_by_hand():
    scores = FusedScores(np.array([3.0, 0.0, -1.5]), weight=1.5, diagnostics={})
    np.testing.assert_allclose(scores.on_scale_of(Moments(0.4, 0.1)), [0.6, 0.4, 0.3])
    np.testing.assert_allclose(scores.on_scale_of(Moments(0.4, 0.0)), [2.4, 0.4, -0.6])


def test_a_sum_with_all_weight_on_one_signal_is_that_signal_on_its_own_scale():
    candidates = random_candidates(seed=1, n=30)
    by_signal = {
        Signal.SIMILARITY: candidates.relevance,
        Signal.BSR: bsr_scores(candidates.partial_scores),
        Signal.BM25: candidates.bm25,
    }
    for signal, values in by_signal.items():
        weights: dict[str, float] = {"similarity": 0, "bsr": 0, "bm25": 0, str(signal): 3.0}
        scores = FusedRelevance(**weights).fused_scores(candidates)
        np.testing.assert_allclose(scores.on_scale_of(candidates.moments[signal]), values, rtol=1e-12)


def test_mmr_weighs_the_fused_relevance_as_it_weighs_the_cosine():
    candidates = random_candidates(seed=2, n=60)
    picks = Mmr(diversity=0.4, relevance="fused", **WEIGHTS).select(candidates, 10, RNG)
    expected = on_scale(candidates, Signal.SIMILARITY)
    assert picks.indices.tolist() == oracles.mmr(expected, candidates.vectors, 10, 0.4)
    np.testing.assert_allclose(picks.scores, expected[picks.indices])
    np.testing.assert_allclose(picks.gains, mmr(expected, candidates.vectors, 10, 0.4).gains)


def test_dpp_takes_the_exponential_of_the_fused_relevance_as_quality():
    candidates = random_candidates(seed=3, n=50, d=24)
    picks = Dpp(lam=0.1, relevance="fused", **WEIGHTS).select(candidates, 8, RNG)
    expected = on_scale(candidates, Signal.SIMILARITY)
    factors = relevance_kernel_factors(None, candidates.vectors, 0.1, relevance=expected)
    assert picks.indices.tolist() == dpp_map(factors=factors, k=8).indices.tolist()
    np.testing.assert_allclose(picks.scores, expected[picks.indices])
    top = Dpp(lam=1e-4, relevance="fused", **WEIGHTS).select(candidates, 8, RNG)
    assert top.indices.tolist() == oracles.top_k(weighed(candidates), 8)


def test_dpp_fills_by_the_relevance_that_it_ranks_by():
    candidates = dataclasses.replace(
        random_candidates(seed=4, n=12), vectors=np.tile(np.eye(8, dtype=np.float32)[0], (12, 1))
    )
    picks = Dpp(relevance="fused", **WEIGHTS).select(candidates, 6, RNG)
    assert picks.diagnostics["filled"] == 5
    assert picks.indices.tolist() == oracles.top_k(weighed(candidates), 6)


def test_set_bsr_counts_the_fused_relevance_as_own_score():
    candidates = random_candidates(seed=5, n=70)
    own = on_scale(candidates, Signal.BSR)
    picks = SetBsr(add_cand_score=0.5, relevance="fused", **WEIGHTS).select(candidates, 8, RNG)
    expected = coverage_greedy(candidates.partial_scores, 8, add_cand_score=0.5, relevance=own)
    assert picks.indices.tolist() == expected.indices.tolist()
    plain = SetBsr(add_cand_score=0.5).select(candidates, 8, RNG)
    assert picks.indices.tolist() != plain.indices.tolist()
    np.testing.assert_allclose(picks.scores, candidates.partial_scores[picks.indices].sum(axis=1))
    # With all weight on BSR it is the row's own BSR again.
    same = SetBsr(add_cand_score=0.5, relevance="fused", similarity=0).select(candidates, 8, RNG)
    assert same.indices.tolist() == plain.indices.tolist()


def test_set_bsr_refuses_a_fused_relevance_that_would_not_count():
    with pytest.raises(InvalidParameter, match="without add_cand_score") as refusal:
        SetBsr(relevance="fused")
    assert refusal.value.errors[0].pointer == "/method/relevance"


@pytest.mark.parametrize("cls", [Mmr, Dpp])
def test_all_weight_on_the_cosine_gives_the_picks_of_the_cosine(cls: Any):
    candidates = random_candidates(seed=6, n=60, d=24)
    fused = cls(relevance="fused", bsr=0).select(candidates, 8, RNG)
    plain = cls().select(candidates, 8, RNG)
    assert fused.indices.tolist() == plain.indices.tolist()
    np.testing.assert_allclose(fused.gains, plain.gains, rtol=1e-9)


@pytest.mark.parametrize(
    ("cls", "own", "given"),
    [
        (Mmr, Feature.VECTORS, {}),
        (Dpp, Feature.VECTORS, {}),
        (LabelBalanced, Feature.LABELS, {}),
        (SetBsr, Feature.TOKENS, {"add_cand_score": 1.0}),
    ],
)
def test_needs_follow_from_the_weights(cls: Any, own: Feature, given: dict[str, Any]):
    assert cls(**given).needs == {own}
    fused = {**given, "relevance": "fused"}
    assert cls(**fused).needs == {own, Feature.MOMENTS, Feature.TOKENS}
    assert cls(**fused, bsr=0, bm25=1).needs == {own, Feature.MOMENTS, Feature.LEXICAL}
    assert cls(**fused, bsr=0).needs == {own, Feature.MOMENTS}
    with pytest.raises(InvalidParameter, match="all 0"):
        cls(**fused, similarity=0, bsr=0)
    assert cls(**given, similarity=0, bsr=0).needs == {own}
    with pytest.raises(InvalidParameter, match=r"allowed '(similarity|bsr)', 'fused'"):
        cls(**{**given, "relevance": "words"})


@pytest.mark.parametrize("cls", [Mmr, Dpp, LabelBalanced])
def test_what_a_query_lacks_is_told(cls: Any):
    candidates = dataclasses.replace(random_candidates(seed=7, n=20), partial_scores=np.zeros((20, 0)))
    picks = cls(relevance="fused").select(candidates, 4, RNG)
    assert picks.diagnostics["absent"] == ["bsr"]
    assert "fallback" not in picks.diagnostics
    only_bsr = cls(relevance="fused", similarity=0).select(candidates, 4, RNG)
    assert only_bsr.diagnostics["fallback"] == "similarity"
    assert only_bsr.indices.tolist() == picks.indices.tolist()


def test_fused_falls_back_to_similarity_where_nothing_else_is_left():
    candidates = dataclasses.replace(random_candidates(seed=8, n=20), partial_scores=np.zeros((20, 0)))
    picks = Fused(similarity=0).select(candidates, 5, RNG)
    assert picks.indices.tolist() == oracles.top_k(candidates.relevance, 5)
    assert picks.diagnostics == {"absent": ["bsr"], "fallback": "similarity"}


def test_missing_moments_are_named():
    candidates = random_candidates(seed=9, n=20)
    partly = {name: moments for name, moments in candidates.moments.items() if name != Signal.BM25}
    lacking = dataclasses.replace(candidates, moments=partly)
    with pytest.raises(InvalidInput, match="moments of bm25"):
        Mmr(relevance="fused", **WEIGHTS).select(lacking, 4, RNG)
