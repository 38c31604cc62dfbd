"""Prompts, policies, decisions and outcomes: one suite for the three clients."""

from uuid import uuid4

import pytest

import kshot
from kshot.errors import (
    DecisionConflict,
    DecisionNotFound,
    InvalidInput,
    InvalidTemplate,
    MetricExists,
    PolicyExists,
    PolicyNotFound,
    PromptExists,
    PromptNotFound,
    VariantNotFound,
)

NO_CONTEXT = {"dimension": 0}


@pytest.fixture
def name():
    return f"n-{uuid4().hex}"


@pytest.fixture
def policy(client, name):
    client.create_prompt(name, "Say {{ word }}.", labels=["production"])
    client.add_prompt_version(name, "Shout {{ word }}!")
    variants = [
        {"name": "say", "prompt": {"name": name, "version": 1}},
        {"name": "shout", "prompt": {"name": name, "version": 2}, "parameters": {"model": "m"}},
    ]
    client.create_policy(name, variants, algorithm="beta_thompson", context=NO_CONTEXT)
    return name


def test_prompts_in_versions(client, name):
    first = client.create_prompt(name, "Say {{ word }}.", system="Be kind.", metadata={"by": "ann"})
    assert (first.version, first.variables) == (1, ["word"])
    second = client.add_prompt_version(name, messages=[{"role": "user", "content": "{{ word }}!"}])
    assert client.label_prompt(name, "production", 2).labels == ["production"]
    assert [one.version for one in client.list_prompt_versions(name)] == [2, 1]
    assert client.get_prompt(name) == client.get_prompt(name, "production")
    assert client.get_prompt(name, 2).messages == second.messages
    assert name in [one.name for one in client.list_prompts()]
    made = client.render_prompt(name, {"word": "hi"}, version=1)
    assert [message.content for message in made.messages] == ["Be kind.", "Say hi."]
    with pytest.raises(InvalidTemplate, match="uses word"):
        client.render_prompt(name)
    with pytest.raises(PromptExists):
        client.create_prompt(name, "x")
    client.delete_prompt(name)
    with pytest.raises(PromptNotFound):
        client.get_prompt(name)


def test_a_decision_comes_with_its_prompt_and_takes_its_outcome_back(client, policy):
    decision = client.decide(policy, "hello", variables={"word": "hi"})
    assert isinstance(decision, kshot.Decision)
    wanted = {"say": "Say hi.", "shout": "Shout hi!"}[decision.variant]
    assert decision.messages == [{"role": "user", "content": wanted}]
    assert sum(one.probability for one in decision.ranking) == pytest.approx(1.0)
    chosen = next(one for one in decision.ranking if one.variant == decision.variant)
    assert decision.probability == pytest.approx(chosen.probability)
    decision.feedback(1.0, source="test")
    assert client.flush_feedback(30)
    assert client.get_decision(decision.decision_id).reply.outcome == 1.0


def test_feedback_that_is_awaited(client, policy):
    decision = client.decide(policy, variables={"word": "hi"})
    reply = client.feedback(0.5, decision_id=decision.decision_id, idempotency_key="k")
    assert (reply.folded, reply.duplicate) == (True, False)
    assert client.feedback(0.5, decision_id=decision.decision_id, idempotency_key="k").duplicate
    client.feedback(1.0, decision_id=decision.decision_id, kind="correct")
    assert client.get_decision(decision.decision_id).reply.outcome == 1.0
    client.feedback(decision_id=decision.decision_id, kind="retract")
    assert client.get_decision(decision.decision_id).reply.outcome is None
    with pytest.raises(InvalidInput, match="allowed 0 to 1"):
        client.feedback(1.5, decision_id=decision.decision_id)
    with pytest.raises(DecisionNotFound):
        client.feedback(1.0, decision_id="nobody")
    batch = client.feedback_batch([{"decision_id": decision.decision_id, "value": 1.0}, {"value": 1.0}])
    assert (batch.accepted, [one.index for one in batch.refused]) == (1, [1])


