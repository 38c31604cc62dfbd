"""Deciding over HTTP: what is served and with which probability; the same request gets the same answer."""

import math
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.test_server.live import Live, codes, pointers, the_problem
from tests.test_server.live_policies import DETERMINED, VARIANTS, LivePolicy, decision, outcome_of, policy


@pytest.fixture
def asked(live: Live) -> LivePolicy:
    return policy(live)


def probabilities(reply):
    return {one["variant"]: one["probability"] for one in reply["ranking"]}


def test_a_decision_says_what_to_use_and_how_likely_that_was(asked: LivePolicy, live: Live):
    reply = asked.decide("where is my parcel")
    assert reply["variant"] == reply["chosen"]
    assert reply["probability"] == probabilities(reply)[reply["variant"]]
    # Nothing is known yet, so all are alike.
    assert list(probabilities(reply).values()) == pytest.approx([1 / 3] * 3)
    assert (reply["probability_kind"], reply["mode"], reply["status"]) == ("exact", "online", "active")
    assert reply["messages"] == [{"role": "user", "content": f"{reply['variant']}: where is my parcel"}]
    found = decision(live, reply["decision_id"])
    assert {**found, "messages": reply["messages"]} == reply


def test_outcomes_change_what_is_served(asked: LivePolicy):
    for i in range(60):
        reply = asked.decide(f"question {i}")
        asked.tell(reply, 1.0 if reply["variant"] == "warm" else 0.0)
    info = asked.info()
    assert info["outcomes"] == 60
    assert outcome_of(info, "warm")[1] == 1.0
    assert outcome_of(info, "brief")[1] == 0.0
    later = asked.decide("another question")
    assert later["ranking"][0]["variant"] == "warm"
    assert later["ranking"][0]["probability"] > 0.6
    assert math.isclose(sum(probabilities(later).values()), 1.0)
    # The floor and the hold-out reach everything.
    assert min(probabilities(later).values()) >= 0.02 / 3


def test_the_same_id_gets_the_same_answer_however_much_was_learnt_since(asked: LivePolicy):
    first = asked.decide("a", decision_id="mine-1-" + asked.name)
    for i in range(20):
        asked.tell(asked.decide(f"question {i}"), 0.0)
    asked.settled(20)
    assert asked.decide("a", decision_id="mine-1-" + asked.name) == first


def test_the_same_id_for_another_request_is_a_conflict(asked: LivePolicy, live: Live):
    taken = "taken-" + asked.name
    asked.decide("a", decision_id=taken)
    for other in (asked.ask("b", decision_id=taken), policy(live).ask("a", decision_id=taken)):
        problem = the_problem(other, 409)
        assert (problem["code"], pointers(problem)) == ("decision_conflict", ["/decision_id"])


def test_a_hundred_equal_requests_at_once_are_one_decision(asked: LivePolicy):
    with ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(lambda _: asked.decide("a", decision_id="one-" + asked.name), range(100)))
    assert all(reply == replies[0] for reply in replies)


def test_a_hundred_first_requests_of_a_session_at_once_get_one_variant(asked: LivePolicy):
    with ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(lambda i: asked.decide(f"question {i}", session_key="s"), range(100)))
    assert len({reply["variant"] for reply in replies}) == 1
    assert sum(not reply["sticky"] for reply in replies) == 1
    assert all(reply["probability_kind"] == "forced" for reply in replies if reply["sticky"])


def test_a_session_whose_variant_may_not_be_served_is_decided_anew(asked: LivePolicy):
    first = asked.decide(session_key="s")
    asked.variant(first["variant"], status="paused")
    second = asked.decide(session_key="s")
    assert second["variant"] != first["variant"]
    assert not second["sticky"]
    asked.variant(first["variant"], status="active")
    third = asked.decide(session_key="s")
    assert (third["variant"], third["sticky"]) == (second["variant"], True)


def test_one_variant_alone_is_forced(asked: LivePolicy):
    reply = asked.decide(eligible=["formal"])
    assert (reply["variant"], reply["probability"], reply["probability_kind"]) == ("formal", 1.0, "forced")
    assert probabilities(reply) == {"formal": 1.0}


def test_only_what_may_be_served_is(asked: LivePolicy):
    for i in range(30):
        reply = asked.decide(f"question {i}", eligible=["brief", "warm"], exclude=["warm"])
        assert reply["variant"] == "brief"
    asked.variant("brief", status="retired")
    assert set(probabilities(asked.decide())) == {"formal", "warm"}
    named = asked.decide(eligible=["brief", "warm"])
    assert named["variant"] == "warm"
    assert codes(named) == ["variant_not_active"]


def test_a_candidate_takes_part_where_it_is_named(asked: LivePolicy):
    asked.add(name="novel", template="novel", status="candidate")
    assert "novel" not in probabilities(asked.decide())
    assert set(probabilities(asked.decide(eligible=["novel", "warm"]))) == {"novel", "warm"}


