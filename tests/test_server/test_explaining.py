"""Which demonstration covers which part of a query, computed by hand."""

from typing import Any

import numpy as np
import pytest

from kshot.index.candidates import QueryFeatures
from kshot.index.tokens import TokenPart, TokenView
from kshot.server.services.explaining import COVERED_FROM, coverage

EAST, NORTH, BETWEEN = [1.0, 0.0], [0.0, 1.0], [0.6, 0.8]
TEXT = "big red dog"
SPANS = [[0, 3], [4, 7], [8, 11]]


def query(tokens: list[list[float]], text: str = TEXT, spans: Any = None) -> QueryFeatures:
    vectors = np.array(tokens, np.float32).reshape(len(tokens), 2)
    positions = np.array(SPANS if spans is None else spans, np.int32).reshape(len(tokens), 2)
    return QueryFeatures(None, vectors, text, positions)


def pool(*rows: list[list[float]]) -> TokenView:
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    return TokenView([TokenPart(np.array([token for row in rows for token in row], np.float16), offsets)])


THREE = pool([EAST], [NORTH], [[0.8, 0.6], [-1.0, 0.0]])


def spans_of(found: Any) -> dict[str, list[str]]:
    return {one.id: [span.text for span in one.spans] for one in found.demonstrations}


def test_every_token_is_matched_with_every_demonstration():
    found = coverage(THREE, query([EAST, NORTH, BETWEEN]), [2, 0, 1], ["c", "a", "b"])
    assert found is not None
    assert {one.id: one.scores for one in found.demonstrations} == {
        "c": [0.8, 0.6, 0.96],
        "a": [1.0, 0.0, 0.6],
        "b": [0.0, 1.0, 0.8],
    }
    assert [one.id for one in found.demonstrations] == ["c", "a", "b"], "in prompt order"
    assert [(token.start, token.end, token.text) for token in found.tokens] == [
        (0, 3, "big"),
        (4, 7, "red"),
        (8, 11, "dog"),
    ]
    assert [(token.best_id, token.similarity, token.covered) for token in found.tokens] == [
        ("a", 1.0, True),
        ("b", 1.0, True),
        ("c", 0.96, True),
    ]
    assert [token.weight for token in found.tokens] == [0.333333] * 3
    assert spans_of(found) == {"c": ["dog"], "a": ["big"], "b": ["red"]}
    assert (found.text, found.covered_share, found.covered_from) == (TEXT, 1.0, COVERED_FROM)


def test_neighbouring_tokens_of_one_demonstration_are_one_span():
    found = coverage(THREE, query([EAST, EAST, NORTH]), [0, 1], ["a", "b"])
    assert found is not None
    (both,) = found.demonstrations[0].spans
    assert (both.start, both.end, both.text) == (0, 7, "big red")
    apart = coverage(THREE, query([EAST, NORTH, EAST]), [0, 1], ["a", "b"])
    assert spans_of(apart) == {"a": ["big", "dog"], "b": ["red"]}


def test_what_nobody_matches_is_not_covered():
    found = coverage(THREE, query([EAST, NORTH, [0.0, -1.0]]), [0], ["a"])
    assert found is not None
    assert [(token.similarity, token.covered) for token in found.tokens] == [
        (1.0, True),
        (0.0, False),
        (0.0, False),
    ]
    assert found.covered_share == 0.333
    assert spans_of(found) == {"a": ["big"]}


@pytest.mark.parametrize(("cosine", "is_covered"), [(0.59, False), (0.6, True), (0.61, True)])
def test_a_token_is_covered_from_the_threshold_on(cosine: float, is_covered: bool):
    token = [cosine, (1 - cosine**2) ** 0.5]
    found = coverage(THREE, query([token], "big", [[0, 3]]), [0], ["a"])
    assert found is not None
    assert [(one.similarity, one.covered) for one in found.tokens] == [(cosine, is_covered)]
    assert found.covered_share == float(is_covered)


def test_of_equally_good_demonstrations_the_first_is_the_best():
    twins = pool([EAST], [EAST])
    found = coverage(twins, query([EAST], "big", [[0, 3]]), [1, 0], ["second", "first"])
    assert found is not None
    assert found.tokens[0].best_id == "second"
    assert spans_of(found) == {"second": ["big"], "first": []}


def test_pieces_of_words_stay_pieces():
    found = coverage(THREE, query([EAST, NORTH], "bigger", [[0, 3], [3, 6]]), [0, 1], ["a", "b"])
    assert found is not None
    assert [token.text for token in found.tokens] == ["big", "ger"]


def test_a_query_without_tokens_has_an_empty_coverage():
    found = coverage(THREE, query([], "", []), [0, 1], ["a", "b"])
    assert found is not None
    assert (found.tokens, found.covered_share) == ([], 0.0)
    assert [(one.scores, one.spans) for one in found.demonstrations] == [([], []), ([], [])]


@pytest.mark.parametrize("lacking", ["demonstrations", "pool", "tokens", "spans", "text"])
def test_without_token_vectors_or_demonstrations_there_is_none(lacking: str):
    parts: dict[str, Any] = {
        "tokens": np.array([EAST], np.float32),
        "spans": np.array([[0, 3]], np.int32),
        "text": "big",
    }
    parts[lacking] = None
    features = QueryFeatures(None, parts["tokens"], parts["text"], parts["spans"])
    rows, ids = ([], []) if lacking == "demonstrations" else ([0], ["a"])
    assert coverage(None if lacking == "pool" else THREE, features, rows, ids) is None
