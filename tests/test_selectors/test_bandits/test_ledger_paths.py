"""Any interleaving of feedback comes to the same as a table that is kept by hand, and by any path."""

from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kshot.selectors.bandits.feedback import EventKind, LoggedDecision, OutcomeEvent
from kshot.selectors.bandits.ledger import Account, Move, changes, contribution, outcome
from kshot.selectors.bandits.metric_rules import LatePolicy, MetricRule, RewardRules

CONTEXT = np.array([1 << 15, -(1 << 14), 1 << 16])
ONE = 1 << 16

METRICS = RewardRules(
    {
        "thumbs": MetricRule(boolean=True, default=0.0, aggregate="last"),
        "stars": MetricRule(low=1.0, high=5.0, aggregate="mean", late=LatePolicy.FOLD, share=2.0),
        "cost": MetricRule(high=10.0, better="low", aggregate="sum", default=10.0, window_s=3.0),
    },
    {"bot": 0.0, "crowd": 0.5},
)


@st.composite
def logs(draw, max_size=12):
    """Events of three decisions, interleaved, with keys that are used again as ``of``."""
    log = []
    for number in range(draw(st.integers(0, max_size))):
        kind = draw(st.sampled_from([*EventKind, EventKind.REWARD, EventKind.REWARD, EventKind.CORRECT]))
        metric, value = "", None
        if kind in (EventKind.REWARD, EventKind.CORRECT):
            metric = draw(st.sampled_from(["thumbs", "stars", "cost", "other"]))
            value = float(
                draw(st.integers(0, 1)) if metric == "thumbs" else draw(st.sampled_from([1.0, 2.5, 4.0]))
            )
        elif kind in (EventKind.RETRACT, EventKind.EXPIRE):
            metric = draw(st.sampled_from(["", "thumbs", "stars", "cost"]))
        earlier = st.none() | st.sampled_from([str(one) for one in range(number + 1)])
        one = OutcomeEvent(
            kind,
            at=float(draw(st.integers(0, 6))),
            metric=metric,
            value=value,
            weight=draw(st.sampled_from([0.0, 0.5, 1.0, 1.0, 3.0])),
            source=draw(st.sampled_from([None, None, "app", "bot", "crowd"])),
            key=str(number),
            of=draw(earlier) if kind in (EventKind.CORRECT, EventKind.RETRACT) else None,
            arm=draw(st.sampled_from([None, "a", "b"])) if kind is EventKind.SERVED else None,
        )
        log.append((draw(st.integers(0, 2)), one))
    return log


def by_hand(the_decision, events):  # noqa: PLR0912 - a table of cases, on purpose
    """Return (arm, reward, weight) or None, by going through the log with lists that are changed in place."""
    row = SimpleNamespace(arm=the_decision.arm, shown=the_decision.active, void=False)
    rewards = []  # [metric, key, value, weight]
    expired, withdrawn = set(), set()
    for one in events:
        trust = METRICS.sources.get(one.source, 1.0)
        if row.void:
            continue
        if one.kind == "cancel":
            row.void = True
        elif one.kind == "activate":
            row.shown = True
        elif one.kind == "served":
            row.arm = one.arm
        elif one.kind == "expire":
            expired |= set(METRICS.metrics) if not one.metric else {one.metric}
        elif one.metric == "other" or trust == 0:
            continue
        elif one.kind == "reward":
            late = one.metric == "cost" and one.at > 3
            if one.weight and not late:
                rewards.append([one.metric, one.key, one.value, one.weight * trust])
        elif one.kind == "correct":
            meant = [r for r in rewards if r[0] == one.metric and one.of in (None, r[1])]
            if not meant or not one.weight:
                continue
            if one.of is None:
                rewards = [r for r in rewards if r[0] != one.metric]
                rewards.append([one.metric, one.key, one.value, one.weight * trust])
            else:
                meant[0][2:] = [one.value, one.weight * trust]
        else:
            meant = [r for r in rewards if one.metric in ("", r[0]) and one.of in (None, r[1])]
            rewards = [r for r in rewards if r not in meant]
            withdrawn |= {r[0] for r in meant} - {r[0] for r in rewards}
    if row.void or not row.shown or row.arm is None:
        return None
    return weighed(row.arm, rewards, expired - withdrawn)


