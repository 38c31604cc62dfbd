"""Policies and variants come, change and go; what was learnt stays where it belongs."""

from pathlib import Path
from uuid import uuid4

import pytest

from kshot.selectors.bandits import POLICIES
from tests.test_server.live import (
    HASHING,
    Live,
    LivePool,
    codes,
    pointers,
    running,
    the_problem,
    tickets,
    wait_until,
)
from tests.test_server.live_policies import (
    DETERMINED,
    VARIANTS,
    LivePolicy,
    body,
    decision,
    policy,
)


def taught(asked: LivePolicy, n: int = 12, **options):
    for i in range(n):
        reply = asked.decide(f"question {i}", **options)
        asked.tell(reply, float(reply["variant"] == "warm"))
    asked.settled(n)
    return asked.info()


def create(live: Live, **changes):
    return live.http.post("/v1/policies", json=body(f"policy-{uuid4().hex}", **changes))


def test_a_policy_says_how_it_stands(live: Live):
    asked = policy(live, metric="reward", floor=0.1)
    info = taught(asked)
    assert (info["version"], info["outcomes"], info["warnings"]) == (1, 12, [])
    assert info["settings"]["algorithm"] == "square_cb"
    assert info["settings"]["floor"] == 0.1
    assert [one["name"] for one in info["variants"]] == [one["name"] for one in VARIANTS]
    assert sum(one["outcomes"] for one in info["variants"]) == 12
    listed = live.http.get("/v1/policies?limit=1000").json()["data"]
    assert info in listed
    assert [one["name"] for one in listed] == sorted(one["name"] for one in listed)
    assert live.http.get("/v1/metrics/reward").json()["high"] == 1.0


def test_an_arm_that_comes_later_leaves_the_others_as_they_are(live: Live):
    asked = policy(live)
    before = taught(asked)
    after = asked.add(name="novel", template="novel: {{ inputs }}", cost=0.5)
    assert after["checksum"] == before["checksum"]
    assert after["variants"][:3] == before["variants"]
    # A third of a fifth, a quarter or less: newcomers get their share, and the floor.
    share = {one["variant"]: one["probability"] for one in asked.decide()["ranking"]}
    assert share["novel"] >= 0.2 / 4
    problem = the_problem(live.http.post(f"{asked.url}/variants", json={"name": "novel"}), 409)
    assert "never changes" in problem["detail"]


def test_an_edit_starts_near_what_its_parent_learnt_but_is_less_sure(live: Live):
    asked = policy(live, algorithm={"type": "lin_ucb", "alpha": 0.0}, **DETERMINED)
    for _ in range(20):
        asked.tell(asked.decide(eligible=["warm"]), 1.0)
        asked.tell(asked.decide(eligible=["brief"]), 0.0)
    asked.settled(40)
    asked.add(name="warmer", template="warmer: {{ inputs }}", parent="warm")
    asked.add(name="stranger", template="stranger: {{ inputs }}")
    known = {one["variant"]: one for one in asked.decide()["ranking"]}
    assert known["warmer"]["mean"] == pytest.approx(known["warm"]["mean"], abs=0.1)
    assert known["stranger"]["mean"] == pytest.approx(0.5)
    assert known["warmer"]["width"] > 3 * known["warm"]["width"]
    problem = the_problem(live.http.post(f"{asked.url}/variants", json={"name": "x", "parent": "none"}))
    assert pointers(problem) == ["/parent"]


def test_a_prior_of_its_own_counts_as_so_many_outcomes(live: Live):
    variants = [{"name": "a", "prior": {"reward": 0.9, "events": 50}}, {"name": "b"}]
    asked = policy(live, variants=variants, algorithm="ucb1", **DETERMINED)
    known = {one["variant"]: one for one in asked.decide()["ranking"]}
    assert known["a"]["mean"] == pytest.approx(0.9)
    # The untried one is as uncertain as can be.
    assert known["b"]["width"] is None
    assert asked.decide()["variant"] == "b"


def test_another_algorithm_learns_from_the_log_what_it_can(live: Live):
    asked = policy(live)
    before = taught(asked)
    after = asked.patch(algorithm={"type": "lin_ucb", "alpha": 1.0})
    assert (after["version"], after["outcomes"]) == (2, 12)
    # The same sums, for both are linear on the same features.
    assert after["checksum"] == before["checksum"]
    assert asked.decide()["policy_version"] == 2
    without = asked.patch(algorithm="gaussian_thompson")
    assert (without["version"], without["outcomes"]) == (3, 12)
    assert codes(without) == ["context_unused"]
    # Of other features nobody knows what those of the old queries would have been.
    other = asked.patch(algorithm="square_cb", context={"embedder": HASHING, "dimension": 4})
    assert (other["version"], other["outcomes"]) == (4, 0)
    assert asked.patch(floor=0.5)["version"] == 4


