"""Adding examples over the real service: what was new, what is refused, and uploads as NDJSON."""

import json
from pathlib import Path

import pytest

from kshot.records import content_hash
from kshot.server.services import indexing
from tests.test_server.live import (
    NDJSON,
    GatedEndpoint,
    Live,
    LivePool,
    ids,
    pointers,
    running,
    the_problem,
    tickets,
    wait_until,
)


def outcomes(reply):
    return {name: reply[name] for name in ("accepted", "created", "updated", "unchanged") if reply[name]}


def test_a_batch_tells_what_was_new_and_what_was_not(pool: LivePool):
    first = pool.add(tickets(3))
    assert outcomes(first) == {"accepted": 3, "created": 3}
    assert (first["version"], first["indexed"], first["ids"]) == (1, True, ["t00000", "t00001", "t00002"])

    again = pool.add(tickets(3))
    assert outcomes(again) == {"accepted": 3, "unchanged": 3}
    assert again["version"] == 1

    changed = pool.add([*tickets(2), {**tickets(3)[2], "outputs": "another"}, *tickets(1, start=3)])
    assert outcomes(changed) == {"accepted": 4, "created": 1, "updated": 1, "unchanged": 2}
    assert changed["version"] == 2


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": "new"},
        {"outputs": "new"},
        {"metadata": {"lang": "it"}},
        {"metadata": {"lang": "en", "priority": False, "hard": 0.0}},
        {"split": "dev"},
        {"status": "retired"},
        {"subject_id": "s1"},
        {"group": "g1"},
    ],
)
def test_every_field_counts_as_content(change: dict[str, object], pool: LivePool):
    pool.add(tickets(1))
    assert pool.add([{**tickets(1)[0], **change}])["updated"] == 1
    (stored,) = pool.listed()
    assert change.items() <= stored.items()


def test_a_row_without_an_id_is_named_after_its_content(pool: LivePool):
    reply = pool.add([{"inputs": "a", "outputs": "b"}])
    assert reply["ids"] == [content_hash("a", "b")]
    assert pool.add([{"inputs": "a", "outputs": "b"}])["unchanged"] == 1


def test_of_equal_ids_in_a_batch_the_last_wins(pool: LivePool):
    reply = pool.add(
        [
            {"id": "a", "inputs": "first", "outputs": "1"},
            {"id": "b", "inputs": "other", "outputs": "2"},
            {"id": "a", "inputs": "second", "outputs": "3"},
            {"id": "a", "inputs": "third", "outputs": "4"},
        ]
    )
    assert outcomes(reply) == {"accepted": 2, "created": 2}
    assert [(one["line"], one["code"], one["id"]) for one in reply["notices"]] == [
        (1, "duplicate_id", "a"),
        (3, "duplicate_id", "a"),
    ]
    assert {one["id"]: one["inputs"] for one in pool.listed()} == {"a": "third", "b": "other"}


def test_a_refused_row_does_not_replace_an_earlier_one(pool: LivePool):
    reply = pool.add([{"id": "a", "inputs": "kept", "outputs": "1"}, {"id": "a", "inputs": ""}])
    assert (reply["accepted"], reply["notices"]) == (1, [])
    assert [(one["line"], one["id"], one["pointer"]) for one in reply["rejected"]] == [(2, "a", "/inputs")]
    assert pool.listed()[0]["inputs"] == "kept"


def test_equal_inputs_under_other_ids_are_kept_and_flagged(pool: LivePool):
    pool.add([{"id": "a", "inputs": {"x": "same", "y": 1}, "outputs": "1"}])
    reply = pool.add(
        [
            {"id": "b", "inputs": {"y": 1, "x": "same"}, "outputs": "2"},
            {"id": "c", "inputs": {"x": "same", "y": True}, "outputs": "3"},
            {"id": "d", "inputs": "twin", "outputs": "4"},
            {"id": "e", "inputs": "twin", "outputs": "5"},
        ]
    )
    assert reply["created"] == 4
    assert [(one["line"], one["id"], one["code"]) for one in reply["notices"]] == [
        (1, "b", "equal_inputs"),
        (3, "d", "equal_inputs"),
        (4, "e", "equal_inputs"),
    ]
    assert "'a'" in reply["notices"][0]["message"]
    assert len(ids(pool.select({"x": "same"}, k=5))) == 5
    pool.delete(ids=["a", "d"])
    assert pool.add([{"id": "b", "inputs": {"y": 1, "x": "same"}, "outputs": "2"}])["notices"] == []


def test_only_drafts_may_come_without_outputs(pool: LivePool):
    reply = pool.add(
        [
            {"id": "a", "inputs": "x"},
            {"id": "b", "inputs": "x", "status": "retired"},
            {"id": "c", "inputs": "x", "status": "approved"},
        ]
    )
    assert [(one["id"], one["pointer"], one["code"]) for one in reply["rejected"]] == [
        ("c", "/outputs", "missing")
    ]
    assert {one["id"]: one["status"] for one in pool.listed()} == {"a": "draft", "b": "retired"}


def test_a_draft_needs_not_fit_the_output_template(live: Live):
    pool = live.create("annotated-later", prompt={"output": "{{ outputs.label }}"})
    reply = pool.add([{"id": "a", "inputs": "x"}, {"id": "b", "inputs": "x", "outputs": "no fields"}])
    assert reply["ids"] == ["a"]
    assert reply["rejected"][0]["code"] == "invalid_template"


