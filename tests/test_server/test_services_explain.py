"""`explain` over the real service: the coverage of the query by words."""

from typing import Any

import pytest

from kshot.clients.embedders.hashing import HashingEmbedder
from tests.test_server.live import UNSCORED, Live, LivePool, codes, ids, tickets

QUERY = "my Parcel, please"


@pytest.fixture(scope="module")
def parcels(live: Live) -> LivePool:
    pool = live.create("parcels")
    pool.add(
        [
            {"id": "a", "inputs": "where is my parcel", "outputs": "delivery"},
            {"id": "b", "inputs": "please, refund", "outputs": "returns"},
            {"id": "c", "inputs": "nothing alike", "outputs": "other"},
        ]
    )
    return pool


def best_cosines(query: str, text: str) -> list[float]:
    """For every word of the query, the cosine of the nearest token of a text, markers included."""
    embedder = HashingEmbedder()
    one, other = (embedder.encode([each], token_layer=1) for each in (query, text))
    assert one.tokens is not None
    assert one.special is not None
    assert other.tokens is not None
    stored = other.tokens.astype("float16").astype("float64")
    cosines: list[float] = (one.tokens[~one.special].astype("float64") @ stored.T).max(axis=1).tolist()
    return cosines


def test_shared_words_are_covered_by_the_demonstration_that_has_them(parcels: LivePool):
    chosen = parcels.select(QUERY, k=2, method="similarity", order="nearest_last", explain=True)
    assert ids(chosen) == ["a", "b"]
    found = chosen["explain"]["coverage"]
    assert found["text"] == QUERY
    assert [(token["text"], token["start"], token["end"]) for token in found["tokens"]] == [
        ("my", 0, 2),
        ("Parcel", 3, 9),
        (",", 9, 10),
        ("please", 11, 17),
    ]
    assert [(token["best_id"], token["similarity"], token["covered"]) for token in found["tokens"]] == [
        ("a", 1.0, True),
        ("a", 1.0, True),
        ("b", 1.0, True),
        ("b", 1.0, True),
    ]
    assert [(one["id"], [span["text"] for span in one["spans"]]) for one in found["demonstrations"]] == [
        ("a", ["my Parcel"]),
        ("b", [", please"]),
    ]
    assert found["covered_share"] == 1.0
    assert sum(token["weight"] for token in found["tokens"]) == pytest.approx(1.0)


@pytest.mark.parametrize("method", UNSCORED)
def test_every_method_is_explained_by_the_same_cosines(method: str, parcels: LivePool):
    chosen = parcels.select(QUERY, k=3, method=method, explain=True)
    found = chosen["explain"]["coverage"]
    assert [one["id"] for one in found["demonstrations"]] == ids(chosen)
    for shown, one in zip(chosen["demonstrations"], found["demonstrations"], strict=True):
        assert one["scores"] == pytest.approx(best_cosines(QUERY, shown["inputs"]), abs=6e-4)


def test_the_relevance_by_tokens_is_the_weighted_sum(parcels: LivePool):
    chosen = parcels.select(QUERY, k=3, method="bsr", explain=True)
    found = chosen["explain"]["coverage"]
    for shown, one in zip(chosen["demonstrations"], found["demonstrations"], strict=True):
        weighted = [
            token["weight"] * score for token, score in zip(found["tokens"], one["scores"], strict=True)
        ]
        assert shown["score"] == pytest.approx(sum(weighted), abs=1e-3)


def test_positions_are_those_of_the_embedded_text(live: Live):
    pool = live.create("templated", embed_template="Q: {{ inputs.subject }}")
    pool.add([{"id": "a", "inputs": {"subject": "lamp", "body": "x"}, "outputs": "o"}])
    found = pool.select({"subject": "lamp", "body": "long"}, explain=True)["explain"]["coverage"]
    assert found["text"] == "Q: lamp"
    assert [token["text"] for token in found["tokens"]] == ["Q", ":", "lamp"]
    assert all(found["text"][token["start"] : token["end"]] == token["text"] for token in found["tokens"])


def test_a_sticky_set_is_explained_for_the_query_itself(pool: LivePool):
    pool.add(tickets(20))
    found = pool.select(QUERY, k=2, sticky={"clusters": 3}, explain=True)["explain"]["coverage"]
    assert found["text"] == QUERY


def test_the_stable_part_is_covered_too_and_what_was_dropped_is_not(pool: LivePool):
    pool.add(tickets(20))
    chosen = pool.select(QUERY, k=6, stable={"k": 2}, max_tokens=60, explain=True)
    assert "max_tokens" in codes(chosen)
    assert chosen["demonstrations"][0]["part"] == "stable"
    covered = [one["id"] for one in chosen["explain"]["coverage"]["demonstrations"]]
    assert covered == ids(chosen)


def test_without_demonstrations_or_token_vectors_there_is_no_coverage(parcels: LivePool, live: Live):
    assert parcels.select(QUERY, min_score=1.0, explain=True)["explain"]["coverage"] is None
    own: Any = live.create("external", embedder={"type": "external", "dimension": 2})
    own.add([{"id": "a", "inputs": "a", "outputs": "b", "vector": [1.0, 0.0]}])
    chosen = own.select("a", vector=[1.0, 0.0], method="similarity", explain=True)
    assert (ids(chosen), chosen["explain"]["coverage"]) == (["a"], None)


def test_nothing_is_explained_that_was_not_asked_for(parcels: LivePool):
    assert parcels.select(QUERY)["explain"] is None