def test_the_life_of_a_decision(client, policy):
    words = {"word": "hi"}
    first = client.decide(policy, variables=words, decision_id=f"d-{uuid4().hex}", defer_activation=True)
    again = client.decide(policy, variables=words, decision_id=first.decision_id, defer_activation=True)
    assert (again.variant, again.probability) == (first.variant, first.probability)
    with pytest.raises(DecisionConflict):
        client.decide(policy, "another query", variables=words, decision_id=first.decision_id)
    assert first.reply.status == "inactive"
    assert client.activate(first.decision_id).reply.status == "active"
    other = {"say": "shout", "shout": "say"}[first.variant]
    assert client.report_served(first.decision_id, other).probability is None
    assert client.cancel_decision(first.decision_id).reply.status == "cancelled"
    with pytest.raises(DecisionConflict):
        client.feedback(1.0, decision_id=first.decision_id)


def test_the_life_of_a_variant(client, policy):
    changed = client.update_variant(policy, "say", status="paused")
    assert [(one.name, one.status) for one in changed.variants] == [("say", "paused"), ("shout", "active")]
    assert {client.decide(policy, variables={"word": "x"}).variant for _ in range(5)} == {"shout"}
    added = client.add_variant(policy, "whisper", template="psst {{ word }}", parent="say").variants[-1]
    assert (added.name, added.parent, added.status) == ("whisper", "say", "active")
    only = client.decide(policy, variables={"word": "x"}, eligible=["whisper"])
    assert (only.variant, only.probability) == ("whisper", 1.0)
    assert client.decide(policy, variables={"word": "x"}, exclude=["whisper"]).variant == "shout"
    with pytest.raises(VariantNotFound, match="nobody"):
        client.update_variant(policy, "nobody", status="paused")


def test_policies_are_listed_changed_and_deleted(client, policy):
    assert policy in [one.name for one in client.list_policies()]
    assert client.update_policy(policy, mode="frozen").settings["mode"] == "frozen"
    assert client.get_policy(policy).settings["mode"] == "frozen"
    with pytest.raises(PolicyExists):
        client.create_policy(policy, ["a"])
    with pytest.raises(InvalidInput, match="algorithm"):
        client.update_policy(policy, algorithm="magic")
    client.delete_policy(policy)
    with pytest.raises(PolicyNotFound):
        client.decide(policy)


def test_a_session_keeps_its_variant_and_a_subject_can_be_forgotten(client, policy):
    subject = f"s-{uuid4().hex}"
    made = [
        client.decide(policy, variables={"word": "x"}, session_key="ann", subject_id=subject)
        for _ in range(6)
    ]
    assert len({one.variant for one in made}) == 1
    for one in made:
        client.feedback(1.0, decision_id=one.decision_id)
    assert client.get_policy(policy).outcomes == 6
    assert client.delete_decisions(subject) == 6
    assert client.get_policy(policy).outcomes == 0
    with pytest.raises(DecisionNotFound):
        client.get_decision(made[0].decision_id)


def test_reports_and_estimates(client, policy):
    for _ in range(5):
        decision = client.decide(policy, variables={"word": "x"})
        client.feedback(1.0, decision_id=decision.decision_id)
    report = client.policy_report(policy, periods=3)
    assert sum(arm.outcomes for arm in report.arms) == 5
    assert len(report.periods) == 3
    found = client.evaluate_policy(policy, ["say", {"algorithm": "uniform"}], estimator="snips")
    assert [one.target for one in found.data] == ["say", "uniform"]
    assert all("50" in one.refusal for one in found.data)


def test_metrics_and_utilities(client, name):
    client.declare_metric(name, type="boolean", window_s=60.0)
    assert name in [one.name for one in client.list_metrics()]
    with pytest.raises(MetricExists):
        client.declare_metric(name, window_s=61.0)
    client.create_pool(name, embedder="hashing")
    client.upsert(name, [{"inputs": f"text {i}", "outputs": "a"} for i in range(6)])
    for seed in range(4):
        selection = client.select(name, "text", method="random", k=2, seed=seed)
        selection.feedback(value=seed % 2 == 0, metric=name)
    assert client.flush_feedback(30)
    found = list(client.utilities(name, name))
    assert sum(one.shown for one in found) == 8
    corrected = client.feedback(selection_id=selection.selection_id, demonstration="right")
    assert client.get_example(name, corrected.example_id).outputs == "right"


def test_every_algorithm_is_described(client):
    found = {one.name: one for one in client.algorithms()}
    assert found["square_cb"].contextual
    assert not found["ucb1"].contextual
    assert all(one.description for one in found.values())
