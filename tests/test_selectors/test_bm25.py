"""BM25 scores and the method that ranks by them."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csc_array

from kshot.arrays import Candidates
from kshot.errors import InvalidParameter, InvalidShape
from kshot.selectors import Bm25Matrix, bm25_contributions, bm25_scores
from kshot.selectors.bm25 import Bm25
from tests import oracles
from tests.strategies import candidate_sets

WORDS = [f"w{i}" for i in range(40)]
RNG = np.random.default_rng(0)
RANK_BM25 = json.loads((Path(__file__).parent / "golden" / "rank_bm25.json").read_text())


def thirty_documents():
    rng = np.random.default_rng(12)
    likely = 1 / np.arange(1, 41)
    return [rng.choice(WORDS, size=rng.integers(1, 25), p=likely / likely.sum()).tolist() for _ in range(30)]


@pytest.mark.parametrize("parameters", [{}, {"k1": 0.9, "b": 0.4, "eps": 0.1}, {"b": 0.0}, {"b": 1.0}])
def test_thirty_documents_score_as_the_okapi_formula_says(parameters):
    documents = thirty_documents()
    for query in (["w3", "w17"], ["w0"], ["w0", "w1", "w2", "w39", "unknown"], ["w5", "w5", "w5"]):
        scores = bm25_scores(documents, query, **parameters)
        np.testing.assert_allclose(scores, oracles.okapi(documents, query, **parameters), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "case", RANK_BM25["cases"], ids=lambda case: f"{case['query'][:20]} {case['parameters']}"
)
def test_thirty_documents_score_as_in_rank_bm25(case):
    documents = [document.split() for document in RANK_BM25["documents"]]
    scores = bm25_scores(documents, case["query"].split(), **case["parameters"])
    np.testing.assert_allclose(scores, case["scores"], rtol=0, atol=1e-9)


@pytest.mark.parametrize("variant", ["okapi", "lucene"])
def test_lengths_of_documents_make_up_for_terms_that_are_not_counted(variant):
    counts = csc_array(np.array([[2.0, 1, 0], [0, 1, 4], [1, 0, 0]]))
    whole = bm25_contributions(counts, variant=variant).toarray()
    # The last term is in one document of three, so its idf is not the floor, which all terms decide.
    part = bm25_contributions(counts[:, [2]], variant=variant, lengths=[3, 5, 1]).toarray()
    assert np.array_equal(part, whole[:, [2]])
    with pytest.raises(InvalidShape, match=r"lengths has shape \(2,\), wanted \(3\)"):
        bm25_contributions(counts, variant=variant, lengths=[1, 2])


def test_thirty_documents_score_as_the_lucene_formula_says():
    documents = thirty_documents()
    query = ["w0", "w3", "w17", "w17", "unknown"]
    scores = bm25_scores(documents, query, variant="lucene")
    np.testing.assert_allclose(scores, oracles.lucene(documents, query), rtol=0, atol=1e-9)
    assert (scores >= 0).all()


@settings(max_examples=50)
@given(
    documents=st.lists(st.lists(st.sampled_from("abcde"), max_size=6), min_size=1, max_size=7).filter(any),
    query=st.lists(st.sampled_from("abcdez"), max_size=4),
)
def test_tiny_collections_score_as_the_formulas_say(documents, query):
    for variant, oracle in (("okapi", oracles.okapi), ("lucene", oracles.lucene)):
        scores = bm25_scores(documents, query, variant=variant)
        np.testing.assert_allclose(scores, oracle(documents, query), rtol=0, atol=1e-9)


def test_a_repeated_query_token_counts_each_time():
    documents = thirty_documents()
    np.testing.assert_allclose(bm25_scores(documents, ["w4", "w4"]), 2 * bm25_scores(documents, ["w4"]))


def test_a_token_in_most_documents_gets_the_floor():
    documents = [["the", "cat"], ["the", "dog"], ["the", "bird"], ["a", "fish"]]
    # the: ln(1.5 / 3.5) < 0; the other five tokens: ln(3.5 / 1.5). All documents have the mean length.
    mean_idf = (math.log(1.5 / 3.5) + 5 * math.log(3.5 / 1.5)) / 6
    scores = bm25_scores(documents, ["the"])
    np.testing.assert_allclose(scores, [0.25 * mean_idf] * 3 + [0.0])


def test_documents_without_any_query_token_score_exactly_zero():
    assert bm25_scores([["a"], ["b"], ["c"]], ["a", "z"])[1:].tolist() == [0.0, 0.0]
    assert bm25_scores([["a"], ["b"], ["c"]], []).tolist() == [0.0, 0.0, 0.0]


def test_empty_collections_and_empty_documents_are_valid():
    assert bm25_scores([], ["a"]).tolist() == []
    assert bm25_scores([[], []], ["a"]).tolist() == [0.0, 0.0]
    assert bm25_scores([[], ["a"], ["b"]], ["a"])[0] == 0.0


def test_a_matrix_answers_many_queries_and_leaves_its_counts_alone():
    documents = thirty_documents()
    matrix = Bm25Matrix.build(documents, variant="lucene")
    before = matrix.contributions.toarray()
    for query in (["w1"], ["w2", "w9"]):
        assert np.array_equal(matrix.scores(query), bm25_scores(documents, query, variant="lucene"))
    assert np.array_equal(matrix.contributions.toarray(), before)


def test_contributions_take_counts_with_repeated_and_explicit_zero_entries():
    counts = csc_array(([1.0, 1.0, 0.0, 3.0], [0, 0, 1, 2], [0, 3, 4]), shape=(3, 2))
    tidy = csc_array(np.array([[2.0, 0.0], [0.0, 0.0], [0.0, 3.0]]))
    assert np.array_equal(bm25_contributions(counts).toarray(), bm25_contributions(tidy).toarray())
    assert counts.nnz == 4


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"variant": "bm42"}, "variant is 'bm42', allowed okapi, lucene"),
        ({"k1": -0.1}, "k1 is -0.1, allowed >= 0"),
        ({"b": 1.1}, "b is 1.1, allowed 0 to 1"),
        ({"eps": -1}, "eps is -1, allowed >= 0"),
    ],
)
def test_parameters_outside_their_range_are_refused(parameters, message):
    with pytest.raises(InvalidParameter, match=message):
        bm25_scores([["a"]], ["a"], **parameters)


def candidates(bm25):
    relevance = np.array([0.1, 0.7, 0.3])
    return Candidates(rows=np.arange(3), relevance=relevance, bm25=np.array(bm25))


def test_the_method_ranks_by_score_with_ties_to_the_first_row():
    picks = Bm25().select(candidates([1.0, 0.0, 1.0]), 3, RNG)
    assert picks.indices.tolist() == [0, 2, 1]
    assert picks.scores.tolist() == [1.0, 1.0, 0.0]
    assert picks.diagnostics == {"filled": 1}
    assert Bm25().select(candidates([1.0, 0.0, 1.0]), 2, RNG).diagnostics == {}


@settings(max_examples=60)
@given(found=candidate_sets(), k=st.integers(1, 15))
def test_where_words_do_not_suffice_the_most_similar_follow(found, k):
    picks = Bm25().select(found, k, RNG)
    if found.bm25.any():
        expected = sorted(
            range(len(found)),
            key=lambda i: (-found.bm25[i], -found.relevance[i] if found.bm25[i] == 0 else 0, i),
        )
        assert picks.indices.tolist() == expected[:k]
        assert picks.scores.tolist() == picks.gains.tolist() == found.bm25[expected[:k]].tolist()
        missing = min(k, len(found)) - np.count_nonzero(found.bm25)
        assert picks.diagnostics == ({"filled": missing} if missing > 0 else {})
    else:
        assert picks.indices.tolist() == oracles.top_k(found.relevance, k)


def test_a_query_of_unknown_words_is_served_by_similarity():
    picks = Bm25().select(candidates([0.0, 0.0, 0.0]), 2, RNG)
    assert picks.indices.tolist() == [1, 2]
    assert picks.scores.tolist() == [0.7, 0.3]
    assert picks.diagnostics == {"fallback": "similarity"}
