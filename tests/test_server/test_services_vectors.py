"""Pools whose vectors the caller brings, and pools whose embedder gives no token vectors."""

from uuid import uuid4

import numpy as np
import pytest

from kshot.arrays import unit_rows
from kshot.errors import InvalidShape
from tests.test_server.live import (
    UNSCORED,
    GatedEndpoint,
    Live,
    LivePool,
    codes,
    ids,
    pointers,
    the_problem,
    tickets,
)

TOKEN_METHODS = {"bsr", "set_bsr"}
LEXICAL_METHODS = {"bm25", "hybrid", "set_bm25", "structural"}
DIFFICULTY_METHODS = {"cds"}


def row(example_id, vector, **fields):
    return {"id": example_id, "inputs": f"text {example_id}", "outputs": "x", "vector": vector, **fields}


def four_directions(live: Live, name: str) -> LivePool:
    made = live.create(name, embedder={"type": "external", "dimension": 2})
    made.add([row("east", [2, 0]), row("north", [0, 0.1]), row("west", [-1, 0]), row("south", [0, -3])])
    return made


@pytest.fixture(scope="module")
def plane(live: Live) -> LivePool:
    """Four examples on the axes of a plane, only to be read."""
    return four_directions(live, "plane")


@pytest.fixture
def own_plane(live: Live) -> LivePool:
    """The same for one test."""
    return four_directions(live, f"plane-{uuid4().hex}")


def test_similarity_is_the_cosine_whatever_the_lengths(plane: LivePool):
    chosen = plane.select(None, vector=[3, 4], method="similarity", order="nearest_first", k=4)
    assert ids(chosen) == ["north", "east", "west", "south"]
    similarities = [one["similarity"] for one in chosen["demonstrations"]]
    assert similarities == pytest.approx([0.8, 0.6, -0.6, -0.8], abs=1e-6)
    assert [one["score"] for one in chosen["demonstrations"]] == pytest.approx(similarities)


@pytest.mark.parametrize(
    ("vector", "said", "code"),
    [
        ([1.0], "received 1 numbers, allowed 2", "dimension_mismatch"),
        ([1.0, 2, 3], "received 3 numbers, allowed 2", "dimension_mismatch"),
        ([], "0 items, allowed at least 1", "range"),
        ([0, 0], "length zero", "invalid"),
        (["a", 1], "received 'a', allowed a number", "type"),
        ([True, 1], "received true, allowed a number", "type"),
        ({"x": 1}, "received an object, allowed an array", "type"),
        ("1,2", "received '1,2', allowed an array", "type"),
    ],
)
def test_vectors_without_a_direction_in_the_pool_are_refused(
    vector: object, said: str, code: str, own_plane: LivePool
):
    reply = own_plane.add([row("good", [1, 1]), row("bad", vector)])
    assert reply["ids"] == ["good"]
    (rejected,) = reply["rejected"]
    assert rejected["pointer"].startswith("/vector")
    assert rejected["code"] == code
    assert said in rejected["message"]

    problem = the_problem(
        own_plane.request("POST", "/select", {"vector": vector}), 409 if code == "dimension_mismatch" else 422
    )
    assert problem["errors"][0]["pointer"] == rejected["pointer"]
    assert said in problem["errors"][0]["message"]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none_are_refused(number: str, plane: LivePool):
    content = f'{{"vector": [1, {number}]}}'.encode()
    headers = {"Content-Type": "application/json"}
    assert the_problem(plane.request("POST", "/select", content=content, headers=headers))
    rows = f'[{{"inputs": "a", "outputs": "b", "vector": [1, {number}]}}]'.encode()
    assert the_problem(plane.request("POST", "/examples", content=rows, headers=headers))
    assert plane.info()["examples"] == 4


@pytest.mark.parametrize("scale", [1e308, 1e200, 1e-200, 5e-324])
def test_vectors_may_be_as_long_as_numbers_go(scale: float, own_plane: LivePool):
    assert own_plane.add([row("diagonal", [scale, scale])])["accepted"] == 1
    chosen = own_plane.select(None, vector=[scale, scale], method="similarity", k=1)
    assert ids(chosen) == ["diagonal"]
    assert chosen["demonstrations"][0]["similarity"] == pytest.approx(1.0)


def test_unit_rows_of_any_length_are_exact():
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((20, 5))
    plain = (matrix / np.linalg.norm(matrix, axis=1)[:, None]).astype(np.float32)
    for exponent in (-1000, -30, 0, 30, 1000):
        assert np.array_equal(unit_rows(np.ldexp(matrix, exponent)), plain)
    with pytest.raises(InvalidShape, match="row 1 has length zero"):
        unit_rows([[1, 0], [0, 0]])


def test_a_vector_is_demanded_of_every_example(own_plane: LivePool):
    reply = own_plane.add([row("good", [1, 1]), {"inputs": "a", "outputs": "b"}])
    (rejected,) = reply["rejected"]
    assert (rejected["line"], rejected["pointer"], rejected["code"]) == (2, "/vector", "missing")


