"""What falls due: windows end once, whoever ends them; decisions go when nobody needs them any more."""

from datetime import timedelta

import numpy as np
import pytest

from kshot.schemas.feedback import MetricSettings
from kshot.server.services.learning.metrics import settings_of
from kshot.server.services.learning.sweeping import BATCH, GRACE_S, Sweeper
from tests.test_server.learning_log import START, appended, created, decision, opened, recorded, said

WINDOW_S = 3_600.0
LATER = START + timedelta(seconds=WINDOW_S + GRACE_S + 1)


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.fixture
def here(tmp_path):
    store, states = opened(tmp_path)
    metric = MetricSettings(default=0.25, window_s=WINDOW_S, late="fold")
    store.declare_metric("reward", settings_of(metric))
    yield store, states, Sweeper(store, states)
    store.close()


def kinds(store, record):
    return [event.kind for event in store.feedback_of("decision", [record.id])[record.id]]


def test_windows_end_for_decisions_without_a_value_and_only_once(tmp_path, rng, here):
    store, states, sweeper = here
    learner = states.install(created(store))
    told, zero, silent, hidden, gone, young = records = [
        decision(learner, i, rng, active=i != 3, decided_at=START + timedelta(hours=i // 5)) for i in range(6)
    ]
    recorded(store, records)
    appended(store, [said(told, "reward", "k", value=1.0), said(zero, "reward", "k", value=1.0, weight=0.0)])
    appended(store, [said(gone, "cancel", "cancel")])
    sweeper.expire(learner, START + timedelta(seconds=WINDOW_S))
    assert store.last_feedback_seq() == 3
    assert not sweeper.expire(learner, LATER)
    other_store, other_states = opened(tmp_path)
    Sweeper(other_store, other_states).expire(other_states.get("p"), LATER)
    sweeper.expire(learner, LATER)
    # A value without weight is none.
    assert [kinds(store, one)[-1:] for one in (told, zero, silent, hidden, gone, young)] == [
        ["reward"],
        ["expire"],
        ["expire"],
        ["expire"],
        ["cancel"],
        [],
    ]
    learner.catch_up()
    # What was never shown has no outcome, until it is shown after all.
    assert learner.learnt.state.events == 3
    appended(store, [said(hidden, "activate", "activate")])
    learner.catch_up()
    assert learner.learnt.state.events == 4
    other_store.close()


def test_a_late_value_takes_the_place_of_the_default_where_it_is_folded(rng, here):
    store, states, sweeper = here
    learner = states.install(created(store))
    record = decision(learner, 0, rng)
    recorded(store, [record])
    sweeper.expire(learner, LATER)
    learner.catch_up()
    arm = record.served
    assert learner.learnt.state.summaries()[arm].mean == 0.25
    appended(store, [said(record, "reward", "k", value=0.75, occurred_at=LATER)])
    learner.catch_up()
    assert learner.learnt.state.summaries()[arm].mean == 0.75


def test_a_start_goes_through_all_that_is_due_in_pieces(rng, here):
    store, states, sweeper = here
    learner = states.install(created(store))
    recorded(store, [decision(learner, 0, rng, id=f"d{i:04d}") for i in range(BATCH + 10)])
    assert sweeper.expire(learner, LATER)
    assert not sweeper.expire(learner, LATER)
    assert store.last_feedback_seq() == BATCH + 10


def test_decisions_go_after_their_retention_once_every_saved_state_knows_them(rng, here):
    store, states, sweeper = here
    learner = states.install(created(store, retention_days=1))
    records = [decision(learner, i, rng) for i in range(10)]
    recorded(store, records)
    appended(store, [said(record, "reward", "k", value=1.0) for record in records[:5]])
    learner.catch_up()
    due = START + timedelta(days=2)
    # Nothing is saved yet, so a start would need them.
    assert sweeper.purge(learner, due) == (0, 0)
    learner.save(now=True)
    appended(store, [said(records[0], "correct", "c", value=0.0)])
    assert sweeper.purge(learner, START + timedelta(hours=1)) == (0, 0)
    assert sweeper.purge(learner, due) == (9, 0)
    assert set(store.find_decisions([record.id for record in records])) == {records[0].id}
    learner.catch_up()
    # What was learnt stays.
    assert learner.learnt.state.events == 5
