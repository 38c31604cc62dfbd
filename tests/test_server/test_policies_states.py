"""States that follow the log: the same bytes in every process, whatever happened on the way."""

import dataclasses

import numpy as np
import pytest
from sqlalchemy import create_engine, text

from kshot.schemas.feedback import MetricSettings
from kshot.server.services.learning import learner as learning
from kshot.server.services.learning.metrics import settings_of
from tests.test_server.learning_log import (
    appended,
    created,
    decision,
    opened,
    recorded,
    rumours,
    said,
    slow_state,
)
from tests.test_server.live import wait_until


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def here(tmp_path):
    store, states = opened(tmp_path)
    yield store, states
    store.close()


@pytest.mark.parametrize(
    ("algorithm", "count"),
    [
        ("square_cb", 1_500),
        ("beta_thompson", 1_500),
        pytest.param("square_cb", 10_000, marks=pytest.mark.slow),
    ],
)
def test_events_twice_told_and_out_of_order_give_two_processes_one_state(
    tmp_path, rng, here, algorithm, count
):
    store, states = here
    store.declare_metric("usd", settings_of(MetricSettings(high=50.0, better="low", aggregate="sum")))
    first = states.install(created(store, algorithm=algorithm, control="brief", cost_metric="usd"))
    other_store, other_states = opened(tmp_path)
    second = other_states.get("p")
    records = [decision(first, i, rng, active=i % 10 > 0) for i in range(count // 5)]
    recorded(store, records)
    events = rumours(records, count, rng)
    costs = [said(records[i // 2], "reward", f"c{i}", metric="usd", value=i % 7 * 0.3) for i in range(200)]
    events = [event for i, event in enumerate(events) for event in [*costs[i : i + 1], event]]
    # One follows closely, the other sees a part, and then all the rest at once.
    log = []
    for start in range(0, len(events), 300):
        some = events[start : start + 300]
        log += appended(store if start % 600 else other_store, some)
        first.catch_up()
        if start == 900:
            second.catch_up()
    second.catch_up()
    assert len(log) == count + 200
    assert first.learnt.costs.entries
    assert first.learnt.upto_seq == second.learnt.upto_seq == store.last_feedback_seq()
    assert first.learnt.to_bytes() == second.learnt.to_bytes()
    assert first.learnt.state.events > count // 10
    assert first.learnt.yardstick.n > count // 10
    log.sort(key=lambda event: event.seq)
    assert first.learnt.state.to_bytes() == slow_state(first, records, log)
    other_store.close()


def test_a_policy_that_forgets_reaches_the_same_bytes_in_batches_of_any_size(tmp_path, rng, here):
    store, states = here
    first = states.install(created(store, half_life_s=600.0))
    other_store, other_states = opened(tmp_path)
    second = other_states.get("p")
    records = [decision(first, i, rng) for i in range(300)]
    recorded(store, records)
    events = rumours(records, 1_500, rng)
    for start in range(0, len(events), 41):
        appended(store, events[start : start + 41])
        first.catch_up()
    second.catch_up()
    assert first.learnt.to_bytes() == second.learnt.to_bytes()
    other_store.close()


def test_a_restart_goes_on_from_the_saved_state_and_comes_to_the_same(tmp_path, rng, here):
    store, states = here
    learner = states.install(created(store))
    records = [decision(learner, i, rng) for i in range(400)]
    recorded(store, records)
    appended(store, rumours(records, 1_500, rng))
    learner.catch_up()
    saved = store.saved_policy_states(learner.definition.id, 1)
    assert [one.is_whole for one in saved] == [True]
    assert 1_000 <= saved[0].upto_seq < learner.learnt.upto_seq + 1
    again_store, again_states = opened(tmp_path)
    again = again_states.get("p")
    assert again.learnt.to_bytes() == learner.learnt.to_bytes()
    again_store.close()


def test_three_states_are_kept_and_a_damaged_one_is_passed_over(tmp_path, rng, here):
    store, states = here
    learner = states.install(created(store))
    records = [decision(learner, i, rng) for i in range(100)]
    recorded(store, records)
    for part in range(5):
        appended(store, [said(record, "reward", f"{part}", value=0.25) for record in records])
        learner.catch_up()
        learner.save(now=True)
    saved = store.saved_policy_states(learner.definition.id, 1)
    assert [one.upto_seq for one in saved] == [500, 400, 300]
    # One byte of the newest, in the middle of its numbers.
    blob = bytearray(saved[0].state)
    blob[-40] ^= 1
    engine = create_engine(f"sqlite:///{tmp_path / 'store.sqlite'}")
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE policy_states SET state = :blob WHERE upto_seq = 500"), {"blob": bytes(blob)}
        )
    engine.dispose()
    again_store, again_states = opened(tmp_path)
    definition = again_states.define(again_store.get_policy("p"))
    assert learning.Learner(again_store, definition).learnt.upto_seq == 400
    again = again_states.get("p")
    assert again.learnt.to_bytes() == learner.learnt.to_bytes()
    # What is saved next takes the damaged one's place.
    again.save(now=True)
    again_store.close()


def test_a_state_of_a_version_before_is_of_no_use(rng, here):
    store, states = here
    learner = states.install(created(store))
    records = [decision(learner, i, rng) for i in range(50)]
    recorded(store, records)
    appended(store, [said(record, "reward", "k", value=1.0) for record in records])
    learner.catch_up()
    learner.save(now=True)
    record = store.get_policy("p")
    config = {**record.config, "algorithm": "ucb1"}
    changed = store.update_policy(record.id, config, expected=record.stamp, learns_anew=True)
    assert changed.version == 2
    assert store.saved_policy_states(record.id, 1) == []
    states.refresh()
    assert states.get("p").definition.record.version == 2
    assert states.get("p").learnt.state.events == 50


def test_decisions_on_other_features_are_not_learnt_from_unless_features_do_not_matter(rng, here):
    store, states = here
    learner = states.install(created(store))
    records = [decision(learner, i, rng) for i in range(20)]
    others = [decision(learner, i, rng, feature_version="other") for i in range(20, 50)]
    recorded(store, [*records, *others])
    appended(store, [said(record, "reward", "k", value=1.0) for record in [*records, *others]])
    learner.catch_up()
    assert learner.learnt.state.events == 20
    record = store.get_policy("p")
    config = {**record.config, "algorithm": "beta_thompson"}
    states.install(store.update_policy(record.id, config, expected=record.stamp, learns_anew=True))
    assert states.get("p").learnt.state.events == 50


def test_a_frozen_policy_stays_where_it_was_and_catches_up_afterwards(tmp_path, rng, here):
    store, states = here
    learner = states.install(created(store))
    records = [decision(learner, i, rng) for i in range(30)]
    recorded(store, records)
    appended(store, [said(record, "reward", "k", value=1.0) for record in records[:10]])
    learner.catch_up()
    record = store.get_policy("p")
    config = {**record.config, "mode": "frozen", "frozen_at": store.last_feedback_seq()}
    # Another process has gone on before it notices.
    appended(store, [said(record, "reward", "k", value=1.0) for record in records[10:20]])
    other_store, other_states = opened(tmp_path)
    other = other_states.get("p")
    assert other.learnt.state.events == 20
    frozen = store.update_policy(record.id, config, expected=record.stamp, learns_anew=False)
    states.install(frozen)
    other_states.refresh()
    appended(store, [said(record, "reward", "k", value=1.0) for record in records[20:25]])
    # What is decided meanwhile is never learnt from.
    during = [dataclasses.replace(decision(learner, i, rng), mode="frozen") for i in range(30, 35)]
    recorded(store, during)
    appended(store, [said(record, "reward", "k", value=1.0) for record in during])
    for states_of in (states, other_states):
        states_of.refresh()
        assert states_of.get("p").learnt.state.events == 10
    assert states.get("p").learnt.to_bytes() == other.learnt.to_bytes()
    config = {**frozen.config, "mode": "online"}
    store.update_policy(record.id, config, expected=frozen.stamp, learns_anew=False)
    for states_of in (states, other_states):
        states_of.refresh()
        assert states_of.get("p").learnt.state.events == 25
    assert states.get("p").learnt.to_bytes() == other.learnt.to_bytes()
    other_store.close()


def test_who_comes_too_late_for_an_erased_decision_takes_over_what_others_saved(tmp_path, rng, here):
    store, states = here
    learner = states.install(created(store))
    other_store, other_states = opened(tmp_path)
    other = other_states.get("p")
    records = [decision(learner, i, rng, subject_id="s" if i < 5 else None) for i in range(20)]
    recorded(store, records)
    appended(store, [said(record, "reward", "k", value=0.75) for record in records])
    other.catch_up()
    assert other.learnt.state.events == 20
    appended(store, [said(record, "cancel", "erasure") for record in records[:5]])
    learner.catch_up()
    learner.save(now=True)
    store.drop_policy_states(learner.definition.id, before_seq=store.last_feedback_seq())
    assert store.wipe_decisions([record.id for record in records[:5]], keep_key="erasure") == 5
    appended(store, [said(record, "reward", "later", value=0.5) for record in records[5:]])
    for one in (learner, other):
        one.catch_up()
        assert one.learnt.state.events == 15
    assert learner.learnt.to_bytes() == other.learnt.to_bytes()
    # A replay of what is left comes to the same bytes as the subtraction.
    log = [
        event
        for events in store.feedback_of("decision", [r.id for r in records]).values()
        for event in events
    ]
    assert {event.kind for event in log if event.target_id in {r.id for r in records[:5]}} == {"cancel"}
    assert learner.learnt.state.to_bytes() == slow_state(
        learner, records[5:], sorted(log, key=lambda e: e.seq)
    )
    other_store.close()


def test_events_about_decisions_that_nobody_knows_change_nothing(rng, here):
    store, states = here
    learner = states.install(created(store))
    known, unknown = decision(learner, 1, rng), decision(learner, 2, rng)
    recorded(store, [known])
    appended(store, [said(unknown, "reward", "k", value=1.0), said(known, "reward", "k", value=1.0)])
    learner.catch_up()
    assert (learner.learnt.state.events, learner.learnt.upto_seq) == (1, 2)


def test_the_thread_folds_what_was_appended_here_at_once_and_others_news_soon(tmp_path, rng, here):
    _, states = here
    states.start()
    other_store, other_states = opened(tmp_path)
    learner = other_states.install(created(other_store))
    wait_until(lambda: [one.definition.name for one in states.all()] == ["p"], "another process' policy")
    record = decision(learner, 1, rng)
    recorded(other_store, [record])
    appended(other_store, [said(record, "reward", "k", value=1.0)])
    wait_until(lambda: states.get("p").learnt.state.events == 1, "another process' event")
    other_store.delete_policy("p")
    wait_until(lambda: not states.all(), "a deletion")
    states.close()
    other_store.close()