def weighed(arm, rewards, defaulted):
    """Return (arm, reward, weight) of the rewards in force, or None if there is nothing."""
    total, weights, shares = 0.0, 0.0, 0.0
    for metric, share in (("thumbs", 1.0), ("stars", 2.0), ("cost", 1.0)):
        values = [r[2:] for r in rewards if r[0] == metric]
        if values and metric == "thumbs":
            reward, weight = values[-1]
        elif values:
            weight = sum(w for _, w in values) / len(values)
            if metric == "stars":
                reward = (sum(v * w for v, w in values) / sum(w for _, w in values) - 1) / 4
            else:
                reward = 1 - min(sum(v for v, _ in values), 10) / 10
        elif metric in defaulted and metric != "stars":
            reward, weight = 0.0, 1.0
        else:
            continue
        total, weights, shares = total + share * reward, weights + share * weight, shares + share
    return (arm, total / shares, weights / shares) if shares else None


def decisions_of(actives):
    return [
        LoggedDecision(str(row), arm, CONTEXT + row, decided_at=0.0, active=active)
        for row, (arm, active) in enumerate(zip(("a", "b", None), actives, strict=True))
    ]


def summed(parts):
    """Return the sums of addends by arm: what a state of sums holds."""
    totals: dict[str, Any] = {}
    for part in parts:
        for row, arm in enumerate(part.arms):
            outer = part.weights[row] * np.outer(part.contexts[row], part.contexts[row])
            linear = part.rewards[row] * part.contexts[row]
            numbers = np.array([part.counts[row], part.weights[row], part.rewards[row], part.squares[row]])
            entry = np.concatenate([numbers, outer.ravel(), linear])
            totals[arm] = totals.get(arm, 0) + entry
    return {arm: total.tolist() for arm, total in totals.items() if total.any()}


@settings(max_examples=400)
@given(logs(), st.tuples(st.booleans(), st.booleans(), st.booleans()))
def test_any_interleaving_comes_to_what_is_kept_by_hand(log, actives):
    for row, one in enumerate(decisions_of(actives)):
        mine = [e for at, e in log if at == row]
        known = outcome(one, mine, METRICS)
        expected = by_hand(one, mine)
        if expected is None:
            assert not known.known
            continue
        assert known.arm == expected[0]
        assert abs(known.reward / ONE - expected[1]) <= 2**-16
        assert abs(known.weight / 1024 - expected[2]) <= 2**-10


@settings(max_examples=200)
@given(logs(), st.tuples(st.booleans(), st.booleans(), st.booleans()), st.data())
def test_states_do_not_depend_on_the_path(log, actives, data):
    """One move per event, moves over batches of any size, and the outcomes alone give the same sums."""
    decided = decisions_of(actives)
    step_by_step, batched = [], []
    accounts = [Account.opened(one, METRICS) for one in decided]
    known = [account.outcome() for account in accounts]
    for row, one in log:
        later = accounts[row].after(one)
        step_by_step.append(
            changes([Move(decided[row], accounts[row].outcome(), later.outcome())], len(CONTEXT))
        )
        accounts[row] = later
        if data.draw(st.booleans()):
            batched.append(
                changes(
                    [Move(d, k, a.outcome()) for d, k, a in zip(decided, known, accounts, strict=True)], 3
                )
            )
            known = [account.outcome() for account in accounts]
    batched.append(
        changes([Move(d, k, a.outcome()) for d, k, a in zip(decided, known, accounts, strict=True)], 3)
    )
    finally_known = [
        contribution(one, outcome(one, [e for at, e in log if at == row], METRICS))
        for row, one in enumerate(decided)
    ]
    expected = summed([one for one in finally_known if one is not None])
    assert summed(step_by_step) == expected
    assert summed(batched) == expected
