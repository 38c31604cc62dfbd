"""Who chooses, what is learnt from, and with which probability: the modes, and what is said afterwards."""

import pytest

from tests.test_server.live import Live, codes, pointers, the_problem, wait_until
from tests.test_server.live_policies import DETERMINED, decision, outcome_of, policy


def said(live: Live, reply, what: str, body=None, status: int = 200):
    url = f"/v1/decisions/{reply['decision_id']}/{what}"
    response = live.http.post(url, json=body) if body is not None else live.http.post(url)
    if status != 200:
        return the_problem(response, status)
    assert response.status_code == 200, response.text
    return response.json()


def test_an_apprentice_learns_from_what_the_caller_serves(live: Live):
    asked = policy(live, mode="apprentice")
    for i in range(30):
        reply = asked.decide(f"question {i}", served="formal")
        assert (reply["variant"], reply["probability"], reply["probability_kind"]) == (
            "formal",
            None,
            "external",
        )
        assert reply["messages"][0]["content"].startswith("formal: ")
        assert not reply["hold_out"]
        asked.tell(reply, 1.0)
    info = asked.info()
    assert outcome_of(info, "formal") == (30, 1.0)
    assert info["outcomes"] == 30
    # What it would serve itself is told all the same.
    assert asked.decide(served="brief")["ranking"][0]["variant"] == "formal"


def test_an_apprentice_has_to_be_told_what_is_served_unless_it_has_a_control(live: Live):
    asked = policy(live, mode="apprentice")
    assert pointers(the_problem(asked.ask())) == ["/served"]
    assert pointers(the_problem(asked.ask(served="none"), 404)) == ["/served"]
    asked.patch(control="warm")
    assert asked.decide()["variant"] == "warm"


def test_a_shadow_serves_the_control_and_says_what_it_would_have_served(live: Live):
    asked = policy(live, mode="shadow", control="brief")
    replies = [asked.decide(f"question {i}") for i in range(30)]
    assert {reply["variant"] for reply in replies} == {"brief"}
    assert {reply["probability"] for reply in replies} == {None}
    assert {reply["chosen"] for reply in replies} == {"brief", "formal", "warm"}


def test_a_shadow_without_control_is_refused(live: Live):
    response = live.http.post(
        "/v1/policies", json={"name": "unshadowed", "mode": "shadow", "variants": [{"name": "a"}]}
    )
    assert pointers(the_problem(response)) == ["/control"]
    assert live.http.get("/v1/policies/unshadowed").status_code == 404


def test_a_frozen_policy_chooses_and_does_not_learn(live: Live):
    asked = policy(live)
    early = asked.decide()
    asked.tell(asked.decide(), 1.0)
    frozen = asked.patch(mode="frozen")
    assert frozen["outcomes"] == 1
    during = asked.decide("b")
    assert (during["mode"], during["probability_kind"]) == ("frozen", "exact")
    asked.tell(early, 1.0)
    asked.tell(during, 1.0)
    assert asked.info()["checksum"] == frozen["checksum"]
    # The decision of before is caught up with, that of the frozen policy is not.
    assert asked.patch(mode="online")["outcomes"] == 2


def test_what_is_deferred_counts_once_it_was_shown(live: Live):
    asked = policy(live)
    reply = asked.decide(defer_activation=True)
    assert (reply["active"], reply["status"]) == (False, "inactive")
    asked.tell(reply, 1.0)
    assert asked.info()["outcomes"] == 0
    assert decision(live, reply["decision_id"])["outcome"] is None
    shown = said(live, reply, "activate")
    assert (shown["active"], shown["status"], shown["outcome"]) == (True, "active", 1.0)
    assert said(live, reply, "activate") == shown
    assert asked.info()["outcomes"] == 1


