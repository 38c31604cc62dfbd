"""Outcomes are a function of the log alone, and their changes add up to a state."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kshot.errors import InvalidParameter, InvalidShape
from kshot.selectors.bandits.addends import outcomes
from kshot.selectors.bandits.feedback import EventKind, LoggedDecision, OutcomeEvent
from kshot.selectors.bandits.ledger import (
    Account,
    Move,
    Outcome,
    Status,
    Verdict,
    change,
    changes,
    contribution,
    outcome,
)
from kshot.selectors.bandits.metric_rules import LatePolicy, MetricRule, RewardRules

CONTEXT = np.array([1 << 15, -(1 << 14), 1 << 16])
DAY_S = 86_400.0
ONE = 1 << 16


def decision(arm="a", *, active=True, name="d"):
    return LoggedDecision(name, arm, CONTEXT, decided_at=0.0, active=active)


def event(kind, value=None, *, metric="", at=1.0, **rest):
    named = metric or ("thumbs" if kind in ("reward", "correct") else "")
    return OutcomeEvent(EventKind(kind), at, named, value, **rest)


def rules(sources=(), **settings):
    return RewardRules({"thumbs": MetricRule(**settings)}, dict(sources))


def reward_of(events, the_rules=None, **settings):
    known = outcome(decision(), events, the_rules or rules(**settings))
    return known.reward / ONE if known.known else None


# What metrics mean.


def test_values_are_mapped_from_their_range():
    assert reward_of([event("reward", 4.0)], low=1.0, high=5.0) == 0.75
    assert reward_of([event("reward", 4.0)], low=1.0, high=5.0, better="low") == 0.25
    assert reward_of([event("reward", 1)], boolean=True, better="low") == 0.0


@pytest.mark.parametrize(
    ("aggregate", "expected"), [("first", 0.25), ("last", 0.5), ("sum", 1.0), ("max", 0.75), ("mean", 0.5)]
)
def test_several_values_are_aggregated(aggregate, expected):
    assert reward_of([event("reward", v) for v in (0.25, 0.75, 0.5)], aggregate=aggregate) == expected


def test_a_sum_of_three_parts_is_one_reward():
    parts = [event("reward", v) for v in (0.1, 0.2, 0.3)]
    assert outcome(decision(), parts, rules(aggregate="sum")) == outcome(
        decision(), [event("reward", 0.6)], rules()
    )


@given(st.permutations([0.1, 0.2, 0.3, 0.7, 1e-9]), st.sampled_from(["sum", "max", "mean"]))
def test_order_matters_to_first_and_last_only(values, aggregate):
    wide = rules(aggregate=aggregate, high=5.0)
    events = [event("reward", v, weight=v) for v in values]
    assert outcome(decision(), events, wide) == outcome(
        decision(), sorted(events, key=lambda one: one.value or 0), wide
    )


def test_weights_are_those_of_the_values_that_count():
    events = [event("reward", 1.0, weight=2.0), event("reward", 0.0, weight=1.0)]
    by_aggregate = {
        how: outcome(decision(), events, rules(aggregate=how)) for how in ("first", "last", "mean")
    }
    assert [one.weight / 1024 for one in by_aggregate.values()] == [2.0, 1.0, 1.5]
    assert by_aggregate["mean"].reward == round(2 / 3 * ONE)


def test_several_metrics_are_averaged_by_their_shares():
    several = RewardRules({"ok": MetricRule(share=3.0), "speed": MetricRule(better="low")})
    ok, slow = event("reward", 1.0, metric="ok"), event("reward", 1.0, metric="speed")
    assert reward_of([ok], several) == 1.0
    assert reward_of([ok, slow], several) == 0.75


def test_a_source_counts_as_far_as_it_is_trusted():
    known = outcome(decision(), [event("reward", 1.0, source="bot")], rules({"bot": 0.25}))
    assert known.weight == 256
    poisoned = [
        event("reward", 1.0),
        event("reward", 0.0, source="bot"),
        event("correct", 0.0, source="bot"),
        event("retract", source="bot"),
    ]
    assert reward_of(poisoned, rules({"bot": 0.0})) == 1.0


@pytest.mark.parametrize(
    "bad",
    [
        {"low": 1.0, "high": 1.0},
        {"low": -math.inf},
        {"high": math.nan},
        {"boolean": True, "high": 2.0},
        {"better": "more"},
        {"aggregate": "median"},
        {"window_s": 0.0},
        {"share": math.inf},
        {"default": 1.5},
        {"boolean": True, "default": 0.5},
    ],
)
def test_rules_that_make_no_sense_are_refused(bad):
    with pytest.raises(InvalidParameter):
        MetricRule(**bad)


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, math.inf])
def test_a_value_outside_its_range_is_refused(value):
    with pytest.raises(InvalidParameter, match="allowed 0 to 1"):
        MetricRule().check(value)
    with pytest.raises(InvalidParameter, match="allowed true or false"):
        MetricRule(boolean=True).check(value)


@pytest.mark.parametrize(
    "bad",
    [
        {"kind": "reward", "value": None},
        {"kind": "correct", "value": math.nan},
        {"kind": "expire", "at": math.inf},
        {"kind": "reward", "value": 1.0, "weight": 8.5},
        {"kind": "reward", "value": 1.0, "weight": math.nan},
    ],
)
def test_events_that_make_no_sense_are_refused(bad):
    with pytest.raises(InvalidParameter):
        event(**bad)
    with pytest.raises(InvalidParameter, match="names no metric"):
        OutcomeEvent(EventKind.REWARD, 0.0, "", 1.0)
    with pytest.raises(InvalidParameter, match="source 'bot'"):
        rules({"bot": 1.5})


# Missing, late, corrected, retracted, cancelled.


def test_a_default_counts_only_once_the_window_has_passed():
    assert reward_of([], default=0.0) is None
    assert reward_of([event("expire")], default=0.25) == 0.25
    assert reward_of([event("expire")]) is None
    assert reward_of([event("expire", metric="other")], default=0.25) is None


def test_a_reward_takes_the_place_of_a_default():
    in_time = [event("expire"), event("reward", 1.0)]
    assert reward_of(in_time, default=0.0) == 1.0
    late = [event("expire", at=DAY_S), event("reward", 1.0, at=DAY_S + 1)]
    assert reward_of(late, default=0.0) == 0.0
    assert reward_of(late, default=0.0, late=LatePolicy.FOLD) == 1.0


def test_a_window_ends_with_its_last_second():
    assert reward_of([event("reward", 1.0, at=DAY_S)]) == 1.0
    account = Account.opened(decision(), rules())
    assert account.verdict(event("reward", 1.0, at=DAY_S + 1e-3)) is Verdict.LATE


def test_a_decision_never_shown_gets_no_default():
    quiet = decision(active=False)
    expired = [event("reward", 1.0), event("expire")]
    assert not outcome(quiet, expired, rules(default=0.0)).known
    shown = outcome(quiet, [*expired, event("activate")], rules(default=0.0))
    assert (shown.reward, shown.status) == (ONE, Status.ACTIVE)


def test_a_correction_is_as_if_it_had_never_been_wrong():
    right = outcome(decision(), [event("reward", 1.0)], rules())
    wrong = outcome(decision(), [event("reward", 0.0)], rules())
    assert outcome(decision(), [event("reward", 0.0), event("correct", 1.0)], rules()) == right
    delta = change(decision(), wrong, right)
    assert delta is not None
    # Nothing but the reward moves: neither the count, nor the weight that the features are summed with.
    assert (delta.counts.tolist(), delta.weights.tolist()) == ([0], [0])
    assert delta.rewards.tolist() == [1024 * ONE]


def test_one_of_several_rewards_can_be_corrected_and_retracted():
    events = [event("reward", 0.25, key="x"), event("reward", 0.5, key="y")]
    assert reward_of([*events, event("correct", 0.125, of="x")], aggregate="sum") == 0.625
    twice = [*events, event("correct", 0.125, of="x", key="z"), event("correct", 0.0, of="x", key="zz")]
    assert reward_of(twice, aggregate="sum") == 0.5
    assert reward_of([*events, event("retract", of="x")], aggregate="sum") == 0.5
    assert reward_of([*events, event("correct", 0.125)], aggregate="sum") == 0.125


def test_no_default_takes_the_place_of_what_was_retracted():
    events = [event("reward", 1.0), event("retract"), event("expire")]
    assert reward_of(events, default=0.0) is None
    assert reward_of([*events, event("reward", 0.5)], default=0.0) == 0.5


def test_a_late_correction_counts():
    assert reward_of([event("reward", 0.0), event("correct", 1.0, at=9 * DAY_S)]) == 1.0


@pytest.mark.parametrize("kind", ["reward", "correct", "retract", "activate", "served"])
def test_whatever_comes_after_a_cancel_is_a_conflict_and_changes_nothing(kind):
    account = Account.opened(decision(), rules()).after(event("reward", 1.0)).after(event("cancel"))
    late = event(kind, 1.0 if kind in ("reward", "correct") else None)
    assert account.verdict(late) is Verdict.CANCELLED
    assert account.verdict(late).conflict
    assert account.after(late) is account
    assert not account.outcome().known


def test_cancelling_twice_and_expiring_afterwards_are_no_conflicts():
    account = Account.opened(decision(), rules(default=1.0)).after(event("cancel"))
    for kind in ("cancel", "expire"):
        assert not account.verdict(event(kind)).conflict
        assert account.after(event(kind)) is account


def test_there_must_be_a_reward_to_correct():
    account = Account.opened(decision(), rules(default=0.0))
    for nothing in (event("correct", 1.0), event("retract"), event("retract", metric="thumbs")):
        assert account.verdict(nothing) is Verdict.NOTHING_IN_FORCE
        assert account.after(nothing) is account
    held = account.after(event("reward", 1.0, key="x"))
    assert held.verdict(event("correct", 1.0, of="y")) is Verdict.NOTHING_IN_FORCE


def test_other_metrics_are_not_learnt_from():
    account = Account.opened(decision(), rules())
    assert account.verdict(event("reward", 1.0, metric="other")) is Verdict.NOT_LEARNT
    assert account.after(event("reward", 1.0, metric="other")) is account


# Served arms.


def test_the_arm_that_was_served_is_the_one_that_learns():
    chosen = outcome(decision(), [event("reward", 1.0)], rules())
    served = outcome(decision(), [event("reward", 1.0), event("served", arm="b")], rules())
    delta = change(decision(), chosen, served)
    assert delta is not None
    assert (delta.arms, delta.counts.tolist()) == (("a", "b"), [-1, 1])
    assert delta.weights.tolist() == [-1024, 1024]


def test_nothing_is_learnt_where_no_arm_of_the_policy_was_served():
    shadow = outcome(decision(None), [event("reward", 1.0)], rules())
    assert contribution(decision(None), shadow) is None
    taken_back = outcome(decision(), [event("reward", 1.0), event("served", arm=None)], rules())
    assert contribution(decision(), taken_back) is None


def test_what_an_outcome_contributes_is_what_a_new_outcome_adds():
    known = outcome(decision(), [event("reward", 0.3, weight=2.0)], rules())
    expected = outcomes(["a"], CONTEXT[None] / ONE, np.array([0.3]), weights=np.array([2.0]), decisions=["d"])
    given_ = contribution(decision(), known)
    assert given_ is not None
    for name in ("arms", "decisions"):
        assert getattr(given_, name) == getattr(expected, name)
    for name in ("contexts", "times", "counts", "weights", "rewards", "squares"):
        np.testing.assert_array_equal(getattr(given_, name), getattr(expected, name))


def test_changes_that_change_nothing_leave_no_addend():
    same = outcome(decision(), [event("reward", 1.0)], rules())
    assert change(decision(), same, same) is None
    assert len(changes([], 3)) == 0
    assert changes([Move(decision(), same, same)], 3).contexts.shape == (0, 3)


def test_a_context_of_another_dimension_is_refused():
    known = outcome(decision(), [event("reward", 1.0)], rules())
    with pytest.raises(InvalidShape, match="context"):
        changes([Move(decision(), Outcome("a", 0, 0, Status.ACTIVE), known)], 2)
