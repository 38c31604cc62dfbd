"""Candidates of the methods that cover structures."""

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from pydantic import TypeAdapter

from kshot.index import candidates as candidates_module
from kshot.index.candidates import QueryFeatures
from kshot.index.snapshot import Exclusions
from kshot.index.store.example_rows import PoolChanges
from kshot.schemas.filters import Filter
from kshot.selectors import bm25_partial_scores, covering_picks, structural_recall
from kshot.selectors.set_bm25 import SetBm25
from kshot.selectors.structural import Structural
from kshot.structures import structures_of
from tests import oracles
from tests.test_index.builders import embed, header, published, vector_of

pytestmark = pytest.mark.usefixtures("without_fsync")
ADAPTER: TypeAdapter[Filter] = TypeAdapter(Filter)
VOCABULARY = [f"w{i}" for i in range(40)]
METHODS = pytest.mark.parametrize("method", [Structural(), SetBm25(), Structural(max_words=1)], ids=repr)
RNG = np.random.default_rng(0)


def text_of(seq):
    rng = np.random.default_rng(seq)
    return " ".join(rng.choice(VOCABULARY, rng.integers(1, 7)))


TEXTS = [text_of(seq) for seq in range(1, 601)]
VECTORS = np.array([vector_of(text) for text in TEXTS], np.float64)


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    headers = [header(seq, metadata={"n": seq}) for seq in range(1, 601)]
    return published(tmp_path_factory.mktemp("pool"), headers, TEXTS).snapshot


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Make the pool a large one, and the shortlists short ones."""
    monkeypatch.setattr(candidates_module, "SMALL_POOL_ROWS", 0)
    monkeypatch.setattr(candidates_module, "shortlist_depth", lambda k: 2 * k + 16)


def query_of(text) -> Any:
    return QueryFeatures(vector_of(text), None, text)


def eligible_rows(snapshot, expression=None, **exclude):
    return snapshot.eligible(
        None if expression is None else ADAPTER.validate_python(expression), Exclusions(**exclude)
    )


def gather(*arguments) -> Any:
    return candidates_module.gather(*arguments)


def picks_of_the_whole_pool(method, query, eligible, k):
    """Cover with the plain functions over every text; fill with the most similar rows of all."""
    wanted, *rows = structures_of([query.text, *TEXTS], "ngrams", max_words=method.max_words)
    if method.weighting == "recall":
        scores = structural_recall(wanted, rows)
    else:
        scores = bm25_partial_scores(rows, wanted, variant="lucene")
    relevance = VECTORS @ query.vector
    allowed = eligible.rows
    return allowed[covering_picks(scores[allowed], relevance[allowed], k).indices].tolist()


@METHODS
@pytest.mark.parametrize("text", ["w1 w7 w30", "w3", "w4 w5 unheard w4 w5 w6 w9", text_of(77)])
def test_picks_from_the_candidates_are_those_of_the_whole_pool(snapshot, method, text):
    query = query_of(text)
    for eligible in (
        eligible_rows(snapshot),
        eligible_rows(snapshot, {"field": "metadata.n", "gt": 500}, ids=["e510", "e577"]),
    ):
        for k in (1, 8, 30):
            found = gather(snapshot, query, eligible, method, k)
            picks = method.select(found, k, RNG)
            assert found.rows[picks.indices].tolist() == picks_of_the_whole_pool(method, query, eligible, k)


@METHODS
def test_candidates_are_fewer_than_the_rows_that_share_a_structure(snapshot, method):
    query = query_of("w1 w2")
    found = gather(snapshot, query, eligible_rows(snapshot), method, 4)
    sharing = [row for row, text in enumerate(TEXTS) if {"w1", "w2"} & set(text.split())]
    assert len(sharing) > 60
    assert set(found.rows.tolist()) <= set(sharing)
    # At most 24 of each pattern: w1, w2, both, and so on.
    assert len(found) < len(sharing)
    assert (found.structure_scores > 0).any(axis=1).all()


@METHODS
@pytest.mark.parametrize("kept", [3, 20, 300])
@pytest.mark.parametrize("text", ["w1 w7 w30", "unheard of", "w3"])
def test_a_filter_that_leaves_k_rows_leaves_k_candidates(snapshot, method, kept, text):
    eligible = eligible_rows(snapshot, {"field": "metadata.n", "gt": 600 - kept})
    k = min(kept, 20)
    found = gather(snapshot, query_of(text), eligible, method, k)
    assert set(found.rows.tolist()) <= set(eligible.rows.tolist())
    assert len(found) >= k
    assert len(method.select(found, k, RNG)) == k


def test_where_few_rows_share_a_structure_the_nearest_fill_up(tmp_path):
    texts = [*TEXTS[:100], "rare word", "another rare word"]
    snapshot = published(tmp_path, map(header, range(1, 103)), texts).snapshot
    query = query_of("rare")
    found = gather(snapshot, query, eligible_rows(snapshot), Structural(), 6)
    picks = Structural().select(found, 6, RNG)
    similarity = [float(vector_of(text) @ query.vector) for text in texts]
    nearest = [row for row in oracles.top_k(similarity, 10) if row < 100][:4]
    assert found.rows[picks.indices].tolist() == [100, 101, *nearest]
    assert picks.diagnostics["filled"] == 4


def test_without_a_query_vector_the_first_rows_fill_up(snapshot):
    query = QueryFeatures(None, None, "unheard of")
    found = gather(snapshot, query, eligible_rows(snapshot), Structural(), 5)
    picks = Structural().select(found, 5, RNG)
    assert found.rows[picks.indices].tolist() == [0, 1, 2, 3, 4]
    assert picks.diagnostics == {"fallback": "similarity"}


def test_a_query_without_a_text_is_served_by_similarity(snapshot):
    query: Any = QueryFeatures(vector_of("x"), None, None)
    found = gather(snapshot, query, eligible_rows(snapshot), SetBm25(), 5)
    assert found.structure_scores.shape == (len(found), 0)
    similarity = VECTORS @ query.vector
    picked = found.rows[SetBm25().select(found, 5, RNG).indices].tolist()
    assert picked == oracles.top_k(similarity, 5)


def test_a_pool_without_vectors_is_covered_by_structures(tmp_path):
    snapshot = published(tmp_path, []).snapshot
    found = gather(snapshot, query_of("a b"), eligible_rows(snapshot), Structural(), 3)
    assert len(found) == 0
    assert found.structure_scores.shape == (0, 0)


def test_the_scores_are_those_of_the_snapshot_at_hand(tmp_path):
    texts = {1: "a b", 2: "b c", 3: "a"}
    index = published(tmp_path, [header(1), header(2)], ["a b", "b c"])
    index._structures._load_texts = lambda seqs: [texts[seq] for seq in seqs]
    older = index.snapshot
    index.append(embed([3], ["a"]))
    newer = index.publish(PoolChanges(2, [1], [header(3)]))
    for snapshot, rows in ((older, [0]), (newer, [2]), (older, [0])):
        scores = snapshot.structures(Structural()).scores("a", "recall")
        assert np.flatnonzero(scores.totals).tolist() == rows


def test_candidates_carry_only_the_structures_that_some_row_has(snapshot):
    found = gather(snapshot, query_of("w1 unheard w1"), eligible_rows(snapshot), Structural(max_words=1), 4)
    # Three structures, two of them w1.
    assert found.structure_scores.shape == (len(found), 1)
    assert_allclose(found.structure_scores, 2 / 3, rtol=1e-6)
    assert found.bm25 is found.partial_scores is found.vectors is None
