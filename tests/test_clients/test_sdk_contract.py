"""One suite, three clients: sync over HTTP, async over HTTP, and in process, all with the real server."""

import json
import uuid
from pathlib import Path
from typing import Any

import pytest

import kshot
from kshot.clients.sdk.selection import Selection
from kshot.errors import (
    ExampleNotFound,
    InvalidFilter,
    InvalidInput,
    InvalidParameter,
    JobNotFound,
    KshotError,
    NotFound,
    PoolExists,
    PoolNotFound,
    SelectionNotFound,
    UnknownSelector,
)
from kshot.schemas.operations import JobInfo
from kshot.schemas.tuning import TuneResult

TICKETS = [
    {"id": "t1", "inputs": "where is my parcel", "outputs": "order_status", "metadata": {"lang": "en"}},
    {"id": "t2", "inputs": "parcel not arrived yet", "outputs": "order_status", "metadata": {"lang": "en"}},
    {"id": "t3", "inputs": "I want my money back", "outputs": "refund", "metadata": {"lang": "en"}},
    {"id": "t4", "inputs": "Geld zurück bitte", "outputs": "refund", "metadata": {"lang": "de"}},
    {"id": "t5", "inputs": "the app crashes on start", "outputs": "crash", "metadata": {"lang": "en"}},
]


@pytest.fixture
def pool(client, empty_pool: str) -> str:
    client.upsert(empty_pool, TICKETS)
    return empty_pool


def ids_of(selection: Selection) -> list[str]:
    return [str(shown.id) for shown in selection]


def test_the_server_is_ready_and_of_this_version(client):
    assert client.version().version == kshot.__version__
    assert client.ready().ready


def test_a_pool_is_created_described_and_deleted(client):
    name = f"p{uuid.uuid4().hex[:8]}"
    created = client.create_pool(name, embedder="hashing", select={"k": 3}, retention_days=5)
    assert (created.name, created.settings.select.k, created.settings.retention_days) == (name, 3, 5)
    assert created.settings.embedder.type == "hashing"
    assert client.get_pool(name).settings == created.settings
    assert name in [pool.name for pool in client.list_pools()]
    assert client.delete_pool(name) is None
    with pytest.raises(PoolNotFound, match=name):
        client.get_pool(name)


def test_a_second_pool_of_a_name_is_a_conflict_unless_that_is_fine(client, empty_pool):
    with pytest.raises(PoolExists, match=empty_pool):
        client.create_pool(empty_pool, embedder="hashing")
    assert client.create_pool(empty_pool, exist_ok=True, embedder="hashing").name == empty_pool


def test_refused_settings_are_named_by_pointer(client):
    with pytest.raises(InvalidInput) as caught:
        client.create_pool("p", embedder="hashing", retention_days=0, colour="red")
    assert {error.pointer for error in caught.value.errors} == {
        "/settings/retention_days",
        "/settings/colour",
    }
    assert caught.value.request_id


def test_a_pool_with_a_bad_name_is_refused(client):
    with pytest.raises(InvalidInput) as caught:
        client.create_pool("no spaces", embedder="hashing")
    assert [error.pointer for error in caught.value.errors] == ["/name"]


def test_settings_are_changed_one_by_one(client, empty_pool):
    changed = client.update_pool(empty_pool, retention_days=9)
    assert changed.settings.retention_days == 9
    assert changed.settings.embedder.type == "hashing"


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


def test_the_health_of_a_pool_comes_where_it_is_asked_for(client, pool):
    health = client.pool_stats(pool, health=True).health
    assert health.examples == health.duplicates.measured == client.get_pool(pool).examples
    assert health.labels.labels == 3
    assert 0 <= health.labels.evenness <= 1
    assert health.log_det_distance >= 0


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


def test_a_selection_holds_the_nearest_examples_nearest_last(client, pool):
    chosen = client.select(pool, "where is my parcel please", k=2, method="similarity")
    assert ids_of(chosen) == ["t2", "t1"]
    assert [shown.rank for shown in chosen] == [0, 1]
    assert chosen.demonstrations[0].similarity < chosen.demonstrations[1].similarity
    assert not chosen.is_fallback
    assert chosen.usage.eligible == 5
    assert chosen.explain is None


