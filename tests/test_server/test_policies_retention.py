"""What a policy has learnt outlives the decisions that taught it, whatever is set anew."""

from datetime import timedelta

import numpy as np
import pytest

from kshot.schemas.policies import PolicySettings
from kshot.server.services.learning.sweeping import Sweeper
from tests.test_server.learning_log import START, appended, created, decision, opened, recorded, said

DUE = START + timedelta(days=2)


@pytest.fixture
def rng():
    return np.random.default_rng(11)


@pytest.fixture
def here(tmp_path):
    store, states = opened(tmp_path)
    yield store, states, Sweeper(store, states)
    store.close()


def patched(store, states, **changes):
    record = store.get_policy("p")
    config = PolicySettings.model_validate({**record.config, **changes}).model_dump(mode="json")
    return states.install(store.update_policy(record.id, config, expected=record.stamp, learns_anew=False))


def test_feedback_goes_with_its_decision_and_what_was_learnt_stays(tmp_path, here, rng):
    store, states, sweeper = here
    learner = states.install(created(store, retention_days=1))
    old = [decision(learner, i, rng) for i in range(6)]
    young = [decision(learner, i, rng, decided_at=DUE - timedelta(hours=1)) for i in range(6, 9)]
    recorded(store, [*old, *young])
    appended(store, [said(one, "reward", "k", value=1.0, tags={"who": "ann"}) for one in [*old, *young]])
    learner.catch_up()
    learner.save(now=True)
    before = learner.learnt.to_bytes()
    assert sweeper.purge(learner, DUE) == (6, 0)
    kept = store.feedback_of("decision", [one.id for one in [*old, *young]])
    assert [len(events) for events in kept.values()] == [0] * 6 + [1] * 3
    # Neither a restart nor news lose what is gone from the log.
    with opened(tmp_path)[0] as store_again:
        again = opened(tmp_path)[1].install(store_again.get_policy("p"))
    assert again.learnt.to_bytes() == before
    appended(store, [said(young[0], "correct", "c", value=0.0)])
    learner.catch_up()
    assert learner.learnt.state.events == 9


@pytest.mark.parametrize("restarts", [False, True])
def test_another_control_leaves_what_was_learnt_from_decisions_that_are_gone(tmp_path, here, rng, restarts):
    store, states, sweeper = here
    learner = states.install(created(store, retention_days=1))
    old = [decision(learner, i, rng) for i in range(20)]
    young = [decision(learner, i, rng, decided_at=DUE - timedelta(hours=1)) for i in range(20, 30)]
    recorded(store, [*old, *young])
    appended(store, [said(one, "reward", "k", value=1.0) for one in [*old, *young]])
    learner.catch_up()
    learner.save(now=True)
    sweeper.purge(learner, DUE)
    before = learner.learnt.state.to_bytes()
    assert learner.learnt.yardstick.n == 0
    if restarts:
        states.forget(learner.definition.id)
    after = patched(store, states, control="brief").learnt
    assert after.state.to_bytes() == before
    # The control is measured by what the log still has.
    assert (after.yardstick.control, after.yardstick.n) == ("brief", 10)
    assert after.yardstick.means()[0] == 1.0


def test_what_a_frozen_policy_decided_goes_too(here, rng):
    store, states, sweeper = here
    learner = states.install(created(store, retention_days=1))
    first = decision(learner, 0, rng)
    recorded(store, [first])
    appended(store, [said(first, "reward", "k", value=1.0)])
    learner.catch_up()
    learner.save(now=True)
    during = [decision(learner, i, rng, mode="frozen") for i in range(1, 5)]
    recorded(store, during)
    appended(store, [said(one, "reward", "k", value=1.0) for one in during])
    assert sweeper.purge(learner, DUE) == (5, 0)
    learner.catch_up()
    assert learner.learnt.state.events == 1
