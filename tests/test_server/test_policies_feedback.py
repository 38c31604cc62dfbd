"""What is said of a decision, and what its policy makes of that, over the real service."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from tests.test_server.live import Live
from tests.test_server.live_policies import decision, policy


def batch(live: Live, items: list[dict[str, Any]]) -> Any:
    return live.http.post("/v1/feedback:batch", json={"items": items}).raise_for_status().json()


def metric(live: Live, **settings: Any) -> str:
    name = f"metric-{uuid4().hex}"
    response = live.http.post("/v1/metrics", json={"name": name, **settings})
    assert response.status_code == 201, response.text
    return name


def test_a_batch_may_correct_and_take_back_what_it_said_before(live: Live) -> None:
    asked = policy(live)
    ids = [asked.decide(f"question {i}")["decision_id"] for i in range(3)]
    items: list[dict[str, Any]] = [{"decision_id": one, "value": 1.0} for one in ids]
    items.append({"decision_id": ids[0], "value": 0.0, "kind": "correct"})
    items.append({"decision_id": ids[1], "kind": "retract"})
    reply = batch(live, items)
    assert (reply["accepted"], reply["refused"]) == (5, [])
    assert [decision(live, one)["outcome"] for one in ids] == [0.0, None, 1.0]


def test_what_comes_after_its_window_is_kept_and_said_not_to_be_learnt_from(live: Live) -> None:
    asked = policy(live, metric=metric(live, window_s=60))
    made = asked.decide()
    later = (datetime.now(UTC) + timedelta(seconds=120)).isoformat()
    reply = asked.tell(made, 1.0, occurred_at=later)
    assert (reply["duplicate"], reply["folded"]) == (False, False)
    assert [one["code"] for one in reply["warnings"]] == ["not_learnt"]
    assert decision(live, made["decision_id"])["outcome"] is None
    assert asked.tell(made, 1.0)["folded"]
    assert decision(live, made["decision_id"])["outcome"] == 1.0


def test_what_a_frozen_policy_decided_teaches_nobody_and_that_is_said(live: Live) -> None:
    asked = policy(live, mode="frozen")
    made = asked.decide()
    reply = asked.tell(made, 1.0)
    assert not reply["folded"]
    assert [one["message"].partition(":")[0] for one in reply["warnings"]] == [
        "the policy was frozen as it decided"
    ]
    weightless = policy(live)
    reply = weightless.tell(weightless.decide(), 1.0, weight=0.0)
    assert not reply["folded"]
    assert [one["code"] for one in reply["warnings"]] == ["not_learnt"]