def test_a_selection_becomes_a_prompt_that_the_server_would_render_alike(client, pool):
    options = {"k": 3, "method": "similarity"}
    chosen = client.select(pool, "where is my parcel", **options)
    as_text = client.render(pool, "where is my parcel", format="text", **options)
    as_turns = client.render(pool, "where is my parcel", format="messages", **options)
    inline = client.render(pool, "where is my parcel", format="anthropic", style="inline", **options)
    assert chosen.text() == as_text.text
    assert chosen.messages() == [message.model_dump() for message in as_turns.messages]
    assert chosen.messages(format="anthropic", style="inline") == {
        "messages": [message.model_dump() for message in inline.messages]
    }


def test_fields_are_written_alike_by_client_and_server(client, empty_pool):
    rows = [({"subject": "Lamp", "n": 2, "tags": ["a"]}, {"intent": "broken", "sure": True})]
    client.upsert(empty_pool, rows)
    query: dict[str, Any] = {"subject": "Plug", "n": None, "tags": []}
    chosen = client.select(empty_pool, query)
    assert chosen.text() == client.render(empty_pool, query, format="text").text
    assert chosen.text().startswith(
        'Input: subject: Lamp\nn: 2\ntags: ["a"]\nOutput: intent: broken\nsure: true'
    )


def test_the_pools_own_template_reaches_the_client(client, pool):
    prompt = {
        "system": "One of: {{ labels | join(', ') }}",
        "input": "<{{ inputs }}>",
        "separator": "\n---\n",
    }
    client.update_pool(pool, prompt=prompt)
    chosen = client.select(pool, "where is it", k=2, method="similarity")
    assert chosen.text() == client.render(pool, "where is it", format="text", k=2, method="similarity").text
    assert chosen.messages()[0] == {"role": "system", "content": "One of: crash, order_status, refund"}
    assert chosen.messages()[-1] == {"role": "user", "content": "<where is it>"}
    with pytest.raises(InvalidParameter, match="template"):
        chosen.text("another query")


def test_filters_and_exclusions_hold(client, pool):
    english = {"field": "metadata.lang", "eq": "en"}
    chosen = client.select(pool, "parcel", k=5, filter=english, exclude={"ids": ["t1"]})
    assert sorted(ids_of(chosen)) == ["t2", "t3", "t5"]
    same = client.select(pool, "where is my parcel", k=5, exclude={"same_content": True})
    assert "t1" not in ids_of(same)


def test_the_same_seed_gives_the_same_random_selection(client, pool):
    picks = [ids_of(client.select(pool, "parcel", k=3, method="random", seed=seed)) for seed in (1, 1, 2, 3)]
    assert picks[0] == picks[1]
    assert len({tuple(one) for one in picks}) > 1


def test_a_budget_of_tokens_is_kept(client, pool):
    chosen = client.select(pool, "parcel", k=5, max_tokens=30)
    assert 0 < chosen.usage.tokens <= 30
    assert len(chosen) < 5


def test_nothing_above_the_least_similarity_is_an_abstention(client, pool):
    chosen = client.select(pool, "parcel", min_score=1.0)
    assert (len(chosen), chosen.abstained) == (0, True)


def test_a_stable_core_stands_first(client, pool):
    chosen = client.select(pool, "parcel", k=4, stable=2)
    other = client.select(pool, "money", k=4, stable=2)
    assert [shown.part for shown in chosen] == ["stable", "stable", "dynamic", "dynamic"]
    assert ids_of(chosen)[:2] == ids_of(other)[:2]
    assert chosen.reply.prefix_hash == other.reply.prefix_hash is not None


def test_an_explanation_names_method_and_runners_up(client, pool):
    chosen = client.select(pool, "parcel", k=2, method={"type": "mmr", "diversity": 0.3}, explain=True)
    assert chosen.explain.method == "mmr"
    assert chosen.explain.params["diversity"] == 0.3
    assert {row.id for row in chosen.explain.rejected}.isdisjoint(ids_of(chosen))


@pytest.mark.parametrize("method", ["similarity", "bm25", "fused", "mmr", "set_bsr", "label_balanced"])
def test_every_method_answers_in_the_same_form(client, pool, method):
    chosen = client.select(pool, "where is my parcel", k=3, method=method)
    assert chosen.method == method
    assert len(set(ids_of(chosen))) == 3


