"""Erasing examples over the real service: by id, by subject, and from every file."""

from pathlib import Path

import pytest

from kshot.server.services import indexing
from tests.test_server.live import GatedEndpoint, LivePool, ids, running, the_problem, tickets


def test_examples_are_deleted_by_id(pool: LivePool):
    pool.add(tickets(6))
    reply = pool.delete(ids=["t00004", "nobody", "t00001", "t00001"])
    assert reply == {"deleted": 2, "ids": ["t00001", "t00004"], "version": 2}
    assert pool.delete(ids=["t00001"])["deleted"] == 0
    assert sorted(ids(pool.select(k=6))) == ["t00000", "t00002", "t00003", "t00005"]
    assert the_problem(pool.request("DELETE", "/examples/t00001"), 404)["code"] == "example_not_found"


def test_examples_are_deleted_by_subject(pool: LivePool):
    pool.add(tickets(25))
    assert pool.delete(subject_id="s3")["ids"] == ["t00003", "t00013", "t00023"]
    assert len(pool.listed()) == 22


@pytest.mark.parametrize("body", [{}, {"ids": ["a"], "subject_id": "b"}, {"ids": []}, {"id": "a"}])
def test_a_deletion_names_ids_or_a_subject(body: object, pool: LivePool):
    assert the_problem(pool.request("POST", "/examples:delete", body))


def test_an_erased_text_is_in_no_file(tmp_path: Path):
    marker = "Moriarty-lives-in-the-shadows"
    row = {
        "id": "a",
        "inputs": {"text": marker * 500},
        "outputs": marker,
        "metadata": {"who": marker},
        "subject_id": marker,
        "group": marker,
        "split": marker,
    }

    def on_disk():
        return [
            path.name
            for path in tmp_path.rglob("*")
            if path.is_file() and marker.encode() in path.read_bytes()
        ]

    with running(tmp_path) as live:
        pool = live.create()
        pool.add([row, *tickets(20)])
        pool.add([{**row, "outputs": "second version"}])
        pool.request("PATCH", "/examples/a", {"outputs": "third version"})
        assert on_disk()

        assert pool.delete(subject_id=marker)["ids"] == ["a"]

        assert on_disk() == []
    assert on_disk() == []


def test_features_of_erased_examples_are_gone_after_the_next_start(tmp_path: Path):
    with running(tmp_path) as live:
        pool = live.create()
        pool.add(tickets(20))
        tokens = pool.stats()["token_vectors"]
        pool.delete(ids=["t00004"])
        assert pool.stats()["token_vectors"] == tokens
    with running(tmp_path) as live:
        pool = live.pool()
        assert pool.stats()["token_vectors"] < tokens
        assert len(pool.select(k=20)["demonstrations"]) == 19


def test_a_deletion_needs_no_embedder(
    tmp_path: Path, endpoint: GatedEndpoint, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(indexing, "_RETRY_S", (0.1,))
    with running(tmp_path) as live:
        pool = live.create(embedder=endpoint.spec)
        pool.add(tickets(5))
        query = pool.select("a question", k=5)
        assert len(query["demonstrations"]) == 5
        endpoint.then(401, {})
        pool.add(tickets(1, start=5))
        assert pool.delete(ids=["t00002"])["deleted"] == 1
        # Whether or not the index has heard of it: its text is gone.
        assert "t00002" not in ids(pool.select("a question", k=5))
