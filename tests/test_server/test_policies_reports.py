"""Reports on policies, and what others would have earned, over the real service and in known worlds."""

from typing import Any
from uuid import uuid4

import numpy as np
import pytest

from tests.test_server.live import Live, pointers, the_problem

MEANS = {"a": 0.2, "b": 0.5, "c": 0.8}
DECISIONS = 600


def create(live: Live, **settings: Any) -> str:
    name = f"policy-{uuid4().hex}"
    body = {
        "name": name,
        "variants": [{"name": arm} for arm in MEANS],
        "context": {"dimension": 0},
        **settings,
    }
    response = live.http.post("/v1/policies", json=body)
    assert response.status_code == 201, response.text
    return name


def run(live: Live, policy: str, decisions: int, seed: int = 0) -> list[tuple[str, float]]:
    """Decide so often, and report outcomes of the world in which arms succeed by `MEANS`."""
    rng = np.random.default_rng(seed)
    seen, items = [], []
    for _ in range(decisions):
        made = live.http.post(f"/v1/policies/{policy}/decide", json={}).json()
        reward = float(rng.random() < MEANS[made["variant"]])
        seen.append((made["variant"], reward))
        items.append({"decision_id": made["decision_id"], "value": reward})
    reply = live.http.post("/v1/feedback:batch", json={"items": items}).json()
    assert (reply["accepted"], reply["refused"]) == (decisions, [])
    return seen


@pytest.fixture(scope="module")
def told(live: Live) -> tuple[str, list[tuple[str, float]]]:
    """A policy that decides evenly, with its decisions and their rewards."""
    name = create(live, algorithm="uniform", floor=0.0, hold_out=0.1)
    return name, run(live, name, DECISIONS)


def report(live: Live, policy: str, **params: Any) -> Any:
    return live.http.get(f"/v1/policies/{policy}/report", params=params).raise_for_status().json()