def test_what_is_changed_at_the_same_time_is_not_lost(live: Live):
    asked = policy(live)
    asked.patch(floor=0.3)
    asked.patch(fallback="brief", hold_out=0.0)
    settings = asked.patch(control="warm")["settings"]
    assert (settings["floor"], settings["hold_out"]) == (0.3, 0.0)
    assert (settings["control"], settings["fallback"]) == ("warm", "brief")
    assert asked.patch(fallback=None)["settings"]["fallback"] is None


def test_a_restart_reaches_the_same_state(tmp_path: Path):
    with running(tmp_path) as live:
        first = policy(live, "p")
        info = taught(first, 20)
        repeated = first.decide("a", decision_id="mine", session_key="s")
    with running(tmp_path) as live:
        again = LivePolicy(live, "p")
        assert again.info() == info
        assert again.decide("a", decision_id="mine", session_key="s") == repeated
        assert again.decide("b", session_key="s")["variant"] == repeated["variant"]


def test_a_default_counts_at_the_end_of_the_window_of_what_was_shown(live: Live):
    metric = {"name": f"metric-{uuid4().hex}", "window_s": 0.2, "default": 0.25, "late": "log_only"}
    assert live.http.post("/v1/metrics", json=metric).status_code == 201
    asked = policy(live, metric=metric["name"])
    told, silent, hidden = asked.decide(), asked.decide(), asked.decide(defer_activation=True)
    gone = asked.decide()
    live.http.post(f"/v1/decisions/{gone['decision_id']}/cancel").raise_for_status()
    asked.tell(told, 1.0)
    wait_until(lambda: decision(live, silent["decision_id"])["outcome"] == 0.25, "the default")
    assert decision(live, told["decision_id"])["outcome"] == 1.0
    assert decision(live, hidden["decision_id"])["outcome"] is None
    asked.settled(2)
    # What comes after the window is kept, and changes nothing.
    asked.tell(silent, 1.0)
    assert decision(live, silent["decision_id"])["outcome"] == 0.25


def test_a_subject_is_erased_with_all_that_was_learnt_of_it(live: Live):
    asked, clean = policy(live), policy(live)
    subject = f"subject-{uuid4().hex}"
    for i in range(30):
        own = asked.decide(f"question {i}", subject_id=subject if i % 3 == 0 else None, session_key=f"s{i}")
        asked.tell(own, 0.7, source="user")
        if i % 3:
            # The same outcomes in a policy that never saw the subject.
            twin = clean.decide(f"question {i}", eligible=[own["variant"]])
            clean.tell(twin, 0.7)
        else:
            last = own
    asked.settled(30)
    clean.settled(20)
    assert asked.info()["checksum"] != clean.info()["checksum"]
    reply = live.http.post("/v1/decisions:delete", json={"subject_id": subject})
    assert reply.json() == {"deleted": 10}
    assert asked.info()["checksum"] == clean.info()["checksum"]
    assert live.http.get(f"/v1/decisions/{last['decision_id']}").status_code == 404
    body_ = {"decision_id": last["decision_id"], "value": 1.0}
    assert live.http.post("/v1/feedback", json=body_).status_code == 404
    # A session of the subject starts anew.
    assert not asked.decide(session_key="s27")["sticky"]
    assert live.http.post("/v1/decisions:delete", json={"subject_id": subject}).json() == {"deleted": 0}


def test_a_frozen_policy_forgets_a_subject_as_well(live: Live):
    asked = policy(live)
    empty = asked.info()["checksum"]
    subject = f"subject-{uuid4().hex}"
    asked.tell(asked.decide(subject_id=subject), 1.0)
    assert asked.patch(mode="frozen")["outcomes"] == 1
    assert live.http.post("/v1/decisions:delete", json={"subject_id": subject}).json() == {"deleted": 1}
    assert asked.info()["checksum"] == empty


