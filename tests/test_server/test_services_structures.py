"""Methods that cover structures, over the real service."""

import sys

import pytest

from tests.test_server.live import Live, LivePool, ids, pointers

QUERIES = {
    "count": ("SELECT COUNT(a) FROM t", "count"),
    "count-where": ("SELECT COUNT(b) FROM t WHERE c = 1", "count"),
    "join": ("SELECT a FROM t JOIN u ON t.x = u.x", "join"),
    "plain": ("SELECT a FROM t", "plain"),
    "words": ("how many rows has the table", "none"),
}


@pytest.fixture(scope="module")
def queries(live: Live) -> LivePool:
    pool = live.create("queries")
    pool.add({"id": key, "inputs": text, "outputs": label} for key, (text, label) in QUERIES.items())
    return pool


def test_pieces_of_sql_decide_whatever_the_names(queries: LivePool):
    method = {"type": "structural", "structures": "ast_sql"}
    chosen = queries.select("SELECT COUNT(z) FROM s WHERE y = 3", k=1, method=method, explain=True)
    assert ids(chosen) == ["count-where"]
    assert chosen["demonstrations"][0]["score"] == pytest.approx(1)
    assert chosen["explain"]["params"] == {"structures": "ast_sql", "max_words": 4}
    both = queries.select(
        "SELECT COUNT(z) FROM s JOIN r ON s.y = r.y", k=2, method=method, order="as_selected"
    )
    assert set(ids(both)) == {"join", "count"}


def test_rows_that_share_nothing_fill_up(queries: LivePool):
    method = {"type": "structural", "structures": "ast_sql"}
    chosen = queries.select("SELECT COUNT(z) FROM s", k=5, method=method, order="as_selected", explain=True)
    assert ids(chosen)[-1] == "words"
    assert chosen["demonstrations"][-1]["score"] == chosen["demonstrations"][-1]["gain"] == 0
    assert chosen["explain"]["diagnostics"]["filled"] == 1


def test_new_and_deleted_examples_count_at_once(live: Live):
    pool = live.create("changing")
    pool.add([{"id": "old", "inputs": "a rare phrase", "outputs": "x"}, {"id": "other", "inputs": "b"}])
    for method in ("structural", "set_bm25"):
        assert ids(pool.select("one rare phrase", k=1, method=method)) == ["old"]
    pool.add([{"id": "new", "inputs": "one rare phrase indeed", "outputs": "y"}])
    for method in ("structural", "set_bm25"):
        assert ids(pool.select("one rare phrase", k=1, method=method)) == ["new"]
    pool.delete(ids=["new"])
    for method in ("structural", "set_bm25"):
        assert ids(pool.select("one rare phrase", k=1, method=method)) == ["old"]


def test_a_parser_that_is_not_installed_is_named(queries: LivePool, monkeypatch):
    monkeypatch.setitem(sys.modules, "spacy", None)
    body = {"inputs": "x", "method": {"type": "set_bm25", "structures": "dependencies"}}
    problem = queries.problem("/select", body, status=501)
    assert problem["code"] == "missing_dependency"
    assert problem["detail"].endswith('pip install "kshot[spacy]"')


def test_an_unknown_kind_of_structure_is_refused(queries: LivePool):
    body = {"inputs": "x", "method": {"type": "structural", "structures": "trees"}}
    assert pointers(queries.problem("/select", body)) == ["/method/structures"]


def test_a_query_of_vectors_alone_is_told_which_methods_work(live: Live):
    pool = live.create("external", embedder={"type": "external", "dimension": 2})
    pool.add([{"id": "a", "inputs": "a b", "outputs": "x", "vector": [1, 0]}])
    problem = pool.problem("/select", {"vector": [1, 0], "method": "structural"})
    assert "'structural' needs the query's text; give `inputs`" in problem["detail"]
    assert ids(pool.select("b", k=1, method="structural")) == ["a"]
