import logging
import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import numpy as np
import pytest

from kshot.clients.embedders.openai_compatible import MAX_CHARACTERS, OpenAiCompatibleEmbedder
from kshot.errors import EmbedderUnavailable, InvalidInput, InvalidParameter
from tests.test_clients.fake_endpoint import DIMENSION, FakeEndpoint, vector_of

KEY = "sk-very-secret-4711"


@pytest.fixture
def endpoint():
    fake = FakeEndpoint()
    yield fake
    fake.close()


@pytest.fixture
def waits():
    return []


@pytest.fixture
def embedder(endpoint, waits):
    subject = OpenAiCompatibleEmbedder(endpoint.base_url, "fake", api_key=KEY, sleep=waits.append)
    yield subject
    subject.close()


def good(*texts, dimension=DIMENSION):
    return {"data": [{"index": i, "embedding": vector_of(t, dimension)} for i, t in enumerate(texts)]}


def test_rows_follow_the_index_and_are_normalised(endpoint, embedder):
    texts = ["one", "two", "three"]
    vectors = embedder.encode(texts, token_layer=None).vectors
    wanted = np.array([vector_of(text) for text in texts])
    np.testing.assert_allclose(vectors, wanted / np.linalg.norm(wanted, axis=1, keepdims=True), atol=1e-6)
    assert endpoint.requests == [{"model": "fake", "input": texts, "encoding_format": "float"}]
    assert endpoint.authorizations == [f"Bearer {KEY}"]


def test_no_key_sends_no_authorization(endpoint):
    embedder = OpenAiCompatibleEmbedder(endpoint.base_url, "fake")
    embedder.encode(["a"], token_layer=None)
    embedder.close()
    assert endpoint.authorizations == [None]


def test_the_dimension_is_learned_from_the_first_answer(embedder):
    assert embedder.dimension is None
    embedder.encode(["a"], token_layer=None)
    assert embedder.dimension == DIMENSION


def test_the_dimension_asked_for_is_sent_and_part_of_the_fingerprint(endpoint, embedder):
    short = OpenAiCompatibleEmbedder(endpoint.base_url, "fake", dimensions=3)
    assert short.dimension == 3
    assert short.encode(["a"], token_layer=None).vectors.shape == (1, 3)
    short.close()
    assert endpoint.requests[0]["dimensions"] == 3
    assert short.fingerprint != embedder.fingerprint


def test_many_texts_are_sent_in_batches(endpoint):
    embedder = OpenAiCompatibleEmbedder(endpoint.base_url, "fake", batch_size=4)
    texts = [f"text {i}" for i in range(10)]
    together = embedder.encode(texts, token_layer=None).vectors
    embedder.close()
    assert [len(request["input"]) for request in endpoint.requests] == [4, 4, 2]
    wanted = np.array([vector_of(text) for text in texts])
    np.testing.assert_allclose(together, wanted / np.linalg.norm(wanted, axis=1, keepdims=True), atol=1e-6)


def test_an_empty_text_is_sent_as_a_space(endpoint, embedder):
    assert embedder.encode([""], token_layer=None).vectors.shape == (1, DIMENSION)
    assert endpoint.requests[0]["input"] == [" "]


def test_a_long_text_is_cut_and_flagged(endpoint, embedder):
    texts = ["x" * MAX_CHARACTERS, "x" * (MAX_CHARACTERS + 1)]
    assert embedder.encode(texts, token_layer=None).truncated.tolist() == [False, True]
    assert {len(text) for text in endpoint.requests[0]["input"]} == {MAX_CHARACTERS}


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504])
def test_a_passing_failure_is_tried_again_with_growing_waits(endpoint, embedder, waits, status):
    endpoint.then(status)
    endpoint.then(status)
    embedder.encode(["a"], token_layer=None)
    assert waits == [0.5, 1.0]
    assert len(endpoint.requests) == 3


def test_a_lasting_failure_is_given_up_after_four_attempts(endpoint, embedder, waits):
    for _ in range(5):
        endpoint.then(503)
    with pytest.raises(EmbedderUnavailable, match="after 4 attempts: status 503"):
        embedder.encode(["a"], token_layer=None)
    assert waits == [0.5, 1.0, 2.0]
    assert len(endpoint.requests) == 4


def test_the_wait_the_endpoint_names_is_kept_up_to_a_limit(endpoint, embedder, waits):
    endpoint.then(429, headers={"Retry-After": "3"})
    endpoint.then(429, headers={"Retry-After": "86400"})
    endpoint.then(429, headers={"Retry-After": "soon"})
    embedder.encode(["a"], token_layer=None)
    assert waits == [3.0, 20.0, 2.0]


def test_the_wait_may_be_named_as_a_date(endpoint, embedder, waits):
    endpoint.then(503, headers={"Retry-After": format_datetime(datetime.now(UTC) + timedelta(seconds=9))})
    embedder.encode(["a"], token_layer=None)
    assert len(waits) == 1
    assert 1.0 < waits[0] <= 9.0


