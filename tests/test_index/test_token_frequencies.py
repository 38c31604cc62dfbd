"""Weights of query tokens by their rarity in a pool."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from kshot.arrays import Signal
from kshot.errors import InvalidInput
from kshot.index.candidates import QueryFeatures, gather
from kshot.index.pool import PoolIndex
from kshot.index.snapshot import Exclusions
from kshot.index.store.example_rows import PoolChanges
from kshot.index.token_frequencies import TokenFrequencies
from kshot.selectors.bsr import Bsr, bsr
from kshot.selectors.fused import Fused
from kshot.selectors.late_interaction import bsr_scores
from kshot.selectors.set_bsr import SetBsr
from tests.test_index.builders import embed, header, no_texts

pytestmark = pytest.mark.usefixtures("without_fsync")
PIECES = ["the", "red", "blue", "train", "plane"]
TEXTS = ["the red train", "the blue train", "the the plane", "the red red plane", "the train"]
FREQUENCY = {"the": 5, "red": 2, "blue": 1, "train": 3, "plane": 2}


def ids(text):
    return np.array([PIECES.index(word) for word in text.split()], np.int32)


def features(keys, texts):
    """Embed texts of `PIECES`, a token per word."""
    return dataclasses.replace(embed(keys, texts), token_ids=np.concatenate([ids(text) for text in texts]))


@pytest.fixture
def index(tmp_path):
    """Give five examples in two segments."""
    made = PoolIndex(tmp_path, None, no_texts)
    made.append(features([1, 2], TEXTS[:2]))
    made.append(features([3, 4, 5], TEXTS[2:]))
    made.publish(PoolChanges(1, [], [header(seq) for seq in range(1, 6)]))
    return made


def idf(word, n=5, frequency=FREQUENCY):
    return np.log((n + 1) / (frequency.get(word, 0) + 1))


def query_of(text) -> Any:
    made = embed([0], [text])
    assert made.tokens is not None
    return QueryFeatures(made.vectors[0], made.tokens.astype(np.float32), text, token_ids=ids(text))


def candidates(index, query, selector) -> Any:
    snapshot = index.snapshot
    return gather(snapshot, query, snapshot.eligible(None, Exclusions()), selector, 3)


def test_weights_are_idf_over_the_rows_and_sum_to_one(index):
    weights = index.snapshot.token_frequencies.weights(ids("red blue the red plane"))
    expected = np.array([idf("red"), idf("blue"), 0, idf("red"), idf("plane")])
    assert weights.dtype == np.float32
    assert_allclose(weights, expected / expected.sum(), rtol=1e-6)


def test_a_piece_that_no_row_has_weighs_most(index):
    weights = index.snapshot.token_frequencies.weights(np.array([2, 5, 2**31 - 1], np.int32))
    assert weights[1] == weights[2] == weights.max() > weights[0]


def test_pieces_that_every_row_has_leave_nothing_to_weigh(index):
    assert index.snapshot.token_frequencies.weights(ids("the the")).tolist() == [0, 0]
    assert index.snapshot.token_frequencies.weights(ids("")).tolist() == []


def test_each_snapshot_counts_its_own_live_rows(index):
    older = index.snapshot
    newer = index.publish(PoolChanges(2, [2, 3], []))
    # Left: the red train, the red red plane, the train.
    fewer = {"the": 3, "red": 2, "train": 2, "plane": 1}
    expected = np.array([idf(word, 3, fewer) for word in ("red", "blue", "plane")])
    assert_allclose(
        newer.token_frequencies.weights(ids("red blue plane")), expected / expected.sum(), rtol=1e-6
    )
    expected = np.array([idf(word) for word in ("red", "blue", "plane")])
    assert_allclose(
        older.token_frequencies.weights(ids("red blue plane")), expected / expected.sum(), rtol=1e-6
    )


def test_pieces_may_have_any_number():
    ids, offsets = np.array([7, 2**31 - 1, 2**31 - 1, 7], np.int32), np.array([0, 3, 4])
    weights = TokenFrequencies([(ids, offsets)], np.ones(2, np.bool_)).weights(ids[:2])
    assert weights.tolist() == [0, 1]


def test_a_pool_without_tokens_counts_none():
    weights = TokenFrequencies([], np.ones(3, np.bool_)).weights(np.array([4, 7], np.int32))
    assert weights.tolist() == [0.5, 0.5]


@pytest.mark.parametrize("selector", [Bsr(idf=True), SetBsr(idf=True), Fused(idf=True)], ids=repr)
def test_partial_scores_add_up_to_bsr_with_idf(index, selector):
    query = query_of("the red plane")
    found = candidates(index, query, selector)
    # "the" is in every row and goes.
    assert found.partial_scores.shape == (5, 2)
    tokens, offsets = index.snapshot.tokens.take(np.arange(5))
    expected = bsr(query.tokens, tokens, offsets, [idf(word) for word in ("the", "red", "plane")])
    assert_allclose(bsr_scores(found.partial_scores), expected, atol=1e-6)
    if isinstance(selector, Fused):
        assert found.moments[Signal.BSR].mean == pytest.approx(expected.mean(), abs=1e-6)
        assert found.moments[Signal.BSR].std == pytest.approx(expected.std(), abs=1e-6)


def test_idf_is_off_unless_asked_for(index):
    query = query_of("the red plane")
    for selector in (Bsr(), SetBsr(), Fused(), Fused(idf=True, bsr=0, similarity=1)):
        found = candidates(index, query, selector)
        if found.partial_scores is not None:
            assert found.partial_scores.shape == (5, 3)
    tokens, offsets = index.snapshot.tokens.take(np.arange(5))
    found = candidates(index, query, Bsr())
    assert_allclose(bsr_scores(found.partial_scores), bsr(query.tokens, tokens, offsets), atol=1e-6)


def test_a_rare_piece_decides_where_the_frequent_ones_would_not(index):
    # By the plain mean the row with "the train" matches two of three pieces as well as the one with "blue".
    query = query_of("blue the the train train")
    plain, rare = (candidates(index, query, method) for method in (Bsr(), Bsr(idf=True)))
    share = {}
    for name, found in (("plain", plain), ("rare", rare)):
        scores = bsr_scores(found.partial_scores)
        share[name] = scores[1] - scores[4]
    assert share["rare"] > 2 * share["plain"] > 0


def test_a_query_of_pieces_that_every_row_has_is_served_by_similarity(index):
    query = query_of("the the")
    for selector in (Bsr(idf=True), SetBsr(idf=True)):
        found = candidates(index, query, selector)
        assert found.partial_scores.shape == (5, 0)
        picks = selector.select(found, 2, np.random.default_rng(0))
        assert picks.diagnostics == {"fallback": "similarity"}
        assert_array_equal(picks.indices, np.argsort(-found.relevance, kind="stable")[:2])


def test_a_query_without_its_word_pieces_is_refused(index):
    query = dataclasses.replace(query_of("the red"), token_ids=None)
    with pytest.raises(InvalidInput, match="idf needs the word pieces of the query"):
        candidates(index, query, Bsr(idf=True))
