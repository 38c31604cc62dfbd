"""MaxSim, BSR, and the method that ranks by BSR."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kshot.arrays import Candidates, unit_rows
from kshot.errors import InvalidParameter, InvalidShape
from kshot.selectors import bsr, bsr_scores, inverse_document_frequency, maxsim
from kshot.selectors.bsr import Bsr
from tests import oracles
from tests.strategies import candidate_sets

RNG = np.random.default_rng(0)
BERT_SCORE = json.loads((Path(__file__).parent / "golden" / "bert_score.json").read_text())


def texts(seed, n, d=16, longest=9):
    """n rows of token vectors, their concatenation and its offsets."""
    rng = np.random.default_rng(seed)
    rows = [unit_rows(rng.standard_normal((rng.integers(1, longest + 1), d))) for _ in range(n)]
    return rows, np.vstack(rows), np.cumsum([0, *map(len, rows)])


def uniform(length):
    return np.full(length, 1 / length)


def test_two_rows_by_hand():
    query = [[1.0, 0.0], [0.0, 1.0]]
    tokens = [[1.0, 0.0], [0.6, 0.8], [-1.0, 0.0]]
    partial = maxsim(query, tokens, [0, 2, 3], [0.75, 0.25])
    np.testing.assert_allclose(partial, [[0.75, 0.2], [-0.75, 0.0]], atol=1e-7)
    np.testing.assert_allclose(bsr_scores(partial), [0.95, -0.75], atol=1e-7)


@pytest.mark.parametrize("max_bytes", [1, 200, 1000, 1 << 20])
@pytest.mark.parametrize("n_query", [1, 5, 12])
def test_every_chunk_size_equals_the_loop(max_bytes, n_query):
    rows, tokens, offsets = texts(1, 40)
    query = unit_rows(np.random.default_rng(2).standard_normal((n_query, 16)))
    weights = np.random.default_rng(3).dirichlet(np.ones(n_query))
    partial = maxsim(query, tokens, offsets, weights, max_bytes=max_bytes)
    assert partial.dtype == np.float32
    np.testing.assert_allclose(partial, oracles.maxsim(query, rows, weights), atol=1e-6)


def test_the_result_is_column_major():
    _, tokens, offsets = texts(1, 5)
    assert maxsim(tokens[:3], tokens, offsets, uniform(3)).flags.f_contiguous


def test_twenty_pairs_equal_the_recall_of_bert_score():
    rows, tokens, offsets = texts(4, 20)
    for query in texts(5, 5)[0]:
        bsr = bsr_scores(maxsim(query, tokens, offsets, uniform(len(query))))
        expected = [oracles.bert_score_recall(query, row) for row in rows]
        np.testing.assert_allclose(bsr, expected, atol=1e-6)


def bert_score_pairs():
    """Give query tokens, the 20 rows' tokens, their offsets, and weights without and with idf, per query."""
    pairs, special = BERT_SCORE["pairs"], BERT_SCORE["special"]
    rows = [unit_rows(pair["row"]["vectors"]) for pair in pairs]
    offsets = np.cumsum([0, *map(len, rows)])
    frequency = Counter(token for pair in pairs for token in set(pair["row"]["ids"]))
    for number, pair in enumerate(pairs):
        ids = pair["query"]["ids"]
        weights = np.array([token not in special for token in ids], np.float64)
        idf = inverse_document_frequency([frequency[token] for token in ids], len(pairs))
        yield number, pair, unit_rows(pair["query"]["vectors"]), np.vstack(rows), offsets, weights, idf


def test_twenty_pairs_score_as_in_bert_score_with_and_without_idf():
    for number, pair, query, tokens, offsets, weights, idf in bert_score_pairs():
        for key, importance in (("recall", weights), ("recall_idf", idf)):
            assert bsr(query, tokens, offsets, importance)[number] == pytest.approx(pair[key], abs=2e-6)


def test_twenty_pairs_without_their_first_two_tokens_score_as_in_bert_score():
    for number, pair, query, tokens, offsets, weights, idf in bert_score_pairs():
        for key, importance in (("recall_without_two", weights), ("recall_without_two_idf", idf)):
            found = bsr(query, tokens, offsets, importance, parity="icl-coverage")
            assert found[number] == pytest.approx(pair[key], abs=2e-6)


def test_bsr_is_the_weighed_mean_of_the_best_matches():
    rows, tokens, offsets = texts(14, 6)
    query = texts(15, 1)[0][0]
    weights = np.arange(1, len(query) + 1)
    expected = oracles.maxsim(query, rows, weights / weights.sum()).sum(axis=1)
    np.testing.assert_allclose(bsr(query, tokens, offsets, weights), expected, atol=1e-6)
    plain = [oracles.bert_score_recall(query, row) for row in rows]
    np.testing.assert_allclose(bsr(query, tokens, offsets), plain, atol=1e-6)


