from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pydantic import TypeAdapter

from kshot.arrays import Feature, Picks, Signal
from kshot.errors import InvalidInput
from kshot.index import candidates as candidates_module
from kshot.index.candidates import QueryFeatures, prepare, shortlist_depth, similarities
from kshot.index.snapshot import Exclusions
from kshot.index.store.example_rows import PoolChanges
from kshot.schemas.filters import Filter
from kshot.selectors import SELECTORS
from kshot.selectors.late_interaction import bsr_scores, maxsim
from tests import oracles
from tests.test_index.builders import embed, header, published, tokens_of, vector_of

pytestmark = pytest.mark.usefixtures("without_fsync")
ADAPTER: TypeAdapter[Filter] = TypeAdapter(Filter)
N = 1500
VOCABULARY = [f"w{i}" for i in range(60)]
# Structures change which rows are candidates, and idf how tokens are weighed; they have tests of their own.
ALL = frozenset(Feature) - {Feature.STRUCTURES, Feature.IDF}


@dataclass(frozen=True)
class Asking:
    """A selector that asks for features and chooses nothing."""

    needs: frozenset[Feature] = ALL
    pool_wide: ClassVar[bool] = False

    def select(self, *_) -> Picks:
        raise AssertionError("choosing is not asked for here")


class AskingForAll(Asking):
    pool_wide = True


def text_of(seq):
    rng = np.random.default_rng(seq)
    return " ".join(rng.choice(VOCABULARY, rng.integers(1, 5)))


