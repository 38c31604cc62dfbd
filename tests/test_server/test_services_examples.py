"""Stored examples over the real service: list, read, patch."""

import json
from urllib.parse import quote

import pytest

from kshot.records import content_hash
from tests.test_server.live import Live, LivePool, ids, pointers, the_problem, tickets


def test_examples_are_listed_in_the_order_of_ingestion(pool: LivePool):
    pool.add(reversed(tickets(25)))
    pool.add([{**tickets(1)[0], "split": "moved"}])
    listed = pool.listed(limit=7)
    assert [one["id"] for one in listed] == [f"t{i:05d}" for i in range(24, 0, -1)] + ["t00000"]


def test_a_stored_example_is_returned_whole(pool: LivePool):
    row = tickets(1)[0]
    pool.add([row])
    found = pool.request("GET", "/examples/t00000").json()
    assert row.items() <= found.items()
    assert found["status"] == "approved"
    assert found["content_hash"] == content_hash(row["inputs"], row["outputs"])
    assert found["added_in"] == 1
    assert the_problem(pool.request("GET", "/examples/t1"), 404)["code"] == "example_not_found"


@pytest.mark.parametrize("example_id", ["a b", "ä/ö", "a?b#c", "%41", "examples:delete", "../x", "💡"])
def test_ids_of_any_characters_can_be_addressed(example_id: str, pool: LivePool):
    pool.add([{"id": example_id, "inputs": "x", "outputs": "y"}])
    path = f"/examples/{quote(example_id, safe='')}"
    assert pool.request("GET", path).json()["id"] == example_id
    assert pool.request("DELETE", path).json()["ids"] == [example_id]


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ({"field": "metadata.lang", "eq": "de"}, [1, 4, 7, 10]),
        ({"field": "split", "eq": "test"}, [0, 4, 8]),
        (
            {"all": [{"field": "metadata.priority", "gte": 2}, {"field": "label", "ne": "returns"}]},
            [2, 6, 7, 10, 11],
        ),
        ({"not": {"field": "status", "eq": "approved"}}, []),
        ({"field": "id", "in": ["t00003", "nobody"]}, [3]),
        ({"field": "metadata.nothing", "exists": False}, list(range(12))),
    ],
)
def test_a_listing_can_be_filtered(expression: object, wanted: list[int], pool: LivePool):
    pool.add(tickets(12))
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        parameters = {"filter": json.dumps(expression), "limit": "2", **cursor}
        page = pool.request("GET", "/examples", params=parameters).json()
        found += [one["id"] for one in page["data"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert found == [f"t{i:05d}" for i in wanted]


def test_a_filtered_listing_goes_on_past_erased_examples(pool: LivePool, live: Live):
    pool.add(tickets(6))
    record = live.services.store.get_pool(pool.name)
    live.services.indexer.run(lambda: None)  # after what the addition has queued
    # Erased in the store alone: the snapshot still has them.
    live.services.store.delete_examples(record.id, ids=["t00000", "t00001", "t00002"])
    parameters = {"filter": '{"field": "label", "exists": true}', "limit": "3"}
    first = pool.request("GET", "/examples", params=parameters).json()
    assert first["data"] == []
    rest = pool.request("GET", "/examples", params={**parameters, "cursor": first["next_cursor"]}).json()
    assert [one["id"] for one in rest["data"]] == ["t00003", "t00004", "t00005"]


@pytest.mark.parametrize("cursor", ["x", "-1", "1.5", "9" * 30, "١"])
def test_a_foreign_cursor_is_refused(cursor: str, pool: LivePool):
    problem = the_problem(pool.request("GET", "/examples", params={"cursor": cursor}))
    assert pointers(problem) == ["/cursor"]


# --- changing ---


def test_a_patch_changes_what_it_names_and_null_clears(pool: LivePool):
    pool.add(tickets(1))
    patched = pool.request("PATCH", "/examples/t00000", {"split": None, "metadata": {"lang": "it"}}).json()
    assert (patched["split"], patched["metadata"], patched["group"]) == (None, {"lang": "it"}, "g0")
    cleared = {"metadata": None, "group": None, "subject_id": None, "vector": None}
    patched = pool.request("PATCH", "/examples/t00000", cleared).json()
    assert (patched["metadata"], patched["group"], patched["subject_id"]) == ({}, None, None)
    assert patched["inputs"] == tickets(1)[0]["inputs"]
    assert pool.info()["version"] == 3


def test_a_patched_example_is_selected_as_it_is_now(pool: LivePool):
    pool.add(tickets(3))
    pool.request("PATCH", "/examples/t00001", {"outputs": "changed"})
    pool.indexed()
    chosen = {one["id"]: one["outputs"] for one in pool.select(k=3)["demonstrations"]}
    assert chosen["t00001"] == "changed"
    pool.request("PATCH", "/examples/t00001", {"status": "draft", "outputs": None})
    pool.indexed()
    assert sorted(ids(pool.select(k=3))) == ["t00000", "t00002"]


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"inputs": None}, "/inputs"),
        ({"status": None}, "/status"),
        ({"inputs": " "}, "/inputs"),
        ({"outputs": None}, "/outputs"),
        ({"id": "other"}, "/id"),
        ({"metadata": {"a": json.loads("[" * 20 + "]" * 20)}}, "/metadata"),
        ({"vector": [1.0]}, "/vector"),
        ({"status": "published"}, "/status"),
    ],
)
def test_a_patch_that_cannot_be_served_is_refused(change: object, pointer: str, pool: LivePool):
    pool.add(tickets(1))
    before = pool.listed()
    assert pointers(the_problem(pool.request("PATCH", "/examples/t00000", change))) == [pointer]
    assert pool.listed() == before


def test_a_patch_of_an_unknown_example_is_not_found(pool: LivePool):
    assert (
        the_problem(pool.request("PATCH", "/examples/a", {"split": "b"}), 404)["code"] == "example_not_found"
    )