def test_without_any_variant_the_fallback_is_served_or_the_request_refused(live: Live):
    asked = policy(live)
    names = [variant["name"] for variant in VARIANTS]
    problem = the_problem(asked.ask(exclude=names), 409)
    assert problem["code"] == "conflict"
    assert "brief is excluded" in problem["detail"]
    asked.patch(fallback="formal")
    reply = asked.decide(exclude=names)
    assert (reply["variant"], reply["probability"], reply["probability_kind"]) == ("formal", 1.0, "forced")
    assert codes(reply) == ["fallback_served"]


@pytest.mark.parametrize(
    ("options", "pointer", "status", "said"),
    [
        ({"eligible": ["brief", "none"]}, "/eligible/1", 404, "allowed brief, formal, warm"),
        ({"exclude": ["none"]}, "/exclude/0", 404, "allowed brief, formal, warm"),
        ({"served": "brief"}, "/served", 422, "chooses itself"),
        ({"inputs": None}, "/inputs", 422, "missing"),
        ({"inputs": " \n"}, "/inputs", 422, "empty"),
        ({"vector": [1.0, 0.0]}, "/vector", 409, "received 2 numbers, allowed"),
        ({"features": {"tier": "gold"}}, "/features/tier", 422, "not declared"),
        ({"cost_weight": -1}, "/cost_weight", 422, "allowed >= 0"),
        ({"budget_spent": 1.5}, "/budget_spent", 422, "allowed <= 1"),
        ({"decision_id": "no spaces"}, "/decision_id", 422, "received 'no spaces'"),
    ],
)
def test_what_does_not_fit_is_refused_and_said(asked: LivePolicy, options, pointer, status, said):
    problem = the_problem(asked.ask(**{"inputs": "a", **options}), status)
    assert pointers(problem) == [pointer]
    assert said in problem["detail"]


def test_a_variant_that_cannot_be_rendered_decides_nothing(live: Live):
    asked = policy(live, variants=[{"name": "only", "template": "{{ tone }} {{ inputs }}"}])
    own = "render-" + asked.name
    problem = the_problem(asked.ask("a", decision_id=own))
    assert problem["code"] == "invalid_template"
    assert live.http.get(f"/v1/decisions/{own}").status_code == 404
    reply = asked.decide("a", decision_id=own, variables={"tone": "kindly"})
    assert reply["messages"] == [{"role": "user", "content": "kindly a"}]
    assert asked.decide("a", render=False)["messages"] is None


def test_costs_are_set_against_quality_per_request(live: Live):
    # A weight of 1 takes 10 / 10 from dear and 1 / 10 from cheap.
    variants = [{"name": "cheap", "cost": 1.0}, {"name": "dear", "cost": 10.0}]
    asked = policy(live, variants=variants, cost_reference=10.0, algorithm="lin_ucb", **DETERMINED)
    assert asked.decide()["variant"] == "cheap"  # the tie goes to what sorts first
    for _ in range(8):
        asked.tell(asked.decide(eligible=["dear"]), 1.0)
        asked.tell(asked.decide(eligible=["cheap"]), 0.7)
    before = asked.info()["checksum"]
    assert asked.decide(cost_weight=0.0)["variant"] == "dear"
    assert asked.decide(cost_weight=1.0)["variant"] == "cheap"
    # Psi(1) = 1: 0.7 / 0.1 is worth it, 1 / 1 is not since a ridge mean stays below 1; Psi(0) = 0.04.
    spent = asked.decide(budget_spent=1.0)
    assert (spent["variant"], codes(spent)) == ("cheap", ["budget"])
    assert asked.decide(budget_spent=0.0)["variant"] == "dear"
    assert asked.info()["checksum"] == before


def test_a_policy_without_context_embeds_nothing(live: Live):
    asked = policy(
        live, algorithm="beta_thompson", context={"embedder": {"type": "external", "dimension": 9}}
    )
    reply = asked.decide(None, render=False)
    assert reply["probability_kind"] in {"quadrature", "exact"}
    asked.tell(reply, 1.0)
    asked.settled(1)


def test_features_of_the_request_are_looked_at(live: Live):
    declared = [
        {"type": "category", "name": "tier", "values": ["gold", "free"]},
        {"type": "number", "name": "turns", "low": 0, "high": 10},
    ]
    asked = policy(live, context={"dimension": 0, "features": declared}, variants=VARIANTS[:2], nursery=0.0)
    for _ in range(40):
        for tier in ("gold", "free"):
            reply = asked.decide(None, features={"tier": tier}, render=False)
            asked.tell(reply, float((reply["variant"] == "brief") == (tier == "gold")))
    asked.settled(80)
    best = {
        tier: asked.decide(None, features={"tier": tier, "turns": 5}, render=False)["ranking"][0]["variant"]
        for tier in ("gold", "free")
    }
    assert best == {"gold": "brief", "free": "formal"}
    problem = the_problem(asked.ask(None, features={"turns": "many"}))
    assert pointers(problem) == ["/features/turns"]
