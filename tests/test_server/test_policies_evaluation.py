"""Which logged decisions may say what another policy would have earned."""

from typing import Any

import numpy as np
import pytest

from tests.test_server.live import Live
from tests.test_server.test_policies_reports import create, evaluate, run

KINDS = {
    "context": {"dimension": 0, "features": [{"type": "category", "name": "kind", "values": ["x", "y"]}]}
}


def decide(live: Live, policy: str, **body: Any) -> Any:
    return live.http.post(f"/v1/policies/{policy}/decide", json=body).raise_for_status().json()


def report_back(live: Live, made: list[tuple[Any, float]]) -> None:
    items = [{"decision_id": one["decision_id"], "value": value} for one, value in made]
    reply = live.http.post("/v1/feedback:batch", json={"items": items}).raise_for_status().json()
    assert reply["accepted"] == len(items)


def test_what_a_session_keeps_was_not_drawn_and_says_nothing_of_others(live: Live) -> None:
    """Variant a is right for kind x and b for kind y: each alone earns a half.

    A policy that has learnt it gives a to sessions of kind x nearly always, and they keep it. Taken for
    decisions that were drawn, those would say that a earns far more.
    """
    policy = create(live, algorithm="epsilon_greedy", floor=0.4, **KINDS)
    rng = np.random.default_rng(5)

    def told(kind: str, session: str | None = None) -> tuple[Any, float]:
        made = decide(live, policy, features={"kind": kind}, session_key=session)
        return made, float(made["variant"] == ("a" if kind == "x" else "b"))

    report_back(live, [told(kind) for kind in rng.choice(["x", "y"], 80).tolist()])
    kinds = rng.choice(["x", "y"], 300).tolist()
    report_back(live, [told(kind, f"s{i}") for i, kind in enumerate(kinds) for _ in range(2)])
    found = evaluate(live, policy, targets=[{"variant": "a"}, {"algorithm": "uniform"}])
    assert (found["decisions"], found["without_propensity"]) == (380, 300)
    alone, even = found["data"]
    # Within four standard errors, as draws differ from run to run; what sessions keep would add .2 and .3.
    for one, truth in ((alone, 0.5), (even, 1 / 3)):
        assert abs(one["value"] - truth) <= 4 / 1.96 * (one["high"] - one["low"]) / 2


def test_a_variant_that_came_later_is_judged_by_decisions_that_could_serve_it(live: Live) -> None:
    policy = create(live, algorithm="uniform", floor=0.0, hold_out=0.0)
    run(live, policy, 200)
    added = live.http.post(f"/v1/policies/{policy}/variants", json={"name": "late"})
    assert added.status_code == 201
    report_back(live, [(decide(live, policy), 0.6) for _ in range(400)])
    late, even = evaluate(
        live, policy, targets=[{"variant": "late"}, {"algorithm": "uniform"}], estimator="snips"
    )["data"]
    assert late["value"] == pytest.approx(0.6, abs=1e-4)
    assert late["mean_weight"] == pytest.approx(1.0, abs=0.3)
    assert late["unsupported"] == 0.0
    # In the later half the newcomer takes its share.
    assert even["value"] == pytest.approx(0.6, abs=1e-4)


def test_decisions_on_other_features_are_left_out(live: Live) -> None:
    policy = create(live, algorithm="square_cb", floor=0.2, **KINDS)
    run(live, policy, 60)
    other = {"dimension": 0, "features": [{"type": "number", "name": "n", "low": 0, "high": 1}]}
    live.http.patch(f"/v1/policies/{policy}", json={"context": other}).raise_for_status()
    report_back(live, [(decide(live, policy, features={"n": 0.5}), 1.0) for _ in range(70)])
    assert evaluate(live, policy)["decisions"] == 70
    # To one that looks at no context they are all alike.
    live.http.patch(f"/v1/policies/{policy}", json={"algorithm": "beta_thompson"}).raise_for_status()
    assert evaluate(live, policy)["decisions"] == 130


def test_what_was_overridden_has_no_propensity(live: Live) -> None:
    policy = create(live, algorithm="uniform", floor=0.0, hold_out=0.0)
    made = [decide(live, policy) for _ in range(20)]
    for one in made[:5]:
        other = "b" if one["variant"] != "b" else "c"
        url = f"/v1/decisions/{one['decision_id']}/served"
        live.http.post(url, json={"variant": other}).raise_for_status()
    report_back(live, [(one, 1.0) for one in made])
    found = evaluate(live, policy)
    assert (found["decisions"], found["without_propensity"], found["earned"]) == (15, 5, 1.0)
