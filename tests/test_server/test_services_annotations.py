"""Answers over the real service: drafts are approved, nothing else is touched, and twice is once."""

import contextlib
import threading
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kshot.index.store import example_writes
from tests.test_server.live import HASHING, Live, LivePool, ids, pointers, the_problem
from tests.test_server.server_process import serving

DRAFTS = [{"id": f"t{i}", "inputs": f"ticket number {i} about my invoice"} for i in range(5)]


def annotate(pool: LivePool, *answers: Any, **options: Any) -> Any:
    response = pool.request("POST", "/annotations?wait=indexed", {"answers": list(answers), **options})
    assert response.status_code == 200, response.text
    return response.json()


def answer(id: str, outputs: Any = "billing", **fields: Any) -> dict[str, Any]:  # noqa: A002
    return {"id": id, "outputs": outputs, **fields}


def counts(reply: Any) -> dict[str, int]:
    return {name: reply[name] for name in ("approved", "replaced", "unchanged") if reply[name]}


def refused(reply: Any) -> list[tuple[int, str, str]]:
    return [(row["line"], row["pointer"], row["code"]) for row in reply["rejected"]]


def stored(pool: LivePool, example_id: str) -> Any:
    return pool.request("GET", f"/examples/{example_id}").raise_for_status().json()


@pytest.fixture
def drafts(pool: LivePool) -> LivePool:
    pool.add(DRAFTS)
    return pool


def test_an_answer_approves_a_draft_which_is_then_chosen(drafts: LivePool):
    assert drafts.select(k=5)["demonstrations"] == []
    reply = annotate(drafts, answer("t1"), answer("t3", {"label": "refund", "sure": True}))
    assert (counts(reply), reply["rejected"], reply["version"], reply["indexed"]) == (
        {"approved": 2},
        [],
        2,
        True,
    )
    assert (stored(drafts, "t1")["outputs"], stored(drafts, "t1")["status"]) == ("billing", "approved")
    assert sorted(ids(drafts.select(k=5))) == ["t1", "t3"]
    assert drafts.stats()["by_status"] == {"approved": 2, "draft": 3}


def test_who_and_when_are_kept_in_the_metadata_in_utc(pool: LivePool):
    pool.add([{**DRAFTS[0], "metadata": {"lang": "en"}}])
    annotate(pool, answer("t0", annotator="anna@example.com", annotated_at="2026-03-01T12:00:00+02:00"))
    assert stored(pool, "t0")["metadata"] == {
        "lang": "en",
        "annotator": "anna@example.com",
        "annotated_at": "2026-03-01T10:00:00+00:00",
    }
    found = pool.request(
        "GET", "/examples", params={"filter": '{"field": "metadata.annotator", "eq": "anna@example.com"}'}
    ).json()["data"]
    assert ids({"demonstrations": found}) == ["t0"]


def test_nothing_but_outputs_status_and_metadata_changes(pool: LivePool):
    row = {**DRAFTS[0], "split": "train", "group": "g", "subject_id": "s", "metadata": {"lang": "en"}}
    pool.add([row])
    before = stored(pool, "t0")
    annotate(pool, answer("t0"))
    after = stored(pool, "t0")
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"outputs", "status", "content_hash", "added_in", "updated_at"}
    assert after["metadata"] == {"lang": "en"}


def test_the_vectors_of_the_inputs_are_kept(live: Live):
    pool = live.create(f"external-{uuid4().hex}", embedder={"type": "external", "dimension": 2})
    pool.add([{**DRAFTS[0], "vector": [3.0, 4.0]}])
    annotate(pool, answer("t0"))
    assert stored(pool, "t0")["vector"] == pytest.approx([0.6, 0.8])
    assert ids(pool.select(None, vector=[1.0, 0.0], k=1)) == ["t0"]


def test_the_same_answers_again_change_nothing(drafts: LivePool):
    answers = [answer("t0", annotator="anna"), answer("t1", {"b": 1, "a": [2]})]
    assert counts(annotate(drafts, *answers)) == {"approved": 2}
    before = drafts.listed()
    again = annotate(drafts, answers[0], {**answers[1], "outputs": {"a": [2], "b": 1}})
    assert (counts(again), again["rejected"], again["version"]) == ({"unchanged": 2}, [], 2)
    # Agreeing with what is stored does not take the answer over.
    assert counts(annotate(drafts, answer("t0", annotator="ben"))) == {"unchanged": 1}
    assert drafts.listed() == before