def test_a_deleted_policy_is_gone_with_its_decisions(live: Live):
    asked = policy(live)
    reply = asked.decide()
    assert live.http.delete(asked.url).status_code == 204
    assert live.http.get(asked.url).status_code == 404
    assert asked.ask().status_code == 404
    assert live.http.get(f"/v1/decisions/{reply['decision_id']}").status_code == 404
    assert asked.name not in live.http.get("/metrics").text
    again = policy(live, asked.name)
    assert again.info()["outcomes"] == 0


def test_prompts_of_the_registry_follow_their_label_and_decisions_keep_their_version(live: Live):
    name = f"prompt-{uuid4().hex}"
    for template in ("one: {{ inputs }}", "two: {{ inputs }}"):
        path = "/v1/prompts" if template.startswith("one") else f"/v1/prompts/{name}/versions"
        content = {"template": template, "labels": ["candidate"] if template.startswith("one") else []}
        named = {"name": name} if path == "/v1/prompts" else {}
        assert live.http.post(path, json={**named, **content}).status_code == 201
    asked = policy(live, variants=[{"name": "a", "prompt": {"name": name, "label": "candidate"}}])
    own = f"own-{name}"
    first = asked.decide("x", decision_id=own)
    assert (first["prompt"], first["messages"][0]["content"]) == ({"name": name, "version": 1}, "one: x")
    live.http.put(f"/v1/prompts/{name}/labels/candidate", json={"version": 2}).raise_for_status()
    assert asked.decide("x")["messages"][0]["content"] == "two: x"
    assert asked.decide("x", decision_id=own) == first


def test_a_policy_may_look_through_the_eyes_of_a_pool(pool: LivePool, live: Live):
    pool.add(tickets(10))
    asked = policy(live, context={"pool": pool.name, "dimension": 8})
    taught(asked, 5)
    # Embedded otherwise, the old decisions say nothing any more.
    pool.patch(embed_template="{{ inputs | upper }}!")
    wait_until(lambda: asked.decide()["variant"] and asked.info()["outcomes"] == 0, "other features")
    taught(asked, 3)


def test_every_algorithm_is_described_and_can_decide(live: Live):
    infos = live.http.get("/v1/algorithms").json()["data"]
    assert [one["name"] for one in infos] == list(POLICIES.names())
    for info in infos:
        assert info["description"].endswith(".")
        asked = policy(live, algorithm=info["name"])
        reply = asked.decide()
        assert sum(one["probability"] for one in reply["ranking"]) == pytest.approx(1.0)
        asked.tell(reply, 1.0)
        assert asked.info()["outcomes"] == 1
        asked.decide()


@pytest.mark.parametrize(
    ("changes", "pointer", "said"),
    [
        ({"algorithm": "none"}, "/algorithm", "allowed beta_thompson"),
        ({"algorithm": {"type": "none"}}, "/algorithm/type", "allowed beta_thompson"),
        ({"algorithm": {"type": "square_cb", "gama": 1.0}}, "/algorithm/gama", "allowed: gamma"),
        ({"algorithm": {"type": "square_cb", "gamma": -1.0}}, "/algorithm/gamma", "allowed >= 0"),
        ({"algorithm": "fixed", "half_life_s": 60.0}, "/half_life_s", "forgets nothing"),
        ({"context": {"embedder": HASHING, "dimension": 65}}, "/context/dimension", "allowed <= 64"),
        ({"context": {"pool": "none"}}, "/context/pool", "no pool"),
        ({"floor": 1.5}, "/floor", "allowed <= 1"),
        ({"control": "none"}, "", "none of its variants"),
        ({"variants": []}, "/variants", "at least 1"),
        ({"variants": [{"name": "a", "template": "{{ }"}]}, "/variants/0/template", ""),
        ({"variants": [{"name": "a", "prompt": {"name": "none"}}]}, "/variants/0/prompt", "none"),
        ({"variants": [{"name": "a", "parent": "b"}]}, "/variants/0/parent", "allowed none"),
        ({"variants": [{"name": "a", "selector": {"method": "none"}}]}, "/variants/0/selector", "allowed"),
    ],
)
def test_what_cannot_be_a_policy_is_refused_and_said(live: Live, changes, pointer, said):
    response = create(live, **changes)
    problem = the_problem(response, response.status_code)
    assert response.status_code in {404, 422}
    assert pointers(problem)[0].startswith(pointer)
    assert said in problem["detail"]


