"""Clocks that jump: times may be wrong by years, and every state stays finite and the same everywhere."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from kshot.schemas.feedback import MetricSettings
from kshot.server.services.learning.metrics import settings_of
from kshot.server.services.learning.pending import Pending
from kshot.server.services.learning.sweeping import GRACE_S, Sweeper
from tests.test_server.learning_log import (
    START,
    appended,
    created,
    decision,
    opened,
    recorded,
    said,
    slow_state,
)
from tests.test_server.live import Live, codes
from tests.test_server.live_policies import DETERMINED, outcome_of, policy

WINDOW_S = 60.0
JUMPS = [timedelta(0), timedelta(days=-3650), timedelta(days=3650), timedelta(seconds=-7), timedelta(days=-1)]


@pytest.fixture
def rng():
    return np.random.default_rng(11)


@pytest.fixture
def here(tmp_path):
    store, states = opened(tmp_path)
    yield store, states
    store.close()


def jumping(learner, count, rng):
    """Decisions of a process whose clock is set anew between any two."""
    return [
        decision(learner, i, rng, decided_at=START + timedelta(seconds=i) + JUMPS[i % len(JUMPS)])
        for i in range(count)
    ]


@pytest.mark.parametrize("algorithm", ["square_cb", "lin_ucb", "beta_thompson", "epsilon_greedy", "ucb1"])
def test_schedules_count_outcomes_and_not_time(tmp_path, rng, here, algorithm):
    store, states = here
    steady = states.install(created(store, "steady", algorithm=algorithm))
    jumped = states.install(created(store, "jumped", algorithm=algorithm))
    records = [decision(steady, i, rng) for i in range(60)]
    twins = [
        decision(
            jumped,
            i,
            rng,
            chosen=record.chosen,
            features=record.features,
            decided_at=record.decided_at + JUMPS[i % len(JUMPS)],
        )
        for i, record in enumerate(records)
    ]
    values = rng.uniform(size=60)
    for some in (records, twins):
        recorded(store, some)
        appended(
            store, [said(one, "reward", "k", value=float(v)) for one, v in zip(some, values, strict=True)]
        )
    steady.catch_up()
    jumped.catch_up()
    assert steady.learnt.state.events == jumped.learnt.state.events == 60
    assert steady.learnt.to_bytes() == jumped.learnt.to_bytes()


def test_a_policy_that_forgets_stays_finite_and_the_same_everywhere(tmp_path, rng, here):
    store, states = here
    first = states.install(created(store, half_life_s=60.0))
    records = jumping(first, 100, rng)
    recorded(store, records)
    other_store, other_states = opened(tmp_path)
    second = other_states.get("p")
    for record in records:
        appended(store, [said(record, "reward", "k", value=0.5)])
        first.catch_up()
    second.catch_up()
    assert first.learnt.to_bytes() == second.learnt.to_bytes()
    summaries = first.learnt.state.summaries()
    assert sum(one.n for one in summaries.values()) == 100
    # What is ten years older than the rest weighs nothing; what weighs anything is worth 0.5.
    known = [one.mean for one in summaries.values() if one.mean is not None]
    assert known == pytest.approx([0.5] * len(known))
    other_store.close()


def test_what_is_said_to_have_come_before_its_decision_counts(rng, here):
    store, states = here
    learner = states.install(created(store))
    records = jumping(learner, 20, rng)
    recorded(store, records)
    ever = [datetime(1, 1, 2, tzinfo=UTC), datetime(1970, 1, 1, tzinfo=UTC), START]
    log = appended(
        store,
        [
            said(record, "reward", "k", value=0.25, occurred_at=ever[i % 3])
            for i, record in enumerate(records)
            if ever[i % 3] <= record.decided_at
        ],
    )
    learner.catch_up()
    assert learner.learnt.state.events == len(log) > 10
    assert learner.learnt.state.to_bytes() == slow_state(learner, records, log)


def test_windows_end_after_the_clock_was_set_back(rng, here):
    store, states = here
    store.declare_metric("reward", settings_of(MetricSettings(default=0.0, window_s=WINDOW_S)))
    learner = states.install(created(store))
    sweeper = Sweeper(store, states)
    due_after = timedelta(seconds=WINDOW_S + GRACE_S + 1)
    early, late = (
        [decision(learner, start + i, rng, decided_at=at + timedelta(seconds=i)) for i in range(5)]
        for start, at in ((0, START), (5, START - timedelta(days=1)))
    )
    recorded(store, early)
    sweeper.expire(learner, START + timedelta(seconds=5) + due_after)
    learner.catch_up()
    assert learner.learnt.state.events == 5
    # A day back; what is decided now is dated before all that was looked at.
    sweeper.expire(learner, START - timedelta(days=1))
    recorded(store, late)
    sweeper.expire(learner, START - timedelta(days=1) + timedelta(seconds=5) + due_after)
    learner.catch_up()
    assert learner.learnt.state.events == 10
    # Forward again: nothing ends twice.
    sweeper.expire(learner, START + timedelta(days=1))
    assert learner.catch_up() == 0


def test_an_outcome_is_awaited_no_longer_than_its_window_while_others_are_dated_ahead(rng, here):
    store, states = here
    learner = states.install(created(store, algorithm="lin_ucb"))
    pending = Pending(WINDOW_S)
    pending.add(decision(learner, 0, rng, decided_at=START + timedelta(days=365)))
    for i in range(1, 10):
        pending.add(decision(learner, i, rng))
    now = START.timestamp()
    dimension = learner.definition.dimension

    def awaited(at):
        return sum(len(rows) for rows in pending.contexts(dimension, at).values())

    assert awaited(now) == 10
    assert awaited(now + WINDOW_S + 10) == 1
    assert awaited(now + timedelta(days=366).total_seconds()) == 0


def test_times_that_callers_make_up_change_no_outcome(live: Live):
    asked = policy(live, **DETERMINED)
    for at in ("1970-01-01T00:00:00Z", "2999-12-31T23:59:59Z", "0001-01-02T00:00:00Z", None):
        made = asked.decide()
        options = {} if at is None else {"occurred_at": at}
        reply = asked.tell(made, 1.0, **options)
        assert reply["folded"]
        assert codes(reply) == (["occurred_later"] if at is not None and at > "2900" else [])
    info = asked.info()
    assert info["outcomes"] == 4
    assert {outcome_of(info, name)[1] for name in ("brief", "formal", "warm")} <= {1.0, None}