def test_bsr_of_tokens_without_weight_is_zero():
    assert bsr(np.eye(2), np.eye(2), [0, 1, 2], [0, 0]).tolist() == [0, 0]
    assert bsr(np.zeros((0, 2)), np.eye(2), [0, 2]).tolist() == [0]
    assert bsr(np.eye(2), np.ones((3, 2)), [0, 3], parity="icl-coverage").tolist() == [0]


def test_a_text_of_two_tokens_has_none_left_under_parity():
    with pytest.raises(InvalidShape, match="row 1 has no token"):
        bsr(np.ones((4, 2)), np.ones((5, 2)), [0, 3, 5], parity="icl-coverage")
    parity: Any = "reference"
    with pytest.raises(InvalidParameter, match="parity is 'reference', allowed none, icl-coverage"):
        bsr(np.eye(2), np.eye(2), [0, 2], parity=parity)


def test_idf_is_zero_for_what_all_texts_have_and_largest_for_what_none_has():
    np.testing.assert_allclose(inverse_document_frequency([0, 1, 3], 3), np.log([4, 2, 1]))
    assert inverse_document_frequency([], 0).tolist() == []
    for frequency in ([-1], [4]):
        with pytest.raises(InvalidParameter, match="allowed 0 to 3"):
            inverse_document_frequency(frequency, 3)


def test_a_text_covers_itself_entirely():
    rows, tokens, offsets = texts(6, 30)
    for z, row in enumerate(rows):
        bsr = bsr_scores(maxsim(row, tokens, offsets, uniform(len(row))))
        assert bsr[z] == pytest.approx(1.0, abs=1e-6)
        assert bsr.max() <= 1 + 1e-6
        assert bsr.min() >= -1 - 1e-6


def test_the_order_of_a_rows_tokens_is_irrelevant():
    rows, tokens, offsets = texts(7, 10)
    shuffled = np.vstack([np.random.default_rng(8).permutation(row) for row in rows])
    query = texts(9, 1)[0][0]
    np.testing.assert_allclose(
        maxsim(query, shuffled, offsets, uniform(len(query))),
        maxsim(query, tokens, offsets, uniform(len(query))),
        atol=1e-6,
    )


def test_another_token_never_lowers_bsr():
    rows, _, _ = texts(10, 20)
    query, extra = texts(11, 2)[0]
    for row in rows:
        longer = np.vstack([row, extra[:1]])
        before, after = (
            bsr_scores(maxsim(query, z, [0, len(z)], uniform(len(query))))[0] for z in (row, longer)
        )
        assert after >= before - 1e-6


def test_queries_and_pools_without_tokens_are_valid():
    _, tokens, offsets = texts(12, 4)
    assert maxsim(np.zeros((0, 16)), tokens, offsets, []).shape == (4, 0)
    assert maxsim(tokens[:2], np.zeros((0, 16)), [0], uniform(2)).shape == (0, 2)


@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        ([0, 2, 2, 3], "row 1 has no token"),
        ([0, 2], "from 0 to the 3 tokens"),
        ([1, 3], "from 0 to the 3 tokens"),
        ([], "from 0 to the 3 tokens"),
        ([0, 5, 3], "row 1 has no token"),
    ],
)
def test_offsets_that_are_no_partition_are_refused(offsets, message):
    with pytest.raises(InvalidShape, match=message):
        maxsim(np.eye(2), np.ones((3, 2)), offsets, uniform(2))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_tokens_that_are_not_finite_are_refused(bad):
    tokens = np.ones((4, 2))
    tokens[2, 1] = bad
    with pytest.raises(InvalidShape, match="only finite"):
        maxsim(np.eye(2) + 0.5, tokens, [0, 1, 4], uniform(2))


def test_dimensions_that_differ_are_refused():
    with pytest.raises(InvalidShape, match=r"tokens has shape \(3, 4\)"):
        maxsim(np.ones((1, 5)), np.ones((3, 4)), [0, 3], [1.0])


def test_negative_weights_and_no_memory_are_refused():
    with pytest.raises(InvalidParameter, match=r"weights go down to -0\.5"):
        maxsim(np.eye(2), np.eye(2), [0, 2], [1.5, -0.5])
    with pytest.raises(InvalidParameter, match="max_bytes is 0"):
        maxsim(np.eye(2), np.eye(2), [0, 2], uniform(2), max_bytes=0)


@settings(max_examples=50)
@given(candidates=candidate_sets(), k=st.integers(1, 15))
def test_the_method_ranks_by_the_sum_of_partial_scores(candidates, k):
    bsr = candidates.partial_scores.astype(np.float64).sum(axis=1)
    picks = Bsr().select(candidates, k, RNG)
    assert picks.indices.tolist() == oracles.top_k(bsr, k)
    assert np.array_equal(picks.scores, bsr[picks.indices])


def test_a_query_without_tokens_is_served_by_similarity():
    candidates = Candidates(
        rows=np.arange(3), relevance=np.array([0.2, 0.9, 0.5]), partial_scores=np.zeros((3, 0))
    )
    picks = Bsr().select(candidates, 2, RNG)
    assert picks.indices.tolist() == [1, 2]
    assert picks.diagnostics == {"fallback": "similarity"}