TEXTS = [text_of(seq) for seq in range(1, N + 1)]


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Give the index of a pool that is too large for every row to be a candidate."""
    headers = [
        header(seq, outputs="abc"[seq % 3] if seq % 5 else None, metadata={"n": seq})
        for seq in range(1, N + 1)
    ]
    headers = [one._replace(has_outputs=True) for one in headers]
    return published(tmp_path_factory.mktemp("large"), headers, TEXTS, label_field="outputs")


@pytest.fixture
def snapshot(large, monkeypatch):
    monkeypatch.setattr(candidates_module, "SMALL_POOL_ROWS", 500)
    monkeypatch.setattr(candidates_module, "shortlist_depth", lambda k: max(64, 8 * k))
    large.snapshot.lexical(current=True)
    return large.snapshot


def gather(*arguments) -> Any:
    """Call `kshot.index.candidates.gather`, whose parts the tests know not to be None."""
    return candidates_module.gather(*arguments)


def query_of(text) -> Any:
    features = embed([0], [text])
    assert features.tokens is not None
    return QueryFeatures(features.vectors[0], features.tokens.astype(np.float32), text)


QUERY = query_of("w1 w7 w30")


def eligible_rows(snapshot, expression=None, **exclude):
    return snapshot.eligible(
        None if expression is None else ADAPTER.validate_python(expression), Exclusions(**exclude)
    )


@cache
def all_signals():
    """Compute every signal of every row for `QUERY` from the texts, the slow way."""
    tokens = [tokens_of(text).astype(np.float64) for text in TEXTS]
    weights = [1 / len(QUERY.tokens)] * len(QUERY.tokens)
    return {
        Signal.SIMILARITY: np.array([vector_of(text) @ QUERY.vector for text in TEXTS], np.float64),
        Signal.BSR: oracles.maxsim(QUERY.tokens, tokens, weights).sum(axis=1),
        Signal.BM25: np.array(oracles.lucene([text.split() for text in TEXTS], QUERY.text.split())),
    }


def signals_of(rows):
    return {name: values[rows] for name, values in all_signals().items()}


def assert_parts_are_exact(snapshot, found):
    signals = signals_of(found.rows)
    assert_allclose(found.relevance, signals[Signal.SIMILARITY], atol=1e-6)
    assert_allclose(bsr_scores(found.partial_scores), signals[Signal.BSR], atol=1e-6)
    assert found.partial_scores.shape == (len(found), len(QUERY.tokens))
    assert_allclose(found.bm25, signals[Signal.BM25], rtol=1e-12)
    assert_array_equal(found.vectors, snapshot.dense.vectors[found.rows])
    assert_array_equal(found.query_vector, QUERY.vector)
    assert [None if code < 0 else found.label_names[code] for code in found.labels] == [
        "abc"[(row + 1) % 3] if (row + 1) % 5 else None for row in found.rows
    ]
    assert found.difficulty.tolist() == [len(TEXTS[row].split()) for row in found.rows]


def test_a_shortlist_holds_the_true_best_of_each_source(snapshot):
    found = gather(snapshot, QUERY, eligible_rows(snapshot), Asking(), 8)
    assert 64 <= len(found) <= 128
    signals = all_signals()
    for signal in (Signal.SIMILARITY, Signal.BM25):
        best = oracles.top_k(signals[signal], 64)
        # Beyond the last whose score is 0 there is nothing to prefer.
        assert {one for one in best if signals[signal][one] > 0} <= set(found.rows.tolist())
    assert_parts_are_exact(snapshot, found)


def test_a_pool_wide_selector_gets_every_eligible_row(snapshot):
    eligible = eligible_rows(snapshot, {"field": "metadata.n", "gt": 300}, ids=["e400"])
    found = gather(snapshot, QUERY, eligible, AskingForAll(), 8)
    assert found.rows.tolist() == eligible.rows.tolist() == [row for row in range(300, N) if row != 399]
    assert_parts_are_exact(snapshot, found)


def test_every_eligible_row_of_a_small_pool_is_a_candidate(snapshot):
    eligible = eligible_rows(snapshot, {"field": "metadata.n", "lte": 500})
    found = gather(snapshot, QUERY, eligible, Asking(), 8)
    assert found.rows.tolist() == list(range(500))
    assert_parts_are_exact(snapshot, found)


def test_a_shortlist_says_of_a_row_what_the_whole_pool_says(snapshot, monkeypatch):
    some = gather(snapshot, QUERY, eligible_rows(snapshot), Asking(), 8)
    monkeypatch.setattr(candidates_module, "SMALL_POOL_ROWS", N)
    every = gather(snapshot, QUERY, eligible_rows(snapshot), Asking(), 8)
    assert len(every) == N
    place = some.rows
    assert_allclose(some.relevance, every.relevance[place], atol=1e-6)
    assert_allclose(some.partial_scores, every.partial_scores[place], atol=1e-6)
    for part in ("vectors", "bm25", "labels", "difficulty"):
        assert_array_equal(getattr(some, part), getattr(every, part)[place])
    assert some.moments == every.moments


@pytest.mark.parametrize("name", SELECTORS.names())
@pytest.mark.parametrize("kept", [3, 20, 700])
def test_a_filter_that_leaves_k_rows_leaves_k_candidates_for_every_method(snapshot, monkeypatch, name, kept):
    monkeypatch.setattr(candidates_module, "SMALL_POOL_ROWS", 0)
    selector = SELECTORS.get(name)()
    eligible = eligible_rows(snapshot, {"field": "metadata.n", "gt": N - kept})
    k = min(kept, 20)
    # One query shares words with many rows, one with none.
    for query in (QUERY, query_of("unheard of")):
        found = gather(snapshot, query, eligible, selector, k)
        assert set(found.rows.tolist()) <= set(range(N - kept, N))
        assert len(found) >= k
        assert len(selector.select(found, k, np.random.default_rng(0))) == k


def test_methods_that_read_words_work_without_a_query_vector(snapshot):
    query = replace(QUERY, vector=None)
    selector = SELECTORS.get("bm25")()
    found = gather(snapshot, query, eligible_rows(snapshot), selector, 8)
    assert not found.relevance.any()
    picks = selector.select(found, 8, np.random.default_rng(0))
    assert found.rows[picks.indices].tolist() == oracles.top_k(all_signals()[Signal.BM25], 8)


@pytest.mark.parametrize("text", ["w3", "unheard of", "w3 w3 unheard"])
def test_words_alone_give_the_picks_of_the_whole_pool(tmp_path, monkeypatch, text):
    # Five rows share a word with the query, three of them alike; all others are alike.
    texts = ["w3 x" if row in (40, 60, 90) else "w3" if row in (70, 80) else "y z" for row in range(120)]
    snapshot = published(tmp_path, map(header, range(1, 121)), texts).snapshot
    query = QueryFeatures(None, None, text)
    selector = SELECTORS.get("bm25")()

    def picks(k):
        found = gather(snapshot, query, eligible_rows(snapshot), selector, k)
        return found.rows[selector.select(found, k, np.random.default_rng(0)).indices].tolist()

    whole = {k: picks(k) for k in (1, 4, 20)}
    monkeypatch.setattr(candidates_module, "SMALL_POOL_ROWS", 0)
    monkeypatch.setattr(candidates_module, "shortlist_depth", lambda k: k)
    assert {k: picks(k) for k in whole} == whole


def test_difficulty_is_the_number_in_the_field_and_unknown_without_one(tmp_path):
    levels = [3, 1.5, "hard", None, True, 10**400]
    headers = [header(i + 1, metadata={"level": level}) for i, level in enumerate(levels)]
    snapshot = published(tmp_path, headers).snapshot
    found = gather(snapshot, QUERY, eligible_rows(snapshot), Asking(), 3, "metadata.level")
    assert_array_equal(found.difficulty, [3, 1.5, np.nan, np.nan, np.nan, np.finfo(np.float64).max])
    others = eligible_rows(snapshot, {"field": "metadata.level", "in": ["hard", True]})
    for eligible, field in ((others, "metadata.level"), (eligible_rows(snapshot), "metadata.lvl")):
        with pytest.raises(InvalidInput, match=f"no eligible example has a number in '{field}'"):
            gather(snapshot, QUERY, eligible, Asking(), 3, field)


def test_numbers_of_a_field_are_those_of_the_snapshot_at_hand(tmp_path):
    index = published(tmp_path, [header(1, metadata={"level": 1})])
    older = index.snapshot
    assert older.numbers("metadata.level").tolist() == [1]
    index.append(embed([2], ["x"]))
    index.publish(PoolChanges(2, [], [header(2, metadata={"level": 2})]))
    assert index.snapshot.numbers("metadata.level").tolist() == [1, 2]
    assert older.numbers("metadata.level").tolist() == [1]


def test_moments_are_those_of_the_sample(snapshot):
    found = gather(snapshot, QUERY, eligible_rows(snapshot), Asking(), 8)
    assert set(found.moments) == set(Signal)
    signals = signals_of(snapshot.sample.rows)
    assert len(snapshot.sample.rows) == 1024
    for name, values in signals.items():
        assert found.moments[name].mean == pytest.approx(values.mean(), abs=1e-7)
        assert found.moments[name].std == pytest.approx(values.std(), abs=1e-7)


def test_bsr_moments_are_those_of_a_direct_computation(snapshot):
    sample = snapshot.sample
    weights = np.full(3, 1 / 3, np.float32)
    direct = bsr_scores(maxsim(QUERY.tokens, sample.tokens, sample.offsets, weights))
    found = gather(snapshot, QUERY, eligible_rows(snapshot), Asking(), 8).moments[Signal.BSR]
    assert (found.mean, found.std) == (float(direct.mean()), float(direct.std()))


@pytest.mark.parametrize("feature", sorted(ALL))
def test_nothing_is_computed_that_is_not_asked_for(snapshot, feature):
    found = gather(snapshot, QUERY, eligible_rows(snapshot), Asking(ALL - {feature}), 8)
    part = {
        Feature.VECTORS: found.vectors,
        Feature.TOKENS: found.partial_scores,
        Feature.LEXICAL: found.bm25,
        Feature.LABELS: found.labels,
        Feature.DIFFICULTY: found.difficulty,
    }
    if feature is Feature.MOMENTS:
        assert not found.moments
    else:
        assert part.pop(feature) is None
        signal = {Feature.TOKENS: Signal.BSR, Feature.LEXICAL: Signal.BM25}.get(feature)
        assert set(found.moments) == set(Signal) - {signal}
    assert not any(value is None for value in part.values())


def test_a_query_of_special_tokens_only_scores_nothing_by_token(snapshot):
    query = replace(QUERY, tokens=QUERY.tokens[:0])
    for selector in (Asking(), AskingForAll()):
        found = gather(snapshot, query, eligible_rows(snapshot), selector, 8)
        assert found.partial_scores.shape == (len(found), 0)
        assert (found.moments[Signal.BSR].mean, found.moments[Signal.BSR].std) == (0, 0)


@pytest.mark.parametrize("name", SELECTORS.names())
def test_every_method_answers_a_query_of_special_tokens_only(snapshot, name):
    selector = SELECTORS.get(name)()
    found = gather(snapshot, replace(QUERY, tokens=QUERY.tokens[:0]), eligible_rows(snapshot), selector, 5)
    assert len(selector.select(found, 5, np.random.default_rng(0))) == 5


def test_a_pool_without_tokens_has_no_partial_scores(tmp_path):
    snapshot = published(tmp_path, map(header, range(1, 9)), TEXTS[:8], with_tokens=False).snapshot
    found = gather(snapshot, QUERY, eligible_rows(snapshot), Asking(), 3)
    assert found.partial_scores is None
    assert set(found.moments) == {Signal.SIMILARITY, Signal.BM25}


def test_an_empty_pool_has_no_candidates(tmp_path):
    snapshot = published(tmp_path, []).snapshot
    found = gather(snapshot, QUERY, eligible_rows(snapshot), Asking(), 3)
    assert len(found) == 0
    assert found.labels.tolist() == found.bm25.tolist() == list(found.label_names) == []
    assert (found.vectors, found.partial_scores, dict(found.moments)) == (None, None, {})


def test_similarities_are_zero_without_vectors(tmp_path, snapshot):
    rows = np.array([2, 5])
    assert similarities(snapshot, replace(QUERY, vector=None), rows).tolist() == [0, 0]
    assert similarities(published(tmp_path, []).snapshot, QUERY, rows).tolist() == [0, 0]
    assert_allclose(similarities(snapshot, QUERY, rows), signals_of(rows)[Signal.SIMILARITY], atol=1e-6)


def test_a_shortlist_is_never_close_to_k():
    assert [shortlist_depth(k) for k in (1, 8, 16, 17, 100)] == [256, 256, 256, 272, 1600]


# The index of words that only proposes


TOKENS_ONLY = Asking(frozenset({Feature.TOKENS}))


@pytest.fixture
def growing(tmp_path, monkeypatch):
    monkeypatch.setattr(candidates_module, "SMALL_POOL_ROWS", 100)
    monkeypatch.setattr(candidates_module, "shortlist_depth", lambda _: 30)
    return published(tmp_path, map(header, range(1, 201)), TEXTS[:200])


def proposed(snapshot):
    return set(gather(snapshot, QUERY, eligible_rows(snapshot), TOKENS_ONLY, 2).rows.tolist())


def test_words_propose_candidates_once_their_index_is_ready(growing):
    snapshot = growing.snapshot
    near = proposed(snapshot)
    assert len(near) == 30
    assert snapshot.lexical(current=False) is None
    prepare(snapshot)
    scores = np.array(oracles.lucene([text.split() for text in TEXTS[:200]], QUERY.text.split()))
    best = [row for row in oracles.top_k(scores, 30) if scores[row] > 0]
    assert proposed(snapshot) == near | set(best)


def test_an_index_of_words_of_another_snapshot_proposes_only_rows_that_are_there(growing):
    older = growing.snapshot
    texts = ["w1 w7 w30"] * 60
    index = growing
    index._lexical._load_texts = lambda seqs: [(TEXTS[:200] + texts)[seq - 1] for seq in seqs]
    index.append(embed(range(201, 261), texts))
    newer = index.publish(PoolChanges(2, [1], [header(seq) for seq in range(201, 261)]))
    newer.lexical(current=True)
    assert proposed(older) <= set(range(200))
    assert 0 not in proposed(newer)
    index.append(embed(range(261, 271), ["x"] * 10))
    newest = index.publish(PoolChanges(3, [], [header(seq) for seq in range(261, 271)]))
    assert set(range(200, 230)) <= proposed(newest) <= set(range(1, 270))


def test_the_index_of_words_is_prepared_where_it_is_wanted_and_out_of_date(growing, monkeypatch):
    index = growing
    prepare(index.snapshot)
    first = index.snapshot.lexical(current=False)
    assert first is not None
    index._lexical._load_texts = lambda seqs: ["x"] * len(seqs)

    def grow(first, last):
        index.append(embed(range(first, last), ["x"] * (last - first)))
        changes = PoolChanges(index.snapshot.version + 1, [], [header(seq) for seq in range(first, last)])
        prepare(index.publish(changes))
        return index.snapshot.lexical(current=False)

    assert grow(201, 221) is first
    assert grow(221, 224) is not first
    monkeypatch.setattr(candidates_module, "SMALL_POOL_ROWS", 10**6)
    assert grow(224, 400) is not None
    assert np.count_nonzero(index.snapshot.lexical(current=False).live) == 223


def test_no_index_of_words_is_prepared_for_a_pool_without_tokens(tmp_path, monkeypatch):
    monkeypatch.setattr(candidates_module, "SMALL_POOL_ROWS", 1)
    snapshot = published(tmp_path, map(header, (1, 2, 3)), with_tokens=False).snapshot
    prepare(snapshot)
    assert snapshot.lexical(current=False) is None