def test_what_was_cancelled_counts_for_nothing_and_for_good(live: Live):
    asked = policy(live)
    reply = asked.decide()
    empty = asked.info()["checksum"]
    asked.tell(reply, 1.0)
    assert asked.info()["outcomes"] == 1
    assert said(live, reply, "cancel")["status"] == "cancelled"
    assert said(live, reply, "cancel")["status"] == "cancelled"
    assert asked.info()["outcomes"] == 0
    assert asked.info()["checksum"] == empty
    body = {"decision_id": reply["decision_id"], "value": 0.5}
    problem = the_problem(live.http.post("/v1/feedback", json=body), 409)
    assert problem["code"] == "decision_conflict"
    assert said(live, reply, "activate", status=409)["code"] == "decision_conflict"
    assert said(live, reply, "served", {"variant": "warm"}, status=409)["code"] == "decision_conflict"


def test_what_was_served_instead_gets_the_outcome_and_has_no_probability(live: Live):
    asked = policy(live)
    reply = asked.decide()
    others = [name for name in ("brief", "formal", "warm") if name != reply["variant"]]
    asked.tell(reply, 1.0)
    assert outcome_of(asked.info(), reply["variant"]) == (1, 1.0)
    # Back and forth: the last word counts.
    for name in (others[0], others[1], others[0]):
        after = said(live, reply, "served", {"variant": name})
        assert (after["variant"], after["chosen"]) == (name, reply["chosen"])
        assert (after["probability"], after["probability_kind"]) == (None, "external")
    info = asked.info()
    assert outcome_of(info, reply["variant"]) == (0, None)
    assert outcome_of(info, others[0]) == (1, 1.0)
    problem = said(live, reply, "served", {"variant": "none"}, status=404)
    assert (problem["code"], pointers(problem)) == ("variant_not_found", ["/variant"])


@pytest.mark.parametrize("what", ["activate", "cancel"])
def test_decisions_that_nobody_made_are_not_found(live: Live, what):
    assert said(live, {"decision_id": "none"}, what, status=404)["code"] == "decision_not_found"
    assert live.http.get("/v1/decisions/none").status_code == 404


def test_the_control_is_served_where_it_does_better_than_the_policy(live: Live):
    # The policy always serves `formal`, but for a floor that shows the control to be better.
    asked = policy(
        live,
        control="brief",
        floor=0.4,
        hold_out=0.0,
        nursery=0.0,
        algorithm={"type": "fixed", "arm": "formal"},
        context={"dimension": 0},
    )
    replies = []
    for i in range(400):
        replies.append(asked.decide(f"question {i}", eligible=["brief", "formal"]))
        asked.tell(replies[-1], float(replies[-1]["variant"] == "brief"))
        if i >= 150 and i % 50 == 0:
            asked.info()
    asked.info()
    guarded = asked.decide("one more", eligible=["brief", "formal"])
    assert (guarded["variant"], guarded["probability_kind"]) == ("brief", "forced")
    assert "control_guard" in codes(guarded)
    reported = live.http.get(f"{asked.url}/report").json()["alarms"]
    assert [one["code"] for one in reported if "guard" in one["code"]] == ["control_guard"]
    alarm = f'kshot_policy_guarded{{policy="{asked.name}"}} 1.0'
    wait_until(lambda: alarm in live.http.get("/metrics").text, "the alarm")
    # Where the control may not be served, the policy goes on; and without control there is no guard.
    assert codes(asked.decide(eligible=["formal", "warm"])) == []
    assert asked.patch(control=None)["settings"]["control"] is None
    assert "control_guard" not in live.http.get(f"{asked.url}/report").text
    assert codes(asked.decide(eligible=["brief", "formal"])) == []


@pytest.mark.parametrize("algorithm", ["lin_ucb", "ucb1"])
def test_awaited_outcomes_keep_a_policy_from_herding(live: Live, algorithm):
    asked = policy(live, algorithm=algorithm, **DETERMINED)
    # Without them, the first of equals would be served to everybody.
    assert len({asked.decide("the same", render=False)["variant"] for _ in range(30)}) >= 2
