"""Input that is wrong in every way we could think of: named by field, and never a failure of the server."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.test_server.live import NDJSON, Live, LivePool, pointers, the_problem, tickets

JSON = {"Content-Type": "application/json"}
MEGABYTE = "x" * 2**20


@pytest.fixture(scope="module")
def corpus(live: Live) -> LivePool:
    pool = live.create("bad-input")
    pool.add(tickets(10))
    return pool


@pytest.mark.parametrize(
    ("body", "pointer", "said"),
    [
        ({}, "/inputs", "is missing"),
        ({"inputs": ""}, "/inputs", "is empty"),
        ({"inputs": " \n\t "}, "/inputs", "is empty"),
        ({"inputs": {}}, "/inputs", "has no field"),
        ({"inputs": {"a": " ", "b": None}}, "/inputs", "is empty"),
        ({"inputs": 3}, "/inputs", "received 3, allowed text or an object"),
        ({"inputs": ["a"]}, "/inputs", "received an array of 1"),
        ({"inputs": None}, "/inputs", "is missing"),
        ({"inputs": MEGABYTE}, "/inputs", "1048576 characters, allowed at most 262144"),
        ({"inputs": {"a": MEGABYTE}}, "/inputs/a", "1048576 characters, allowed at most 262144"),
        ({"inputs": {"x" * 300: "a"}}, f"/inputs/{'x' * 256}", "at most 256"),
        ({"inputs": {str(i): "a" for i in range(300)}}, "/inputs", "300 items, allowed at most 256"),
        ({"inputs": "a", "k": 0}, "/k", "received 0, allowed >= 1"),
        ({"inputs": "a", "k": -3}, "/k", "received -3, allowed >= 1"),
        ({"inputs": "a", "k": 1001}, "/k", "received 1001, allowed <= 1000"),
        ({"inputs": "a", "k": 2.5}, "/k", "an integer"),
        ({"inputs": "a", "k": "8"}, "/k", "received '8', allowed an integer"),
        ({"inputs": "a", "k": True}, "/k", "received true, allowed an integer"),
        ({"inputs": "a", "max_tokens": 0}, "/max_tokens", ">= 1"),
        ({"inputs": "a", "min_score": 2}, "/min_score", "<= 1"),
        ({"inputs": "a", "seed": -1}, "/seed", ">= 0"),
        ({"inputs": "a", "seed": 2**63}, "/seed", "<= 9223372036854775807"),
        ({"inputs": "a", "stable": {"k": 0}}, "/stable/k", ">= 1"),
        ({"inputs": "a", "stable": 3}, "/stable", "an object"),
        ({"inputs": "a", "explain": "yes"}, "/explain", "true or false"),
        ({"inputs": "a", "colour": 1}, "/colour", "allowed: inputs, vector"),
        ({"inputs": "a", "exclude": {"id": ["a"]}}, "/exclude/id", "allowed: ids"),
        ({"inputs": "a", "exclude": {"ids": "a"}}, "/exclude/ids", "an array"),
        ({"inputs": "a", "method": 3}, "/method", "text"),
        ({"inputs": "a", "method": {"name": "mmr"}}, "/method/type", "is missing"),
        ({"inputs": "a", "filter": {"field": "colour", "eq": 1}}, "/filter/field", "metadata.<name>"),
        ({"inputs": "a", "filter": {"field": "label"}}, "/filter", "allowed comparisons: eq"),
        ({"inputs": "a", "filter": {"field": "label", "like": "x"}}, "/filter/like", "allowed: field, eq"),
        ({"inputs": "a", "filter": []}, "/filter", "an object"),
        ({"inputs": "a", "filter": {"all": {}}}, "/filter/all", "an array"),
    ],
)
def test_a_refused_query_names_the_field_and_what_is_allowed(
    body: dict[str, Any], pointer: str, said: str, corpus: LivePool
):
    for path in ("/select", "/render") if body.get("inputs") else ("/select",):
        problem = corpus.problem(path, body)
        assert pointers(problem) == [pointer]
        assert said in problem["errors"][0]["message"]
        assert len(problem["detail"]) < 2000


@pytest.mark.parametrize(
    ("row", "pointer", "said"),
    [
        ({"inputs": ""}, "/inputs", "is empty"),
        ({"inputs": "  "}, "/inputs", "is empty"),
        ({"outputs": "x"}, "/inputs", "is missing"),
        ({"inputs": 1}, "/inputs", "text or an object"),
        ({"inputs": MEGABYTE}, "/inputs", "allowed at most 262144"),
        ({"inputs": "a", "outputs": MEGABYTE}, "/outputs", "allowed at most 262144"),
        ({"inputs": "a", "outputs": 1}, "/outputs", "text or an object"),
        ({"inputs": "a", "outputs": []}, "/outputs", "text or an object"),
        ({"inputs": "a", "metadata": []}, "/metadata", "an object"),
        ({"inputs": "a", "metadata": {"a": json.loads("[" * 17 + "]" * 17)}}, "/metadata", "16 levels"),
        ({"inputs": "a", "metadata": {str(i): i for i in range(257)}}, "/metadata", "257 items"),
        ({"inputs": "a", "split": 1}, "/split", "text"),
        ({"inputs": "a", "split": ""}, "/split", "at least 1"),
        ({"inputs": "a", "status": "published"}, "/status", "'draft', 'approved', 'retired'"),
        ({"inputs": "a", "status": "approved"}, "/outputs", "only drafts"),
        ({"inputs": "a", "group": "x" * 257}, "/group", "allowed at most 256"),
        ({"id": "", "inputs": "a"}, "/id", "at least 1"),
        ({"id": 7, "inputs": "a"}, "/id", "received 7, allowed text"),
        ({"inputs": "a", "label": "x"}, "/label", "allowed: id, inputs"),
        ("just text", "", "an object"),
        (None, "", "an object"),
        ([], "", "an object"),
    ],
)
def test_a_refused_row_names_the_field_and_stops_no_other(
    row: Any, pointer: str, said: str, corpus: LivePool
):
    good = tickets(2)
    reply = corpus.add([good[0], row, good[1]])
    assert (reply["accepted"], reply["unchanged"]) == (2, 2)
    (rejected,) = reply["rejected"]
    assert (rejected["line"], rejected["pointer"]) == (2, pointer)
    assert said in rejected["message"]
    problem = the_problem(corpus.request("POST", "/examples", {"examples": [row]}))
    assert pointers(problem) == [f"/examples/0{pointer}"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b'{"inputs": "\xc3"}',
        b'{"inputs": "\\ud800"}',
        b'{"inputs": "a\\u0000b"}',
        b"nul",
        b'{"inputs": "a", "min_score": NaN}',
        b"[" * 5000,
        b'{"inputs": "a", "k": 1e999}',
    ],
)
@pytest.mark.parametrize(
    "path", ["/select", "/search", "/render", "/examples", "/examples:delete", "/select:batch"]
)
def test_what_is_no_json_is_refused(path: str, content: bytes, corpus: LivePool):
    assert the_problem(corpus.request("POST", path, content=content, headers=JSON))


def test_an_upload_of_nothing_but_rubbish_is_answered(corpus: LivePool):
    body = b"\n".join(
        [b"\xff", b"{", b"[]", b"3", b'{"inputs": "\\ud800"}', b"\x00", b'{"inputs": "a", "a": NaN}']
    )
    response = corpus.request("POST", "/examples", content=body, headers=NDJSON)
    (reply,) = [json.loads(line) for line in response.text.splitlines()]
    assert (reply["accepted"], reply["upto_line"]) == (0, 7)
    assert [one["line"] for one in reply["rejected"]] == [1, 2, 3, 4, 5, 6, 7]


def test_a_set_larger_than_the_pool_is_the_pool(corpus: LivePool):
    chosen = corpus.select(k=1000)
    assert len(chosen["demonstrations"]) == 10
    assert [one["code"] for one in chosen["warnings"]] == ["fewer_than_k"]


def test_the_longest_texts_are_served(live: Live):
    pool = live.create("long")
    longest = "a " * 131_072
    reply = pool.add([{"id": "a", "inputs": longest, "outputs": longest, "metadata": {"x": "y" * 1_000_000}}])
    assert reply["accepted"] == 1
    assert pool.select(longest)["demonstrations"][0]["inputs"] == longest


scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from(
    [
        "id",
        "inputs",
        "outputs",
        "metadata",
        "split",
        "status",
        "subject_id",
        "group",
        "vector",
        "k",
        "method",
        "filter",
        "exclude",
        "max_tokens",
        "min_score",
        "order",
        "stable",
        "seed",
        "explain",
        "packing",
        "type",
    ]
)


@given(body=st.dictionaries(names, values, max_size=5), inputs=st.text())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_json_makes_the_server_fail(body: dict[str, Any], inputs: str, corpus: LivePool):
    for path in ("/select", "/render", "/search", "/examples:delete"):
        for content in ({"inputs": inputs, **body}, body):
            response = corpus.request("POST", path, content=json.dumps(content).encode(), headers=JSON)
            assert response.status_code in {200, 409, 422}, response.text


@given(rows=st.lists(st.dictionaries(names, values, max_size=5) | values, min_size=1, max_size=4))
@settings(max_examples=40)
def test_no_row_makes_the_server_fail(rows: list[Any], rubbish: LivePool):
    response = rubbish.request("POST", "/examples", content=json.dumps(rows).encode(), headers=JSON)
    assert response.status_code in {200, 422}, response.text
    if response.status_code == 200:
        reply = response.json()
        lines = {one["line"] for one in reply["rejected"]} | {
            one["line"] for one in reply["notices"] if one["code"] == "duplicate_id"
        }
        assert reply["accepted"] + len(lines) == len(rows)


@pytest.fixture(scope="module")
def rubbish(live: Live) -> LivePool:
    return live.create("rubbish")


def test_whatever_was_accepted_can_be_selected_and_listed(rubbish: LivePool):
    rubbish.add(
        [{"inputs": {"a": 10**300, "b": [[]], "": "x"}, "outputs": {"c": None, "d": 1e-320}}, *tickets(1)]
    )
    rubbish.indexed()
    stats = rubbish.stats()
    assert stats["pending"] == 0
    assert len(rubbish.listed()) == stats["examples"]
    anything = {"field": "status", "exists": True}
    assert len(rubbish.select(k=1000, filter=anything)["demonstrations"]) == min(1000, stats["examples"])