def test_an_endpoint_that_is_not_there_is_unavailable(waits):
    with socket.socket() as placeholder:
        placeholder.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{placeholder.getsockname()[1]}/v1"
        embedder = OpenAiCompatibleEmbedder(url, "fake", sleep=waits.append)
        with pytest.raises(EmbedderUnavailable, match="ConnectError"):
            embedder.encode(["a"], token_layer=None)
        embedder.close()
    assert len(waits) == 3


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_input_is_the_callers_fault_and_not_tried_again(endpoint, embedder, status):
    endpoint.then(status, {"error": {"code": "too_long", "message": "you sent: private text"}})
    with pytest.raises(InvalidInput, match=rf"status {status} \(too_long\)$"):
        embedder.encode(["private text"], token_layer=None)
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize("status", [301, 401, 403, 404])
def test_a_wrong_key_or_address_is_unavailable_and_not_tried_again(endpoint, embedder, status):
    endpoint.then(status, {"error": {"code": f"bad key {KEY}"}})
    with pytest.raises(EmbedderUnavailable, match=rf"status {status}$"):
        embedder.encode(["a"], token_layer=None)
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"not json",
        b"[" * 100_000,
        b"[]",
        b"{}",
        b'{"data": {}}',
        b'{"data": [null]}',
        b'{"data": [{"index": 0}]}',
        b'{"data": [{"index": 0, "embedding": "private text"}]}',
        b'{"data": [{"index": 0, "embedding": [0, 0]}]}',
        b'{"data": [{"index": 0, "embedding": [1, NaN]}]}',
        b'{"data": [{"index": 0, "embedding": [1, 1e999]}]}',
        b'{"data": [{"index": 0, "embedding": [1, 1' + b"0" * 400 + b"]}]}",
        b'{"data": [{"index": 0, "embedding": [1, null]}]}',
        b'{"data": [{"index": 0, "embedding": [[1, 2]]}]}',
        b'{"data": [{"index": 1, "embedding": [1, 2]}]}',
        b'{"data": [{"index": [], "embedding": [1, 2]}]}',
        b'{"data": [{"index": 0, "embedding": [1, 2]}, {"index": 0, "embedding": [1, 2]}]}',
        b'{"data": [{"index": 0, "embedding": [1, 2]}, {"index": 1, "embedding": [1, 2]}]}',
    ],
)
def test_a_malformed_answer_is_unavailable_and_not_quoted(endpoint, embedder, answer):
    endpoint.then(200, answer)
    with pytest.raises(EmbedderUnavailable, match="malformed") as caught:
        embedder.encode(["a"], token_layer=None)
    assert "private" not in str(caught.value)
    assert len(endpoint.requests) == 1


def test_rows_of_unequal_length_are_malformed(endpoint, embedder):
    endpoint.then(200, {"data": [{"index": 0, "embedding": [1, 2]}, {"index": 1, "embedding": [1]}]})
    with pytest.raises(EmbedderUnavailable, match="malformed"):
        embedder.encode(["a", "b"], token_layer=None)


def test_an_empty_embedding_is_refused(endpoint, embedder):
    endpoint.then(200, {"data": [{"index": 0, "embedding": []}]})
    with pytest.raises(EmbedderUnavailable, match="gave 0 dimensions, wanted 1"):
        embedder.encode(["a"], token_layer=None)


def test_an_answer_that_cannot_be_unpacked_is_tried_again(endpoint, embedder, waits):
    endpoint.then(200, b"not gzip", headers={"Content-Encoding": "gzip"})
    assert len(embedder.encode(["a"], token_layer=None)) == 1
    assert waits == [0.5]


def test_a_changed_dimension_is_refused(endpoint, embedder):
    embedder.encode(["a"], token_layer=None)
    endpoint.then(200, good("a", dimension=5))
    with pytest.raises(EmbedderUnavailable, match=f"gave 5 dimensions, wanted {DIMENSION}"):
        embedder.encode(["a"], token_layer=None)


def test_neither_key_nor_text_is_logged_or_shown(endpoint, embedder, caplog):
    caplog.set_level(logging.DEBUG)
    endpoint.then(500, {"error": {"code": f"x {KEY}", "message": "private text"}})
    endpoint.then(401, {"error": {"code": f"x {KEY}", "message": "private text"}})
    with pytest.raises(EmbedderUnavailable) as caught:
        embedder.encode(["private text"], token_layer=None)
    shown = " ".join([caplog.text, str(caught.value), repr(embedder), repr(vars(embedder))])
    assert KEY not in shown
    assert "private" not in shown
    assert endpoint.base_url in repr(embedder)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/v1",
        "host/v1",
        "",
        "http://",
        "http://user:pass@host/v1",
        "http://host/v1?key=1",
        "http://host/v1#x",
        "http://[::1",
        "http://host:70000/v1",
    ],
)
def test_a_base_url_must_be_plain(url):
    with pytest.raises(InvalidParameter, match="base_url"):
        OpenAiCompatibleEmbedder(url, "fake")


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "schlüssel", ""])
def test_a_key_that_cannot_be_a_header_is_refused_without_quoting_it(key):
    with pytest.raises(InvalidParameter, match=r"^api_key must be printable ASCII without spaces$"):
        OpenAiCompatibleEmbedder("http://host", "fake", api_key=key)


def test_a_batch_size_below_one_is_refused():
    with pytest.raises(InvalidParameter, match="batch_size is 0, allowed >= 1"):
        OpenAiCompatibleEmbedder("http://host", "fake", batch_size=0)
