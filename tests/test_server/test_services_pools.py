"""Pools over the real service: create, change, delete, count."""

from pathlib import Path

import pytest

from tests.test_server.live import (
    HASHING,
    Live,
    LivePool,
    pointers,
    running,
    the_problem,
    tickets,
    wait_until,
)


def test_a_new_pool_is_described_with_its_defaults(pool: LivePool):
    info = pool.info()
    assert info["settings"]["embedder"] == HASHING
    assert (info["settings"]["select"]["method"], info["settings"]["select"]["k"]) == ("fused", 8)
    assert (info["version"], info["indexed_version"], info["examples"], info["dimension"]) == (0, 0, 0, 128)


def test_a_taken_name_is_a_conflict(pool: LivePool, live: Live):
    response = live.http.post("/v1/pools", json={"name": pool.name})
    assert the_problem(response, 409)["code"] == "pool_exists"


def test_a_missing_pool_is_not_found_everywhere(live: Live):
    missing = live.pool("nowhere")
    for method, path, body in (
        ("GET", "", None),
        ("PATCH", "", {"settings": {}}),
        ("DELETE", "", None),
        ("GET", "/stats", None),
        ("GET", "/examples", None),
        ("GET", "/examples/a", None),
        ("POST", "/examples", [{"inputs": "a"}]),
        ("POST", "/examples:delete", {"ids": ["a"]}),
        ("PATCH", "/examples/a", {"split": "b"}),
        ("POST", "/select", {"inputs": "a"}),
        ("POST", "/select:batch", {"queries": [{"inputs": "a"}]}),
        ("POST", "/search", {"inputs": "a"}),
        ("POST", "/render", {"inputs": "a"}),
    ):
        problem = the_problem(missing.request(method, path, body), 404)
        assert problem["code"] == "pool_not_found", (method, path)


def test_pools_are_listed_by_name_in_pages(tmp_path: Path):
    names = ["a", "b.1", "b_2", "c", "d-e"]
    with running(tmp_path) as live:
        for name in reversed(names):
            live.create(name)
        first = live.http.get("/v1/pools?limit=3").json()
        rest = live.http.get("/v1/pools", params={"limit": 3, "cursor": first["next_cursor"]}).json()
        assert [one["name"] for one in first["data"] + rest["data"]] == names
        assert rest["next_cursor"] is None
        assert live.http.get("/v1/pools?limit=5").json()["next_cursor"] is None


@pytest.mark.parametrize(
    ("settings", "pointer", "said"),
    [
        ({"embedder": {"type": "word2vec"}}, "/settings/embedder/type", "'hashing'"),
        ({"colour": 1}, "/settings/colour", "allowed: embedder"),
        ({"embedder": HASHING, "token_layer": 7}, "/settings/token_layer", "allowed 0 to 1"),
        ({"embedder": HASHING, "tokenizer": "/nowhere"}, "/settings/tokenizer", "tiktoken:"),
        ({"embedder": HASHING, "select": {"method": "nearest"}}, "/settings/select/method", "similarity"),
        ({"embedder": HASHING, "select": {"k": 0}}, "/settings/select/k", ">= 1"),
        (
            {"embedder": HASHING, "select": {"params": {"mmr": {"lambda": 1}}}},
            "/settings/select/params/mmr/lambda",
            "diversity",
        ),
        (
            {"embedder": HASHING, "select": {"params": {"mmr": {"diversity": 2}}}},
            "/settings/select/params/mmr/diversity",
            "<= 1",
        ),
        (
            {"embedder": HASHING, "select": {"params": {"nearest": {}}}},
            "/settings/select/params/nearest",
            "similarity",
        ),
        ({"embedder": HASHING, "prompt": {"query": "{{ inpt }}"}}, "/settings/prompt/query", "allowed input"),
        ({"embedder": HASHING, "embed_template": "{% if %}"}, "/settings/embed_template", "line 1"),
        ({"embedder": HASHING, "label_field": "id"}, "/settings/label_field", "outputs"),
        ({"embedder": HASHING, "retention_days": 0}, "/settings/retention_days", ">= 1"),
    ],
)
def test_settings_that_would_fail_later_are_refused(
    settings: dict[str, object], pointer: str, said: str, live: Live, pool: LivePool
):
    created = the_problem(live.http.post("/v1/pools", json={"name": "refused", "settings": settings}))
    patched = the_problem(pool.request("PATCH", "", {"settings": settings}))
    for problem in (created, patched):
        assert pointers(problem) == [pointer]
        assert said in problem["errors"][0]["message"]
    assert the_problem(live.pool("refused").request("GET"), 404)
    assert pool.info()["settings"]["select"]["k"] == 8