def evaluate(live: Live, policy: str, **body: Any) -> Any:
    response = live.http.post(f"/v1/policies/{policy}/evaluate", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def test_a_report_counts_what_happened(live: Live, told: tuple[str, list[tuple[str, float]]]) -> None:
    policy, seen = told
    found = report(live, policy, periods=5)
    for arm in found["arms"]:
        rewards = [reward for name, reward in seen if name == arm["variant"]]
        assert (arm["decisions"], arm["outcomes"]) == (len(rewards), len(rewards))
        assert arm["mean"] == pytest.approx(np.mean(rewards), abs=1e-4)
        assert arm["share"] == pytest.approx(len(rewards) / DECISIONS)
        assert arm["low"] <= MEANS[arm["variant"]] <= arm["high"]
    assert len(found["periods"]) == 5
    assert sum(arm["decisions"] for period in found["periods"] for arm in period["arms"]) == DECISIONS
    for period in found["periods"]:
        # The machine may stand still for a period.
        some = any(arm["decisions"] for arm in period["arms"])
        assert sum(arm["share"] for arm in period["arms"]) == pytest.approx(float(some))
    assert found["hold_out_mean"] is not None
    assert found["alarms"] == []


def test_a_policy_without_decisions_has_a_report(live: Live) -> None:
    found = report(live, create(live))
    assert found["periods"] == []
    assert [arm["mean"] for arm in found["arms"]] == [None] * 3


def test_estimates_cover_what_arms_are_worth(live: Live, told: tuple[str, list[tuple[str, float]]]) -> None:
    policy, seen = told
    found = evaluate(live, policy)
    assert found["decisions"] == DECISIONS
    assert found["earned"] == pytest.approx(np.mean([reward for _, reward in seen]), abs=1e-4)
    by_target = {one["target"]: one for one in found["data"]}
    for arm, mean in MEANS.items():
        one = by_target[arm]
        assert one["refusal"] is None
        # Within four standard errors, as draws differ from run to run.
        assert abs(one["value"] - mean) <= 4 / 1.96 * (one["high"] - one["low"]) / 2, (arm, one)
        assert one["mean_weight"] == pytest.approx(1.0, abs=0.25)
        assert set(one["all_estimators"]) >= {"ips", "snips", "dm", "dr", "sndr", "switch", "dros"}
    # Self-normalised weights of one arm that was always as probable: the plain mean of its rewards.
    rewards = [reward for name, reward in seen if name == "c"]
    assert by_target["c"]["all_estimators"]["snips"] == pytest.approx(np.mean(rewards), abs=1e-4)


def test_an_algorithm_that_learns_is_worth_more_than_chance(
    live: Live, told: tuple[str, list[tuple[str, float]]]
) -> None:
    policy, _ = told
    targets = [{"algorithm": "beta_thompson"}, {"algorithm": "uniform"}]
    greedy, even = evaluate(live, policy, targets=targets, estimator="snips")["data"]
    assert (greedy["target"], even["target"]) == ("beta_thompson", "uniform")
    # It has learnt from the first half which arm is best; the second half says what that earns.
    assert greedy["value"] > even["value"] + 0.15
    half = (greedy["high"] - greedy["low"]) / 2
    assert greedy["value"] <= MEANS["c"] + 4 / 1.96 * half


def test_what_the_log_cannot_say_is_refused(live: Live) -> None:
    policy = create(live, algorithm="uniform", floor=0.0, hold_out=0.0)
    run(live, policy, 30)
    for one in evaluate(live, policy)["data"]:
        assert one["value"] is None
        assert "50" in one["refusal"]
    empty = evaluate(live, create(live))
    assert (empty["decisions"], empty["earned"]) == (0, None)
    assert "no decision" in empty["data"][0]["refusal"]


def test_decisions_that_the_caller_took_say_nothing_about_others(live: Live) -> None:
    policy = create(live, mode="apprentice")
    items = []
    for _ in range(60):
        made = live.http.post(f"/v1/policies/{policy}/decide", json={"served": "a"}).json()
        assert made["probability"] is None
        items.append({"decision_id": made["decision_id"], "value": 1.0})
    live.http.post("/v1/feedback:batch", json={"items": items}).raise_for_status()
    found = evaluate(live, policy, targets=[{"variant": "a"}])
    assert (found["decisions"], found["without_propensity"]) == (0, 60)
    assert found["data"][0]["value"] is None


def test_outcomes_that_come_from_some_variants_only_raise_an_alarm(live: Live) -> None:
    """Decisions are closed once their window has passed: a metric of a millisecond is."""
    metric = f"quick-{uuid4().hex}"
    live.http.post("/v1/metrics", json={"name": metric, "window_s": 0.001, "late": "fold"}).raise_for_status()
    policy = create(live, algorithm="uniform", metric=metric)
    items = []
    for _ in range(150):
        made = live.http.post(f"/v1/policies/{policy}/decide", json={}).json()
        if made["variant"] != "a":
            items.append({"decision_id": made["decision_id"], "value": 1.0})
    live.http.post("/v1/feedback:batch", json={"items": items}).raise_for_status()
    assert [alarm["code"] for alarm in report(live, policy)["alarms"]] == ["feedback_rates_differ"]


@pytest.mark.parametrize(
    ("body", "pointer", "status"),
    [
        ({"estimator": "best"}, "/estimator", 422),
        ({"targets": [{"variant": "z"}]}, "/targets/0/variant", 404),
        ({"targets": [{"algorithm": "z"}]}, "", 422),
        ({"targets": [{"floor": 2}]}, "/targets/0/floor", 422),
    ],
)
def test_what_cannot_be_is_refused(
    live: Live,
    told: tuple[str, list[tuple[str, float]]],
    body: dict[str, Any],
    pointer: str,
    status: int,
) -> None:
    response = live.http.post(f"/v1/policies/{told[0]}/evaluate", json=body)
    problem = the_problem(response, status)
    assert any(one.startswith(pointer) for one in pointers(problem))


def test_an_unknown_policy_has_neither(live: Live) -> None:
    assert the_problem(live.http.get("/v1/policies/nobody/report"), 404)["code"] == "policy_not_found"
    assert the_problem(live.http.post("/v1/policies/nobody/evaluate", json={}), 404)["code"] == (
        "policy_not_found"
    )