def test_a_taken_name_and_unknown_names_are_said(live: Live):
    asked = policy(live)
    problem = the_problem(live.http.post("/v1/policies", json=body(asked.name)), 409)
    assert problem["code"] == "policy_exists"
    problem = the_problem(live.http.patch(f"{asked.url}/variants/none", json={"status": "paused"}), 404)
    assert (problem["code"], "it has brief, formal, warm" in problem["detail"]) == ("variant_not_found", True)
    problem = the_problem(live.http.patch("/v1/policies/none", json={"floor": 0.1}), 404)
    assert problem["code"] == "policy_not_found"
    assert pointers(the_problem(live.http.patch(asked.url, json={"floor": None}))) == ["/floor"]
    assert pointers(the_problem(live.http.patch(asked.url, json={"control": "none"}))) == ["/control"]


def test_choices_are_counted(live: Live):
    asked = policy(live)
    reply = asked.decide(decision_id="counted-" + asked.name, eligible=["warm"])
    asked.decide(decision_id="counted-" + asked.name, eligible=["warm"])
    asked.ask(None)
    assert reply["variant"] == "warm"
    text = live.http.get("/metrics").text
    assert f'kshot_policy_choice_total{{policy="{asked.name}",variant="warm"}} 1.0' in text
    for outcome in ("new", "repeated", "refused"):
        assert f'kshot_decisions_total{{outcome="{outcome}",policy="{asked.name}"}} 1.0' in text


def test_reported_costs_take_the_place_of_declared_ones_and_are_kept_apart_from_rewards(live: Live):
    metric = {"name": f"usd-{uuid4().hex}", "low": 0.0, "high": 10.0, "better": "low", "aggregate": "sum"}
    assert live.http.post("/v1/metrics", json=metric).status_code == 201
    variants = [{"name": "big", "cost": 1.0}, {"name": "small", "cost": 1.0}, {"name": "new"}]
    asked = policy(live, variants=variants, cost_metric=metric["name"], algorithm="lin_ucb", **DETERMINED)

    def costs():
        return {one["name"]: one["cost"] for one in asked.info()["variants"]}

    assert costs() == {"big": 1.0, "small": 1.0, "new": None}
    own = asked.decide(eligible=["big"])
    for part in (2.0, 3.0):
        asked.tell(own, part, metric=metric["name"])
    asked.tell(asked.decide(eligible=["big"]), 3.0, metric=metric["name"])
    asked.tell(asked.decide(eligible=["small"]), 0.5, metric=metric["name"])
    # big: 5 and 3; small: 0.5; the new one as the mean of all three.
    assert costs() == {"big": 4.0, "small": 0.5, "new": pytest.approx(8.5 / 3)}
    assert asked.info()["outcomes"] == 0
    assert asked.decide(cost_weight=1.0)["variant"] == "small"
    # A cancelled decision has cost nothing either.
    live.http.post(f"/v1/decisions/{own['decision_id']}/cancel").raise_for_status()
    assert costs()["big"] == 3.0
    # The same by a replay: without the metric nothing is known of it, and with it again all.
    assert asked.patch(cost_metric=None)["variants"][0]["cost"] == 1.0
    assert asked.patch(cost_metric=metric["name"])["variants"][0]["cost"] == 3.0
    assert pointers(the_problem(live.http.patch(asked.url, json={"cost_metric": "reward"}))) == [
        "/cost_metric"
    ]
    problem = the_problem(live.http.patch(asked.url, json={"cost_metric": "none"}), 404)
    assert problem["code"] == "metric_not_found"


def test_where_variants_are_alike_one_says_something_of_another(live: Live):
    variants = [
        {"name": "polite", "template": "please be so kind and answer politely: {{ inputs }}"},
        {"name": "rude", "template": "ANSWER!!! NOW!!! {{ inputs }}"},
    ]
    algorithm = {"type": "lin_ucb", "hybrid": True, "alpha": 0.0}
    asked = policy(live, variants=variants, algorithm=algorithm, **DETERMINED)
    for i in range(30):
        asked.tell(asked.decide(f"question {i}", eligible=["polite"]), 1.0)
        asked.tell(asked.decide(f"question {i}", eligible=["rude"]), 0.0)
    asked.settled(60)
    asked.add(name="kind", template="please be kind and answer so politely: {{ inputs }}")
    asked.add(name="angry", template="ANSWER! NOW!!! AT ONCE!!! {{ inputs }}")
    means = {one["variant"]: one["mean"] for one in asked.decide("another question")["ranking"]}
    assert means["polite"] > 0.8
    assert means["kind"] > 0.6
    assert means["angry"] < 0.4