def test_bad_requests_raise_the_class_that_says_why(client, pool):
    with pytest.raises(UnknownSelector, match="similarity"):
        client.select(pool, "parcel", method="nearest")
    with pytest.raises(InvalidParameter, match="diversity"):
        client.select(pool, "parcel", method={"type": "mmr", "diversity": 7})
    with pytest.raises(InvalidFilter):
        client.select(pool, "parcel", filter={"field": "metadata.lang", "like": "en"})
    with pytest.raises(InvalidInput) as caught:
        client.select(pool, "parcel", k=0)
    assert [error.pointer for error in caught.value.errors] == ["/k"]
    with pytest.raises(PoolNotFound):
        client.select("absent", "parcel")
    with pytest.raises(InvalidInput):
        client.select(pool)


def test_a_fallback_does_not_hide_a_mistake(client):
    with pytest.raises(PoolNotFound):
        client.select("absent", "parcel", fallback=[{"inputs": "a", "outputs": "b"}])


def test_a_recorded_selection_can_be_looked_up(client, pool):
    chosen = client.select(pool, "parcel", k=2, durable=True)
    stored = client.get_selection(chosen.selection_id)
    assert [shown.id for shown in stored.demonstrations] == ids_of(chosen)
    assert (stored.pool, stored.query, stored.method) == (pool, "parcel", "fused")
    with pytest.raises(SelectionNotFound):
        client.get_selection(str(uuid.uuid4()))


def test_an_explanation_says_which_words_each_demonstration_covers(client, pool):
    chosen = client.select(pool, "my parcel", k=2, method="similarity", explain=True)
    found = chosen.explain.coverage
    assert [token.text for token in found.tokens] == ["my", "parcel"]
    assert [one.id for one in found.demonstrations] == ids_of(chosen)
    assert all(len(one.scores) == 2 for one in found.demonstrations)
    assert [(token.similarity, token.covered) for token in found.tokens] == [(1.0, True), (1.0, True)]


def test_queries_that_nothing_comes_close_to_are_listed(client, pool):
    assert list(client.gaps(pool)) == []
    client.select(pool, "zyxwv", method="similarity")
    near = client.select(pool, "where is my parcel", method="similarity")
    gap = client.select(pool, "zyxwv", method="similarity", durable=True)
    assert [notice.code for notice in gap.warnings] == ["fewer_than_k", "coverage_gap"]
    (found,) = client.gaps(pool)
    assert (found.query, found.count) == ("zyxwv", 2)
    best = client.get_selection(gap.selection_id).best_similarity
    assert found.best_similarity == best < 0.35
    assert client.get_selection(near.selection_id).best_similarity == pytest.approx(1.0)
    assert [one.query for one in client.gaps(pool, below=best + 1e-9)] == ["zyxwv"]
    assert list(client.gaps(pool, below=best)) == []
    stats = client.pool_stats(pool)
    assert (stats.selections, stats.gaps) == (3, 2)
    client.update_pool(pool, select={"gap_below": -1.0})
    assert list(client.gaps(pool)) == []
    assert client.pool_stats(pool).gaps == 0
    with pytest.raises(InvalidInput):
        list(client.gaps(pool, below=2.0))
    with pytest.raises(PoolNotFound):
        list(client.gaps("absent"))


def test_a_batch_answers_in_order_and_a_bad_query_fails_alone(client, pool):
    bad = kshot.SelectRequest(inputs="money", method="nearest")
    special = kshot.SelectRequest(inputs="app", k=1, method="similarity")
    first, second, third = client.select_batch(pool, ["parcel", bad, special], k=2)
    assert isinstance(first, Selection)
    assert len(first) == 2
    assert type(second) is UnknownSelector
    assert ids_of(third) == ["t5"]


def test_search_returns_neighbours_nearest_first(client, pool):
    reply = client.search(pool, "where is my parcel", k=3)
    assert reply.hits[0].id == "t1"
    similarities = [hit.similarity for hit in reply.hits]
    assert similarities == sorted(similarities, reverse=True)