def test_an_answer_of_another_type_is_another_answer(drafts: LivePool):
    annotate(drafts, answer("t0", {"n": 1}))
    assert refused(annotate(drafts, answer("t0", {"n": True}))) == [(1, "/outputs", "conflict")]
    assert refused(annotate(drafts, answer("t0", {"n": 1.0}))) == [(1, "/outputs", "conflict")]


def test_a_conflict_is_reported_and_the_example_keeps_what_it_has(drafts: LivePool):
    annotate(drafts, answer("t0", "billing", annotator="anna"))
    before = drafts.listed()
    reply = annotate(drafts, answer("t0", "refund"), answer("t1"))
    assert (counts(reply), refused(reply)) == ({"approved": 1}, [(1, "/outputs", "conflict")])
    assert reply["rejected"][0]["id"] == "t0"
    assert reply["rejected"][0]["message"] == "received 'refund', the example has 'billing'"
    assert [one for one in drafts.listed() if one["id"] == "t0"] == [
        one for one in before if one["id"] == "t0"
    ]


def test_a_conflict_is_replaced_where_that_is_wanted_with_who_and_when(drafts: LivePool):
    annotate(drafts, answer("t0", "billing", annotator="anna", annotated_at="2026-03-01T12:00:00Z"))
    reply = annotate(drafts, answer("t0", "refund", annotator="ben"), on_conflict="replace")
    assert counts(reply) == {"replaced": 1}
    assert (stored(drafts, "t0")["outputs"], stored(drafts, "t0")["metadata"]) == (
        "refund",
        {"annotator": "ben"},
    )
    assert counts(annotate(drafts, answer("t0", "refund"), on_conflict="replace")) == {"unchanged": 1}


def test_a_draft_that_has_outputs_already_is_approved_by_the_same_and_defended_against_others(pool: LivePool):
    pool.add([{**DRAFTS[0], "outputs": "guess", "status": "draft", "metadata": {"annotator": "model"}}])
    assert refused(annotate(pool, answer("t0", "other"))) == [(1, "/outputs", "conflict")]
    assert counts(annotate(pool, answer("t0", "guess"))) == {"approved": 1}
    assert (stored(pool, "t0")["status"], stored(pool, "t0")["metadata"]) == (
        "approved",
        {"annotator": "model"},
    )


@pytest.mark.parametrize("on_conflict", ["report", "replace"])
@pytest.mark.parametrize("outputs", ["billing", "other"])
def test_a_retired_example_stays_as_it_is(pool: LivePool, on_conflict: str, outputs: str):
    pool.add([{**DRAFTS[0], "outputs": "billing", "status": "retired"}])
    reply = annotate(pool, answer("t0", outputs), on_conflict=on_conflict)
    assert (counts(reply), refused(reply), reply["version"]) == ({}, [(1, "/id", "retired")], 1)
    assert stored(pool, "t0")["status"] == "retired"


def test_an_unknown_id_and_an_erased_one_are_reported(drafts: LivePool):
    drafts.delete(ids=["t4"])
    reply = annotate(drafts, answer("nobody"), answer("t0"), answer("t4"))
    assert refused(reply) == [(1, "/id", "unknown_id"), (3, "/id", "unknown_id")]
    assert reply["rejected"][0]["message"] == "the pool holds no example 'nobody'"
    assert counts(reply) == {"approved": 1}


def test_several_answers_to_one_example_are_taken_one_after_the_other(drafts: LivePool):
    reply = annotate(drafts, answer("t0", "a"), answer("t0", "a"), answer("t0", "b"))
    assert (counts(reply), refused(reply)) == ({"approved": 1, "unchanged": 1}, [(3, "/outputs", "conflict")])
    reply = annotate(drafts, answer("t1", "a"), answer("t1", "b"), answer("t1", "b"), on_conflict="replace")
    assert counts(reply) == {"approved": 1, "replaced": 1, "unchanged": 1}
    assert stored(drafts, "t1")["outputs"] == "b"
    assert reply["version"] == 3