def test_inputs_that_give_no_text_to_embed_are_refused(live: Live):
    pool = live.create("by-title", embed_template="{{ inputs.title }}")
    reply = pool.add(
        [
            {"inputs": {"title": "t", "body": "b"}, "outputs": "x"},
            {"inputs": {"title": "  ", "body": "b"}, "outputs": "x"},
            {"inputs": {"body": "b"}, "outputs": "x"},
            {"inputs": "text", "outputs": "x"},
        ]
    )
    assert reply["accepted"] == 1
    assert [one["line"] for one in reply["rejected"]] == [2, 3, 4]
    assert {one["pointer"] for one in reply["rejected"]} == {"/inputs"}


def test_without_waiting_a_batch_is_durable_and_indexed_soon(pool: LivePool):
    reply = pool.add(tickets(5), wait="none")
    assert reply["accepted"] == 5
    assert len(pool.listed()) == 5
    pool.indexed()
    assert len(pool.select(k=5)["demonstrations"]) == 5


def test_while_the_embedder_is_down_rows_are_kept_and_reported(
    tmp_path: Path, endpoint: GatedEndpoint, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(indexing, "_RETRY_S", (0.4,))
    with running(tmp_path) as live:
        pool = live.create(embedder=endpoint.spec)
        pool.add(tickets(2))
        endpoint.then(401, {})
        reply = pool.add(tickets(4))
        assert (reply["accepted"], reply["indexed"]) == (4, False)
        assert pool.stats()["pending"] == 2
        ready = live.http.get("/readyz")
        assert (ready.status_code, ready.json()["checks"]["pool tickets"]) == (503, "embedder_unavailable")
        assert pool.add(tickets(1, start=4), wait="none")["created"] == 1
        pool.indexed()
        wait_until(lambda: live.http.get("/readyz").status_code == 200, "readiness")
        assert len(pool.listed()) == pool.stats()["examples"] == 5
        assert len(pool.select(k=5)["demonstrations"]) == 5


def test_a_row_that_the_embedder_refuses_stops_no_other(pool: LivePool, live: Live, endpoint: GatedEndpoint):
    # The batch is refused, then its first half is taken, then the third row alone is refused.
    refused = {"error": {"code": "too_long"}}
    endpoint.then(400, refused)
    job_free = live.create(f"refusing-{pool.name}", embedder=endpoint.spec)
    rows = tickets(4)
    first, second = rows[:2], rows[2:]
    vectors = [[1.0, 0, 0, 0, 0, 0, 0, i] for i in range(2)]
    endpoint.then(200, {"data": [{"index": i, "embedding": vectors[i]} for i in range(2)]})
    endpoint.then(400, refused)
    endpoint.then(400, refused)
    reply = job_free.add(rows)
    assert reply["indexed"]
    assert sorted(ids(job_free.select(k=4))) == [first[0]["id"], first[1]["id"], second[1]["id"]]
    assert job_free.stats()["pending"] == 1


# --- uploads as NDJSON ---


def test_an_ndjson_upload_reports_every_bad_line_and_keeps_the_good_ones(pool: LivePool):
    good = [json.dumps(row).encode() for row in tickets(3)]
    body = b"\n".join(
        [
            good[0],
            b"{not json",
            b"",
            b'{"inputs": "\xff"}',
            good[1],
            b'{"inputs": 3, "outputs": "x"}',
            b'{"id": "z", "inputs": "x", "outputs": "y", "colour": 1}',
            good[2],
        ]
    )
    response = pool.request("POST", "/examples?wait=indexed", content=body, headers=NDJSON)
    (reply,) = [json.loads(line) for line in response.text.splitlines()]
    assert (reply["accepted"], reply["upto_line"], reply["indexed"]) == (3, 8, True)
    assert [(one["line"], one["id"], one["code"], one["pointer"]) for one in reply["rejected"]] == [
        (2, None, "invalid_json", ""),
        (4, None, "invalid_json", ""),
        (6, None, "type", "/inputs"),
        (7, "z", "unknown", "/colour"),
    ]
    assert "allowed: id, inputs" in reply["rejected"][3]["message"]
    assert len(pool.select(k=3)["demonstrations"]) == 3


def test_a_long_ndjson_upload_is_answered_batch_by_batch(pool: LivePool):
    body = b"\n".join(json.dumps(row).encode() for row in tickets(1100))
    response = pool.request("POST", "/examples?wait=indexed", content=body, headers=NDJSON)
    replies = [json.loads(line) for line in response.text.splitlines()]
    assert [(one["accepted"], one["upto_line"]) for one in replies] == [(500, 500), (500, 1000), (100, 1100)]
    assert [one["version"] for one in replies] == [1, 2, 3]
    assert replies[-1]["indexed"]
    assert pool.stats()["pending"] == 0


@pytest.mark.parametrize("form", ["json", "ndjson"])
def test_uploads_leave_existing_examples_alone_where_told_to(pool: LivePool, form: str):
    pool.add([{"id": "a", "inputs": "one", "outputs": "yes"}])
    rows = [{"id": "a", "inputs": "one"}, {"id": "b", "inputs": "two"}]
    if form == "json":
        response = pool.request("POST", "/examples?existing=keep", rows)
    else:
        body = b"\n".join(json.dumps(row).encode() for row in rows)
        response = pool.request("POST", "/examples?existing=keep", content=body, headers=NDJSON)
    reply = json.loads(response.text.splitlines()[-1])
    assert (reply["accepted"], reply["created"], reply["updated"], reply["unchanged"]) == (2, 1, 0, 1)
    assert pool.request("GET", "/examples/a").json()["outputs"] == "yes"
    problem = the_problem(pool.request("POST", "/examples?existing=maybe", rows), 422)
    assert pointers(problem) == ["/existing"]