def test_plain_settings_change_at_once_and_alone(pool: LivePool):
    pool.add(tickets(10))
    before = pool.info()["settings"]
    info = pool.patch(select={"method": "similarity", "k": 3})
    assert info["job_id"] is None
    assert info["settings"] == before | {"select": {**before["select"], "method": "similarity", "k": 3}}
    selection = pool.select()
    assert (selection["method"], len(selection["demonstrations"])) == ("similarity", 3)
    assert pool.patch(retention_days=7)["settings"]["select"]["k"] == 3


def test_the_label_field_decides_what_a_label_is(pool: LivePool):
    pool.add(tickets(12))
    assert set(pool.stats()["by_label"]) == {"billing", "delivery", "login", "returns", "setup"}

    pool.patch(label_field="metadata.lang")

    wait_until(lambda: pool.stats()["by_label"] == {"en": 4, "de": 4, "fr": 4}, "the new labels")
    selection = pool.select(k=3, method="label_balanced")
    assert selection["set"]["labels"] == {"en": 1, "de": 1, "fr": 1}


def test_labels_may_stand_in_a_field_of_the_outputs(live: Live):
    pool = live.create("fields", label_field="outputs.team")
    rows = [{"inputs": f"text {i}", "outputs": {"team": "ab"[i % 2], "reply": "x" * 300}} for i in range(6)]
    pool.add(rows)
    assert pool.stats()["by_label"] == {"a": 3, "b": 3}


def test_statistics_count_what_is_there(pool: LivePool):
    pool.add([*tickets(8), {"id": "draft", "inputs": "no answer yet"}])
    stats = pool.stats()
    assert stats["by_status"] == {"approved": 8, "draft": 1}
    assert stats["by_split"] == {"train": 6, "test": 2}
    assert (stats["examples"], stats["pending"], stats["truncated"]) == (9, 0, 0)
    assert stats["token_vectors"] > 9
    assert stats["disk_bytes"] > 0
    assert (stats["segments"], stats["vector_index"]) == (1, "exact")


def test_an_overlong_text_is_counted_as_truncated(pool: LivePool):
    pool.add([{"inputs": "word " * 2000, "outputs": "x"}])
    assert pool.stats()["truncated"] == 1


def test_a_deleted_pool_leaves_nothing(tmp_path: Path):
    marker = "Sherlock-Holmes-lives-in-221B"
    with running(tmp_path) as live:
        pool, other = live.create("tickets"), live.create("other")
        pool.add([{"id": "a", "inputs": marker, "outputs": marker}])
        other.add(tickets(3))
        selection = pool.select(marker, durable=True)
        folders = set((tmp_path / "pools").iterdir())
        assert len(folders) == 2

        assert pool.request("DELETE").status_code == 204

        assert [one["name"] for one in live.http.get("/v1/pools").json()["data"]] == ["other"]
        assert the_problem(pool.request("POST", "/select", {"inputs": "a"}), 404)
        response = live.http.get(f"/v1/selections/{selection['selection_id']}")
        assert the_problem(response, 404)["code"] == "selection_not_found"
        assert len(set((tmp_path / "pools").iterdir())) == 1
        assert not any(marker.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        assert 'pool="tickets"' not in live.http.get("/metrics").text
        assert len(other.select()["demonstrations"]) == 3


def test_a_name_can_be_used_again(live: Live, pool: LivePool):
    pool.add(tickets(5))
    pool.request("DELETE")
    again = live.create(pool.name)
    assert again.info()["examples"] == 0
    again.add(tickets(2))
    assert len(again.select()["demonstrations"]) == 2
