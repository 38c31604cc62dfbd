"""Candidates of a pool whose tokens are sealed, beside those of every row."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from kshot.arrays import Float32s, unit_rows
from kshot.index import candidates as candidates_module
from kshot.index.candidates import QueryFeatures, gather
from kshot.index.pool import PoolIndex
from kshot.index.segments import Features
from kshot.index.snapshot import Exclusions
from kshot.index.store.example_rows import PoolChanges
from kshot.index.token_sealing import build_token_base
from kshot.schemas.filters import Filter
from kshot.selectors import SELECTORS, coverage_greedy
from kshot.selectors.set_bsr import SetBsr
from tests.test_index.builders import header, no_texts, random_unit

pytestmark = pytest.mark.usefixtures("without_fsync")
ADAPTER: TypeAdapter[Filter] = TypeAdapter(Filter)
METHODS = ["bsr", "set_bsr", "fused"]
N, D, K = 2_000, 32, 8
RNG = np.random.default_rng(0)
WORDS = random_unit(np.random.default_rng(7), 400, D)


def text(rng: np.random.Generator) -> Float32s:
    """Return the tokens of a text: some words, the frequent ones more often, each a little different."""
    frequent = np.minimum(rng.zipf(1.3, rng.integers(3, 14)), len(WORDS)) - 1
    return unit_rows(WORDS[frequent] + 0.35 * random_unit(rng, len(frequent), D))


def features(keys, texts) -> Features:
    tokens = np.concatenate(texts).astype(np.float16)
    return Features(
        np.array(keys, np.int64),
        unit_rows([one.sum(axis=0) + 0.01 for one in texts]),
        np.zeros(len(texts), np.bool_),
        tokens,
        np.cumsum([0, *map(len, texts)], dtype=np.int64),
        np.arange(len(tokens), dtype=np.int32),
    )


def query_of(tokens):
    return QueryFeatures(unit_rows([tokens.sum(axis=0) + 0.01])[0], tokens, None)


def queries(count, seed=1):
    rng = np.random.default_rng(seed)
    return [query_of(text(rng)) for _ in range(count)]


def sealed(folder, texts):
    """Return the index of a pool at version 1, its tokens sealed."""
    index = PoolIndex(folder / "segments", None, no_texts)
    seqs = range(1, len(texts) + 1)
    for start in range(0, len(texts), 900):
        index.append(features(seqs[start : start + 900], texts[start : start + 900]))
    index.publish(PoolChanges(1, [], [header(seq, metadata={"n": seq}) for seq in seqs]))
    index.install_token_base(build_token_base(folder, index.snapshot))
    return index


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    rng = np.random.default_rng(2)
    return sealed(tmp_path_factory.mktemp("large"), [text(rng) for _ in range(N)])


@pytest.fixture(autouse=True)
def _few_rows_are_many(monkeypatch):
    monkeypatch.setattr(candidates_module, "SMALL_POOL_ROWS", 100)


def allowed(snapshot, expression=None, **exclude):
    return snapshot.eligible(
        None if expression is None else ADAPTER.validate_python(expression), Exclusions(**exclude)
    )


def gathered(snapshot, query, selector, k=K, eligible=None, **options) -> Any:
    """Call `gather`, whose parts the tests know not to be None."""
    return gather(snapshot, query, eligible or allowed(snapshot), selector, k, **options)


def picked(snapshot, query, selector, k=K, eligible=None, **options):
    """Return the rows picked, in pick order."""
    found = gathered(snapshot, query, selector, k, eligible, **options)
    return found.rows[selector.select(found, k, RNG).indices].tolist()


def first_round(found):
    """Return the rows that set_bsr picks before it begins anew."""
    picks = SetBsr().select(found, K, RNG)
    return found.rows[picks.indices[np.array(picks.diagnostics["rounds"]) == 0]].tolist()


@pytest.mark.slow
def test_set_bsr_picks_what_it_picks_from_every_row(large):
    snapshot = large.snapshot
    same, reached, whole = 0, [], []
    for query in queries(100):
        few = gathered(snapshot, query, SetBsr())
        every = gathered(snapshot, query, SetBsr(), exact=True)
        assert (few.complete, every.complete) == (False, True)
        assert len(few) < len(every) / 4
        wanted = first_round(every)
        same += first_round(few)[: len(wanted)] == wanted
        reached.append(every.partial_scores[first_round(few)].max(axis=0).sum())
        whole.append(every.partial_scores[wanted].max(axis=0).sum())
    assert same >= 95
    assert np.sum(reached) >= 0.999 * np.sum(whole)


@pytest.mark.parametrize(("name", "least"), [("bsr", 0.95), ("set_bsr", 0.95), ("fused", 0.9)])
def test_a_sealed_pool_gives_nearly_the_picks_of_every_row(large, name, least):
    # Without texts, fused has the nearest rows by sentence vector alone to begin with.
    selector = SELECTORS.get(name)()
    same = 0
    for query in queries(12):
        few, every = (set(picked(large.snapshot, query, selector, exact=exact)) for exact in (False, True))
        same += len(few & every)
    assert same >= least * 12 * K


@pytest.mark.parametrize("name", METHODS)
def test_what_is_left_of_a_shortlist_is_scored_exactly(large, name):
    selector = SELECTORS.get(name)()
    query = queries(1)[0]
    few, every = (gathered(large.snapshot, query, selector, exact=exact) for exact in (False, True))
    assert K <= len(few) < N / 4
    np.testing.assert_allclose(few.partial_scores, every.partial_scores[few.rows], atol=1e-6)
    np.testing.assert_allclose(few.relevance, every.relevance[few.rows], atol=1e-6)
    assert dict(few.moments) == dict(every.moments)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("kept", [120, 700, 1_990])
def test_filtered_rows_are_never_candidates(large, name, kept):
    selector = SELECTORS.get(name)()
    eligible = allowed(large.snapshot, {"field": "metadata.n", "gt": N - kept}, ids=["e1995"])
    same = 0
    for query in queries(10):
        found = gathered(large.snapshot, query, selector, eligible=eligible)
        assert eligible.mask[found.rows].all()
        assert 1994 not in found.rows
        few, every = (
            set(picked(large.snapshot, query, selector, eligible=eligible, exact=exact))
            for exact in (False, True)
        )
        same += len(few & every)
    assert same >= 0.9 * 10 * K


def test_few_eligible_rows_are_all_scored(large):
    eligible = allowed(large.snapshot, {"field": "metadata.n", "lte": 50})
    found = gather(large.snapshot, queries(1)[0], eligible, SetBsr(), K)
    assert found.complete
    assert found.rows.tolist() == list(range(50))


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("name", SELECTORS.names())
def test_exact_means_every_row_for_every_method_that_scores_rows(large, name, exact):
    selector = SELECTORS.get(name)()
    query = replace(queries(1)[0], text="w1 w2")
    found = gather(large.snapshot, query, allowed(large.snapshot), selector, K, exact=exact)
    assert found.complete or len(found) < N
    if exact:
        assert found.complete
        assert len(found) == N
    assert len(selector.select(found, K, np.random.default_rng(0))) == K


def test_similarity_is_complete_where_the_search_is_exact(large):
    selector = SELECTORS.get("similarity")()
    found = gather(large.snapshot, queries(1)[0], allowed(large.snapshot), selector, K)
    assert len(found) < 100
    assert found.complete
    assert not gather(
        large.snapshot, queries(1)[0], allowed(large.snapshot), SELECTORS.get("mmr")(), K
    ).complete


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("k", [1, 300])
def test_there_are_always_enough_candidates(large, name, k):
    assert len(picked(large.snapshot, queries(1)[0], SELECTORS.get(name)(), k)) == k


@pytest.mark.parametrize("length", [1, 2, 2_500])
def test_very_short_and_very_long_queries_are_answered(large, length):
    rng = np.random.default_rng(length)
    tokens = unit_rows(WORDS[rng.integers(0, 60, length)] + 0.35 * random_unit(rng, length, D))
    few, every = (picked(large.snapshot, query_of(tokens), SetBsr(), exact=exact) for exact in (False, True))
    assert len(few) == K
    assert few[:2] == every[:2]


def test_rows_appended_after_sealing_are_found_and_deleted_ones_are_not(tmp_path):
    rng = np.random.default_rng(3)
    index = sealed(tmp_path, [text(rng) for _ in range(400)])
    query = queries(1, seed=4)[0]
    first = picked(index.snapshot, query, SetBsr())[0]
    # A copy of the query covers all of it; it is not sealed.
    index.append(features([401], [query.tokens]))
    newer = index.publish(PoolChanges(2, [first + 1], [header(401)]))
    assert (len(newer), len(newer.tokens.base)) == (401, 400)
    for name in METHODS:
        found = picked(newer, query, SELECTORS.get(name)(), 20)
        assert found[0] == 400
        assert first not in found
    assert picked(newer, query, SetBsr())[1:] == picked(newer, query, SetBsr(), exact=True)[1:]
    # Readers of the older snapshot see neither change.
    assert picked(index.snapshot, query, SetBsr())[0] == 400


def test_deleting_every_sealed_row_leaves_the_others(tmp_path):
    rng = np.random.default_rng(5)
    index = sealed(tmp_path, [text(rng) for _ in range(150)])
    index.append(features(range(151, 301), [text(rng) for _ in range(150)]))
    newer = index.publish(PoolChanges(2, list(range(1, 151)), [header(seq) for seq in range(151, 301)]))
    for name in METHODS:
        assert min(picked(newer, queries(1)[0], SELECTORS.get(name)(), 30)) >= 150


@pytest.mark.parametrize("name", METHODS)
def test_identical_rows_are_picked_in_row_order(tmp_path, name):
    one = text(np.random.default_rng(6))
    index = sealed(tmp_path, [one] * 500)
    found = picked(index.snapshot, query_of(one[:3]), SELECTORS.get(name)(), 5)
    assert len(set(found)) == 5


def test_a_query_of_special_tokens_only_is_served_by_similarity(large):
    query = replace(queries(1)[0], tokens=np.empty((0, D), np.float32))
    found = gather(large.snapshot, query, allowed(large.snapshot), SetBsr(), K)
    assert SetBsr().select(found, K, RNG).diagnostics == {"fallback": "similarity"}


def test_own_scores_and_fused_relevance_are_refined_too(large):
    for parameters in ({"add_cand_score": 1.0}, {"add_cand_score": 2.0, "relevance": "fused"}):
        selector = SetBsr(**parameters)
        same = 0
        for query in queries(8):
            few, every = (
                set(picked(large.snapshot, query, selector, exact=exact)) for exact in (False, True)
            )
            same += len(few & every)
        assert same >= 0.95 * 8 * K


def test_moments_over_projected_tokens_are_nearly_those_over_whole_ones(tmp_path, monkeypatch):
    monkeypatch.setattr("kshot.index.token_base.MAX_DIMENSION", 20)
    rng = np.random.default_rng(8)
    index = sealed(tmp_path, [text(rng) for _ in range(1_200)])
    sample = index.snapshot.sample
    assert sample.tokens.shape[1] == 20
    index.install_token_base(None)
    whole = index.snapshot.sample
    assert whole.tokens.shape[1] == D
    for query in queries(5):
        weights = np.full(len(query.tokens), 1 / len(query.tokens), np.float32)
        near, true = (one.bsr_moments(query.tokens, weights) for one in (sample, whole))
        assert near.std == pytest.approx(true.std, rel=0.1)
        assert abs(near.mean - true.mean) < 0.5 * true.std


def test_an_exact_shortlist_certifies_what_a_sealed_pool_cannot(large):
    steps = 0
    for query in queries(20):
        every = gathered(large.snapshot, query, SetBsr(), exact=True)
        best = np.unique(np.argsort(-every.partial_scores, axis=0, kind="stable")[:100])
        outside = np.delete(every.partial_scores, best, axis=0).max(axis=0).astype(np.float64)
        some = replace(every.take(best), complete=False, outside=outside)
        picks = SetBsr().select(some, K, RNG)
        proven = picks.diagnostics["certified_steps"]
        whole = coverage_greedy(every.partial_scores, K).indices.tolist()
        assert some.rows[picks.indices[:proven]].tolist() == whole[:proven]
        steps += proven
        sealed_picks = SetBsr().select(gathered(large.snapshot, query, SetBsr()), K, RNG)
        assert sealed_picks.diagnostics["certified_steps"] == 0
    assert steps >= 20