@pytest.mark.parametrize(
    ("row", "pointer", "code"),
    [
        (7, "", "type"),
        ({"outputs": "x"}, "/id", "missing"),
        ({"id": "", "outputs": "x"}, "/id", "range"),
        ({"id": 1, "outputs": "x"}, "/id", "type"),
        ({"id": "t0"}, "/outputs", "missing"),
        (answer("t0", None), "/outputs", "type"),
        (answer("t0", "  "), "/outputs", "invalid"),
        (answer("t0", {}), "/outputs", "invalid"),
        (answer("t0", ["x"]), "/outputs", "type"),
        (answer("t0", "x" * 262_145), "/outputs", "range"),
        (answer("t0", annotator=7), "/annotator", "type"),
        (answer("t0", annotator="x" * 257), "/annotator", "range"),
        (answer("t0", annotated_at="2026-03-01T12:00:00"), "/annotated_at", "invalid"),
        (answer("t0", annotated_at=1_770_000_000), "/annotated_at", "invalid"),
        (answer("t0", annotated_at="0001-01-01T00:00:00+14:00"), "/annotated_at", "invalid"),
        (answer("t0", status="draft"), "/status", "unknown"),
    ],
)
def test_a_bad_answer_is_reported_by_its_field_and_stops_no_other(
    drafts: LivePool, row: Any, pointer: str, code: str
):
    reply = annotate(drafts, row, answer("t1"))
    assert (refused(reply), counts(reply)) == ([(1, pointer, code)], {"approved": 1})
    assert stored(drafts, "t0")["status"] == "draft"


def test_outputs_that_the_templates_do_not_take_are_the_answers_fault(live: Live):
    pool = live.create(f"templated-{uuid4().hex}", prompt={"output": "{{ outputs.label }}"})
    pool.add(DRAFTS)
    reply = annotate(pool, answer("t0", "no fields"), answer("t1", {"label": "x"}))
    assert refused(reply) == [(1, "/outputs", "invalid_template")]
    assert counts(reply) == {"approved": 1}


def test_metadata_does_not_grow_beyond_its_limit(pool: LivePool):
    pool.add([{**DRAFTS[0], "metadata": {f"m{i}": i for i in range(256)}}])
    assert refused(annotate(pool, answer("t0", annotator="anna"))) == [(1, "/annotator", "invalid")]
    assert counts(annotate(pool, answer("t0"))) == {"approved": 1}


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/answers"),
        ({"answers": []}, "/answers"),
        ({"answers": {}}, "/answers"),
        ({"answers": [1], "on_conflict": "merge"}, "/on_conflict"),
        ({"answers": [1], "wait": "indexed"}, "/wait"),
        ([], ""),
    ],
)
def test_a_malformed_body_is_refused_whole(pool: LivePool, body: Any, pointer: str):
    assert pointers(pool.problem("/annotations", body)) == [pointer]


def test_a_missing_pool_is_said_to_be_missing(live: Live):
    problem = the_problem(
        live.http.post("/v1/pools/nowhere/annotations", json={"answers": [answer("a")]}), 404
    )
    assert problem["code"] == "pool_not_found"


def test_a_repeated_request_gets_the_first_reply(drafts: LivePool):
    def send() -> httpx.Response:
        return drafts.request(
            "POST", "/annotations", {"answers": [answer("t0")]}, headers={"Idempotency-Key": "k1"}
        )

    first, second = send(), send()
    assert first.json()["approved"] == second.json()["approved"] == 1
    assert second.headers["idempotency-replayed"] == "true"


def test_a_failure_in_the_middle_of_a_batch_leaves_nothing_of_it(
    drafts: LivePool, monkeypatch: pytest.MonkeyPatch
):
    before = drafts.listed()

    def fail(*_: Any) -> None:
        raise RuntimeError("the power is gone")

    with monkeypatch.context() as patch:
        patch.setattr(example_writes, "set_version", fail)
        response = drafts.request("POST", "/annotations", {"answers": [answer("t0"), answer("t1")]})
        assert response.status_code == 500
    assert drafts.listed() == before
    assert counts(annotate(drafts, answer("t0"), answer("t1"))) == {"approved": 2}