def test_the_callers_own_vectors_work_without_any_model(client):
    name = f"p{uuid.uuid4().hex[:8]}"
    client.create_pool(name, embedder={"type": "external", "dimension": 2})
    client.upsert(
        name,
        [
            {"id": "x", "inputs": "right", "outputs": "r", "vector": [1.0, 0.0]},
            {"id": "y", "inputs": "up", "outputs": "u", "vector": [0.0, 1.0]},
        ],
    )
    assert [hit.id for hit in client.search(name, vector=[0.9, 0.1]).hits] == ["x", "y"]
    chosen = client.select(name, vector=(0.0, 2.0), k=1, method="similarity")
    assert ids_of(chosen) == ["y"]
    assert [message["role"] for message in chosen.messages()] == ["user", "assistant"]
    client.delete_pool(name)


def test_methods_are_listed_with_their_parameters(client):
    infos = {info.name: info for info in client.selectors()}
    assert {"similarity", "mmr", "fused", "set_bsr"} <= set(infos)
    assert "diversity" in infos["mmr"].parameters["properties"]
    assert sorted(infos) == sorted(client.version().selectors)


def test_a_change_of_the_embed_template_is_a_job_that_can_be_followed(client, pool):
    changed = client.update_pool(pool, embed_template="ticket: {{ inputs }}")
    assert changed.job_id is not None
    done = client.wait_job(changed.job_id, timeout_s=60)
    assert (done.state, done.pool) == ("succeeded", pool)
    assert changed.job_id in [job.id for job in client.list_jobs(pool)]
    assert client.get_job(changed.job_id).state == "succeeded"
    assert client.cancel_job(changed.job_id).state == "succeeded"
    assert client.select(pool, "parcel", k=5).usage.eligible == 5


def test_a_pool_is_tuned_by_its_labels(client, empty_pool):
    # The label stands in one word among many that all labels share.
    rows = [(f"the box of {('red', 'blue', 'green')[i % 3]} number{i} came", "rbg"[i % 3]) for i in range(60)]
    client.upsert(empty_pool, rows)
    started = client.tune_pool(empty_pool, apply=True, layers=[])
    assert (started.kind, started.pool) == ("tune", empty_pool)
    seen: list[JobInfo] = []
    done = client.wait_job(started.id, timeout_s=60, on_progress=seen.append)
    assert seen[-1] == done
    result = TuneResult.model_validate(done.result)
    assert (result.queries, result.rows, result.labels) == (60, 60, 3)
    kept = client.get_pool(empty_pool).settings.select.params.get("fused", {})
    assert kept == ({} if result.after is None else result.after.weights)
    assert result.applied == (result.after is not None)


def test_a_pool_without_enough_labels_is_not_tuned(client, pool):
    with pytest.raises(InvalidInput, match="wanted 50"):
        client.tune_pool(pool)
    with pytest.raises(InvalidParameter, match="allowed 0 to 1"):
        client.tune_pool(pool, layers=[9])
    with pytest.raises(PoolNotFound):
        client.tune_pool("absent")


def test_an_unknown_job_is_not_found(client):
    for look_up in (client.get_job, client.cancel_job, client.wait_job):
        with pytest.raises(JobNotFound):
            look_up("no-such-job")


def test_every_not_found_is_of_one_family_and_carries_a_request_id(client, pool):
    with pytest.raises(NotFound) as caught:
        client.get_example(pool, "absent")
    assert isinstance(caught.value, KshotError)
    assert caught.value.request_id


def test_a_data_folder_keeps_what_was_stored(tmp_path: Path):
    with kshot.LocalClient(tmp_path) as first:
        first.create_pool("kept", embedder="hashing")
        first.upsert("kept", TICKETS)
        before = ids_of(first.select("kept", "parcel", k=3))
    with kshot.LocalClient(tmp_path) as second:
        second.wait_indexed("kept", timeout_s=30)
        assert ids_of(second.select("kept", "parcel", k=3)) == before


def test_a_data_folder_has_one_owner_at_a_time(tmp_path: Path):
    with kshot.LocalClient(tmp_path), pytest.raises(kshot.errors.DataFolderLocked, match="process"):
        kshot.LocalClient(tmp_path)
    kshot.LocalClient(tmp_path).close()


def test_unknown_settings_of_a_local_client_are_refused_by_name(tmp_path: Path):
    with pytest.raises(InvalidInput, match="colour"):
        kshot.LocalClient(tmp_path, colour="red")
