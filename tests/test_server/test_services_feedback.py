"""Outcomes of selections, over the real service."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from tests.test_server.live import Live, LivePool, codes, pointers, the_problem, tickets


@pytest.fixture
def filled(pool: LivePool) -> LivePool:
    pool.add(tickets(30))
    return pool


@pytest.fixture
def metric(live: Live) -> str:
    """A metric of a test's own: a number from 0 to 5."""
    name = f"stars-{uuid4().hex}"
    response = live.http.post("/v1/metrics", json={"name": name, "low": 0.0, "high": 5.0})
    assert response.status_code == 201, response.text
    return name


def told(live: Live, **body: Any) -> Any:
    response = live.http.post("/v1/feedback", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def test_the_same_feedback_counts_once(live: Live, filled: LivePool, metric: str) -> None:
    selection = filled.select()["selection_id"]
    first = told(live, selection_id=selection, metric=metric, value=4.0)
    again = told(live, selection_id=selection, metric=metric, value=4.0)
    assert (first["duplicate"], again["duplicate"]) == (False, True)
    assert again["feedback_id"] == first["feedback_id"]
    # Another value without a key is another outcome; under a key it is not, and the reply says so.
    assert not told(live, selection_id=selection, metric=metric, value=3.0)["duplicate"]
    told(live, selection_id=selection, metric=metric, value=1.0, idempotency_key="k")
    other = told(live, selection_id=selection, metric=metric, value=2.0, idempotency_key="k")
    assert other["duplicate"]
    assert codes(other) == ["value_differs"]


def test_feedback_on_a_selection_that_was_just_made_finds_it(live: Live, filled: LivePool) -> None:
    """Selections are written behind; the reply waits for that rather than not to know one."""
    for _ in range(5):
        reply = told(live, selection_id=filled.select()["selection_id"], value=1.0)
        assert not reply["parked"]


def test_an_unknown_selection_is_parked_and_says_so(live: Live) -> None:
    reply = told(live, selection_id=f"s-{uuid4().hex}", value=1.0)
    assert reply["parked"]
    assert codes(reply) == ["selection_unknown"]
    problem = the_problem(
        live.http.post("/v1/feedback", json={"selection_id": "nobody", "demonstration": "x"}), 404
    )
    assert problem["code"] == "selection_not_found"


def test_an_unknown_decision_is_refused(live: Live) -> None:
    problem = the_problem(live.http.post("/v1/feedback", json={"decision_id": "nobody", "value": 1.0}), 404)
    assert problem["code"] == "decision_not_found"


@pytest.mark.parametrize(
    ("body", "pointer", "says"),
    [
        ({"value": 6.0}, "/value", "value is 6, allowed 0 to 5"),
        ({"value": -0.1}, "/value", "allowed 0 to 5"),
        ({"value": "good"}, "/value", ""),
        ({}, "", "wants a value or a demonstration"),
        ({"kind": "retract", "value": 1.0}, "", "retracts"),
        ({"value": 1.0, "decision_id": "d"}, "", "exactly one"),
        ({"value": 1.0, "weight": 9.0}, "/weight", "8"),
        ({"value": 1.0, "of": "k"}, "", "kind is correct or retract"),
        ({"value": 1.0, "occurred_at": "2026-01-01T00:00:00"}, "/occurred_at", "with a zone"),
    ],
)
def test_what_cannot_be_is_refused(
    live: Live, filled: LivePool, metric: str, body: dict[str, Any], pointer: str, says: str
) -> None:
    selection = filled.select()["selection_id"]
    response = live.http.post("/v1/feedback", json={"selection_id": selection, "metric": metric, **body})
    problem = the_problem(response)
    assert any(one.startswith(pointer) for one in pointers(problem))
    assert says in problem["detail"]


def test_no_number_that_is_none_gets_in(live: Live, filled: LivePool) -> None:
    selection = filled.select()["selection_id"]
    for value in ("NaN", "Infinity", "1e999"):
        body = f'{{"selection_id": "{selection}", "value": {value}}}'
        response = live.http.post("/v1/feedback", content=body, headers={"Content-Type": "application/json"})
        the_problem(response)


def test_a_batch_takes_what_is_good(live: Live, filled: LivePool, metric: str) -> None:
    selection = filled.select()["selection_id"]
    good = {"selection_id": selection, "metric": metric, "value": 2.0}
    items = [good, {**good, "value": 9.0}, "nothing", good, {**good, "metric": "unheard-of"}]
    reply = live.http.post("/v1/feedback:batch", json={"items": items}).json()
    assert (reply["accepted"], reply["duplicates"]) == (1, 1)
    assert [(one["index"], one["code"]) for one in reply["refused"]] == [
        (1, "invalid_input"),
        (2, "invalid_input"),
        (4, "metric_not_found"),
    ]
    assert [one is None for one in reply["data"]] == [False, True, True, False, True]


def test_a_dry_run_changes_nothing(live: Live, filled: LivePool, metric: str) -> None:
    selection = filled.select()["selection_id"]
    body = {"selection_id": selection, "metric": metric, "value": 2.0}
    assert told(live, **body, dry_run=True)["feedback_id"] == ""
    assert not told(live, **body)["duplicate"]


def test_a_clock_that_is_ahead_is_not_believed(live: Live, filled: LivePool) -> None:
    ahead = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    reply = told(live, selection_id=filled.select()["selection_id"], value=1.0, occurred_at=ahead)
    assert codes(reply) == ["occurred_later"]


def test_a_corrected_output_becomes_one_draft_example(live: Live, filled: LivePool) -> None:
    selection = filled.select("my lamp is broken")["selection_id"]
    body = {"selection_id": selection, "demonstration": "returns", "source": "ann"}
    example_id = told(live, **body)["example_id"]
    assert told(live, **body)["example_id"] == example_id
    example = filled.request("GET", f"/examples/{example_id}").json()
    assert (example["inputs"], example["outputs"], example["status"]) == (
        "my lamp is broken",
        "returns",
        "draft",
    )
    assert example["metadata"] == {"selection_id": selection, "annotator": "ann"}
    # Once somebody approved it, the same feedback again leaves it approved.
    filled.request("PATCH", f"/examples/{example_id}", {"status": "approved"}).raise_for_status()
    told(live, **body)
    assert filled.request("GET", f"/examples/{example_id}").json()["status"] == "approved"


def test_a_pool_that_keeps_no_queries_takes_no_demonstration(live: Live) -> None:
    pool = live.create(f"pool-{uuid4().hex}", store_queries="none")
    pool.add(tickets(10))
    body = {"selection_id": pool.select()["selection_id"], "demonstration": "returns"}
    problem = the_problem(live.http.post("/v1/feedback", json=body))
    assert pointers(problem) == ["/demonstration"]
    assert "does not keep queries" in problem["detail"]


def test_metrics_are_declared_once(live: Live) -> None:
    name = f"solved-{uuid4().hex}"
    body = {"name": name, "type": "boolean", "better": "high", "window_s": 60.0, "default": 0.0}
    first = live.http.post("/v1/metrics", json=body)
    assert first.status_code == 201
    assert live.http.post("/v1/metrics", json=body).json() == first.json()
    problem = the_problem(live.http.post("/v1/metrics", json={**body, "window_s": 61.0}), 409)
    assert problem["code"] == "metric_exists"
    assert "window_s 60.0" in problem["detail"]
    assert live.http.get(f"/v1/metrics/{name}").json() == first.json()
    assert name in [
        one["name"] for one in live.http.get("/v1/metrics", params={"limit": 1000}).json()["data"]
    ]
    ranged = {"name": f"{name}-b", "type": "boolean", "high": 2.0}
    assert "neither low nor high" in the_problem(live.http.post("/v1/metrics", json=ranged))["detail"]


def test_an_example_that_hurts_is_put_in_quarantine(live: Live, pool: LivePool, metric: str) -> None:
    pool.add(tickets(12))
    bad = "t00003"
    shown_bad = 0
    for number in range(60):
        reply = pool.select(f"word{number % 7} number{number}", k=3, method="random", seed=number)
        chosen = [one["id"] for one in reply["demonstrations"]]
        shown_bad += bad in chosen
        value = 1.0 if bad in chosen else 4.0
        told(live, selection_id=reply["selection_id"], metric=metric, value=value + 0.1 * (number % 3))
    response = pool.request("GET", "/utilities", params={"metric": metric})
    page = response.json()
    assert page["selections"] == 60
    worst = page["data"][0]
    assert (worst["example_id"], worst["shown"], worst["quarantined"]) == (bad, shown_bad, True)
    # 3 of 5 stars less is 0.6 of the range. Each of nine is shown by a third of 60: 60/3 * 2/3 of a selection
    # tells it apart, against 2 that the penalty adds without effect.
    assert worst["effect"] == pytest.approx(-0.6 * 13.3 / 15.3, abs=0.1)
    assert worst["low"] < worst["effect"] < worst["high"] < 0
    assert not any(one["quarantined"] for one in page["data"][1:])
    first = pool.request("GET", "/utilities", params={"metric": metric, "limit": 5}).json()
    rest = pool.request("GET", "/utilities", params={"metric": metric, "cursor": first["next_cursor"]}).json()
    assert [*first["data"], *rest["data"]] == page["data"]


def test_a_retracted_outcome_no_longer_counts(live: Live, filled: LivePool, metric: str) -> None:
    for number in range(3):
        reply = filled.select(k=2, seed=number)
        told(live, selection_id=reply["selection_id"], metric=metric, value=float(number))
    assert filled.request("GET", "/utilities", params={"metric": metric}).json()["selections"] == 3
    told(live, selection_id=reply["selection_id"], metric=metric, kind="retract")
    assert filled.request("GET", "/utilities", params={"metric": metric}).json()["selections"] == 2