def test_a_new_vector_is_an_update(own_plane: LivePool):
    assert own_plane.add([row("east", [4, 0])])["unchanged"] == 1
    assert own_plane.add([row("east", [0, -1])])["updated"] == 1
    assert ids(own_plane.select(None, vector=[0, -1], method="similarity", k=2)) == ["south", "east"]
    own_plane.request("PATCH", "/examples/east", {"vector": [1, 0]})
    own_plane.indexed()
    assert ids(own_plane.select(None, vector=[1, 0], method="similarity", k=1)) == ["east"]
    problem = the_problem(own_plane.request("PATCH", "/examples/east", {"vector": [1, 0, 0]}), 409)
    assert pointers(problem) == ["/vector"]


def test_vectors_are_refused_where_texts_are_embedded_here(pool: LivePool):
    reply = pool.add([{"id": "a", "inputs": "x", "outputs": "y"}, row("b", [1.0])])
    assert reply["ids"] == ["a"]
    assert "embedder is hashing" in reply["rejected"][0]["message"]
    for body in ({"vector": [1.0]}, {"inputs": "a", "vector": [1.0]}):
        assert pointers(the_problem(pool.request("POST", "/select", body))) == ["/vector"]
        assert pointers(the_problem(pool.request("POST", "/search", body))) == ["/vector"]


def test_the_default_method_goes_without_token_vectors_and_says_so(plane: LivePool):
    chosen = plane.select(None, vector=[2, 1], k=2)
    assert chosen["method"] == "fused"
    assert ids(chosen) == ["north", "east"]
    assert codes(chosen) == ["signal_absent"]
    stored = plane.live.http.get(f"/v1/selections/{chosen['selection_id']}").json()
    assert stored["request"]["params"]["bsr"] == 0


@pytest.mark.parametrize("method", UNSCORED)
def test_every_method_with_a_vector_alone(method: str, plane: LivePool):
    body = {"vector": [1, 0.1], "method": method, "k": 2}
    refused = TOKEN_METHODS | LEXICAL_METHODS | DIFFICULTY_METHODS
    if method in refused:
        problem = the_problem(plane.request("POST", "/select", body))
        assert pointers(problem) == ["/method"]
        assert f"{method!r} needs" in problem["detail"]
        allowed = problem["detail"].split("work here: ")[1].split(", ")
        assert set(allowed) == set(UNSCORED) - refused
    else:
        assert len(plane.select(None, **body)["demonstrations"]) == 2


@pytest.mark.parametrize("method", UNSCORED)
def test_every_method_with_inputs_alone(method: str, plane: LivePool):
    body = {"inputs": "text north", "method": method, "k": 1}
    if method in LEXICAL_METHODS:
        assert ids(plane.select(**body)) == ["north"]
    elif method == "random":
        assert len(plane.select(**body)["demonstrations"]) == 1
    else:
        problem = the_problem(plane.request("POST", "/select", body))
        allowed = problem["detail"].split("work here: ")[1].split(", ")
        assert set(allowed) == LEXICAL_METHODS | {"random"}


def test_fused_by_words_alone_needs_no_vector(plane: LivePool):
    chosen = plane.select("text north", method={"type": "fused", "bm25": 1.0}, k=1)
    assert ids(chosen) == ["north"]
    assert codes(chosen) == ["signal_absent", "signal_absent"]
    assert chosen["demonstrations"][0]["similarity"] is None


def test_fused_by_absent_signals_alone_is_refused(plane: LivePool):
    method = {"type": "fused", "similarity": 0}
    assert the_problem(plane.request("POST", "/select", {"vector": [1, 0], "method": method}))


def test_what_needs_a_vector_says_so(plane: LivePool):
    problem = the_problem(plane.request("POST", "/search", {"inputs": "a"}))
    assert pointers(problem) == ["/vector"]
    body = {"inputs": "text", "method": "bm25", "min_score": 0.5}
    assert pointers(the_problem(plane.request("POST", "/select", body))) == ["/min_score"]


def test_an_empty_external_pool_gives_an_empty_set(live: Live):
    empty = live.create("empty", embedder={"type": "external", "dimension": 3})
    chosen = empty.select(None, vector=[1, 0, 0])
    assert (chosen["demonstrations"], codes(chosen)) == ([], ["signal_absent", "no_eligible"])
    assert empty.request("POST", "/search", {"vector": [1, 0, 0]}).json()["hits"] == []


def test_a_pool_behind_an_endpoint(live: Live, endpoint: GatedEndpoint):
    remote = live.create("remote", embedder=endpoint.spec)
    assert remote.info()["dimension"] is None
    remote.add(tickets(6))
    assert remote.info()["dimension"] == 8
    assert remote.stats()["token_vectors"] == 0
    query = tickets(6)[4]["inputs"]
    chosen = remote.select(query, k=1)
    assert ids(chosen) == ["t00004"]
    assert codes(chosen) == ["signal_absent", "near_identical"]
    problem = the_problem(remote.request("POST", "/select", {"inputs": "a", "method": "bsr"}))
    assert "token vectors" in problem["detail"]

    endpoint.then(401, {})
    problem = the_problem(remote.request("POST", "/select", {"inputs": "never seen"}), 503)
    assert problem["code"] == "embedder_unavailable"