def test_answers_from_several_places_at_once_are_each_taken_once(drafts: LivePool):
    replies: list[Any] = []

    def send(who: str) -> None:
        answers = [answer(f"t{i}", who, annotator=who) for i in range(5)]
        replies.append(annotate(drafts, *answers))

    threads = [threading.Thread(target=send, args=[f"w{i}"]) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(reply["approved"] for reply in replies) == 5
    assert sum(len(reply["rejected"]) for reply in replies) == 25
    assert all(one["outputs"] == one["metadata"]["annotator"] for one in drafts.listed())


def test_a_dry_run_gives_the_same_reply_and_changes_nothing(drafts: LivePool):
    annotate(drafts, answer("t0", "billing"))
    before = drafts.listed()
    answers = [answer("t0", "refund"), answer("t1"), answer("t1"), answer("nobody"), {"id": 7}]
    for on_conflict in ("report", "replace"):
        dry = annotate(drafts, *answers, on_conflict=on_conflict, dry_run=True)
        assert (drafts.listed(), dry["version"]) == (before, 2)
    real = annotate(drafts, *answers, on_conflict="replace")
    assert counts(real) == counts(dry) == {"approved": 1, "replaced": 1, "unchanged": 1}
    assert real["rejected"] == dry["rejected"]


ANSWERS = st.lists(
    st.builds(answer, st.sampled_from(["t0", "t1", "t2", "nobody"]), st.sampled_from(["a", "b"])), min_size=1
)


@settings(max_examples=15)
@given(answers=ANSWERS, cut=st.integers(0, 10), on_conflict=st.sampled_from(["report", "replace"]))
def test_it_does_not_matter_how_answers_are_cut_into_batches(
    live: Live, answers: list[Any], cut: int, on_conflict: str
):
    """One batch, two batches, and one that was broken off and sent again end in the same pool."""
    whole, halves, again = (live.create(f"p-{uuid4().hex}") for _ in range(3))
    for pool in (whole, halves, again):
        pool.add(DRAFTS[:3])
    at_once = annotate(whole, *answers, on_conflict=on_conflict)
    in_two = [
        annotate(halves, *part, on_conflict=on_conflict) for part in (answers[:cut], answers[cut:]) if part
    ]
    if answers[:cut]:
        annotate(again, *answers[:cut], on_conflict=on_conflict)
    annotate(again, *answers, on_conflict=on_conflict)

    def state(pool: LivePool) -> Any:
        return {one["id"]: (one["outputs"], one["status"]) for one in pool.listed()}

    assert state(whole) == state(halves) == state(again)
    for name in ("approved", "replaced", "unchanged"):
        assert at_once[name] == sum(reply[name] for reply in in_two)
    assert len(at_once["rejected"]) == sum(len(reply["rejected"]) for reply in in_two)


@pytest.mark.slow
@pytest.mark.component
def test_an_import_that_a_kill_broke_off_is_completed_by_importing_again(tmp_path: Path):
    """What was acknowledged is there after the next start; each batch is there as a whole or not at all."""
    size, rows = 50, [{"id": f"t{i:04d}", "inputs": f"ticket {i} about my invoice"} for i in range(2_000)]
    batches = [
        [answer(row["id"], f"label {i % 7}") for i, row in enumerate(rows[start : start + size], start)]
        for start in range(0, len(rows), size)
    ]
    acknowledged = 0
    with serving(tmp_path) as server, server.pool() as pool:
        pool.live.create(embedder=HASHING)
        pool.add(rows)
        with contextlib.suppress(httpx.TransportError):
            for number, batch in enumerate(batches):
                if number == 10:
                    threading.Timer(0.02, server.kill).start()
                reply = pool.request("POST", "/annotations", {"answers": batch}).raise_for_status().json()
                acknowledged += reply["approved"]
    assert 10 * size <= acknowledged < len(rows)
    with serving(tmp_path) as server, server.pool() as pool:
        found = {one["id"]: one for one in pool.listed()}
        per_batch = [{found[one["id"]]["status"] for one in batch} for batch in batches]
        assert all(len(statuses) == 1 for statuses in per_batch)
        present = sum(one["status"] == "approved" for one in found.values())
        assert acknowledged <= present <= acknowledged + size
        replies = [annotate(pool, *batch) for batch in batches]
        assert sum(reply["unchanged"] for reply in replies) == present
        assert sum(reply["approved"] for reply in replies) == len(rows) - present
        wanted = {one["id"]: one["outputs"] for batch in batches for one in batch}
        assert {one["id"]: one["outputs"] for one in pool.listed()} == wanted
