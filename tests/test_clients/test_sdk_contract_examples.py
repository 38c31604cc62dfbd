"""One suite, three clients: examples are stored, read, changed and deleted."""

import json

import pytest

from kshot.errors import ExampleNotFound, InvalidFilter, InvalidInput, KshotError, NotFound, PoolNotFound
from tests.test_clients.sdk_tickets import TICKETS


def test_stored_rows_are_counted_and_can_be_selected_at_once(client, empty_pool):
    reply = client.upsert(empty_pool, TICKETS)
    assert (reply.accepted, reply.created, reply.rejected, reply.indexed) == (5, 5, [], True)
    assert reply.ids == ["t1", "t2", "t3", "t4", "t5"]
    stats = client.pool_stats(empty_pool)
    assert (stats.examples, stats.pending, stats.health) == (5, 0, None)
    assert stats.by_label == {"order_status": 2, "refund": 2, "crash": 1}
    assert stats.by_status == {"approved": 5}


def test_the_same_rows_again_change_nothing_and_other_content_is_an_update(client, pool):
    version = client.get_pool(pool).version
    again = client.upsert(pool, TICKETS)
    assert (again.created, again.updated, again.unchanged, again.version) == (0, 0, 5, version)
    changed = client.upsert(pool, [{**TICKETS[0], "outputs": "delivery"}])
    assert (changed.updated, changed.version) == (1, version + 1)


def test_bad_rows_are_reported_by_line_and_stop_no_other(client, empty_pool):
    rows = [{"inputs": "a", "outputs": "1"}, {"inputs": "   "}, {"outputs": "2"}, ("b", "3")]
    reply = client.upsert(empty_pool, rows, batch_size=2)
    assert reply.accepted == 2
    assert [(row.line, row.pointer) for row in reply.rejected] == [(2, "/inputs"), (3, "/inputs")]
    assert [row.message != "" for row in reply.rejected] == [True, True]


def test_a_batch_of_bad_rows_only_is_reported_like_any_other(client, empty_pool):
    reply = client.upsert(empty_pool, [{"inputs": ""}, {"inputs": "x", "extra": 1}])
    assert reply.accepted == 0
    assert [(row.line, row.pointer) for row in reply.rejected] == [(1, "/inputs"), (2, "/extra")]


def test_a_file_of_lines_is_stored_and_a_broken_line_is_named(client, empty_pool, tmp_path):
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps(row, ensure_ascii=False) for row in TICKETS]
    path.write_text("\n".join([lines[0], "", "{broken", *lines[1:]]), encoding="utf-8")
    progress: list[int] = []
    reply = client.upsert_ndjson(empty_pool, path, batch_size=3, on_progress=progress.append)
    assert reply.accepted == 5
    assert [row.line for row in reply.rejected] == [3]
    assert progress == [4, 7]
    assert client.get_example(empty_pool, "t4").inputs == "Geld zurück bitte"


def test_rows_for_a_pool_that_is_not_there_are_refused(client):
    with pytest.raises(PoolNotFound):
        client.upsert("absent", TICKETS)
    with pytest.raises(PoolNotFound):
        client.upsert("absent", [])


def test_rows_that_do_not_wait_can_be_waited_for(client, empty_pool):
    reply = client.upsert(empty_pool, TICKETS, wait="none")
    state = client.wait_indexed(empty_pool, reply.version, timeout_s=30)
    assert state.indexed_version >= reply.version
    assert len(client.select(empty_pool, "parcel", k=5)) == 5


def test_an_example_is_read_changed_and_deleted(client, pool):
    assert client.get_example(pool, "t1").outputs == "order_status"
    changed = client.patch_example(pool, "t1", outputs="delivery", group="g1", metadata={"lang": "fr"})
    assert (changed.outputs, changed.group, changed.metadata) == ("delivery", "g1", {"lang": "fr"})
    assert client.patch_example(pool, "t1", group=None).group is None
    assert client.delete_example(pool, "t1").deleted == 1
    with pytest.raises(ExampleNotFound, match="t1"):
        client.get_example(pool, "t1")
    with pytest.raises(ExampleNotFound):
        client.delete_example(pool, "t1")


@pytest.mark.parametrize("example_id", ["a/b", "..", "ü ?#%2F&", "examples:delete", "x" * 256])
def test_any_id_can_be_addressed(client, empty_pool, example_id):
    client.upsert(empty_pool, [{"id": example_id, "inputs": "a", "outputs": "b"}])
    assert client.get_example(empty_pool, example_id).id == example_id
    assert client.patch_example(empty_pool, example_id, outputs="c").outputs == "c"
    assert client.delete_example(empty_pool, example_id).ids == [example_id]


def test_examples_are_listed_in_the_order_of_ingestion_and_filtered(client, pool):
    assert [example.id for example in client.list_examples(pool)] == ["t1", "t2", "t3", "t4", "t5"]
    german = client.list_examples(pool, {"field": "metadata.lang", "eq": "de"})
    assert [example.id for example in german] == ["t4"]
    with pytest.raises(InvalidFilter):
        list(client.list_examples(pool, {"field": "colour", "eq": "red"}))


def test_a_listing_of_many_examples_spans_pages(client, empty_pool):
    count = 1203
    client.upsert(empty_pool, ((f"text number {i}", "x") for i in range(count)), wait="none")
    assert len({example.id for example in client.list_examples(empty_pool)}) == count


def test_examples_are_deleted_by_ids_or_by_subject(client, empty_pool):
    rows = [{**row, "subject_id": "s1" if row["id"] in {"t1", "t2"} else "s2"} for row in TICKETS]
    client.upsert(empty_pool, rows)
    assert client.delete_examples(empty_pool, ["t3", "absent"]).ids == ["t3"]
    gone = client.delete_examples(empty_pool, subject_id="s1")
    assert (gone.deleted, sorted(gone.ids)) == (2, ["t1", "t2"])
    assert [example.id for example in client.list_examples(empty_pool)] == ["t4", "t5"]
    with pytest.raises(InvalidInput):
        client.delete_examples(empty_pool)


def test_every_not_found_is_of_one_family_and_carries_a_request_id(client, pool):
    with pytest.raises(NotFound) as caught:
        client.get_example(pool, "absent")
    assert isinstance(caught.value, KshotError)
    assert caught.value.request_id
