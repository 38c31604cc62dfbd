"""What feedback goes through in production, in a small run of `benchmarks/policy_scenarios.py`."""

from functools import cache

import numpy as np
import pytest

from benchmarks.bandits.treatments import LEARNERS, STATE_BOUND, lost, treatments

pytestmark = pytest.mark.slow

SEEDS, STEPS = 4, 1200
ROWS = {treatment.name: treatment for treatment in treatments(STEPS)}

every_learner = pytest.mark.parametrize("name", LEARNERS)


@cache
def played(row, name):
    return lost(ROWS[row], name, SEEDS, STEPS)


def regret(row, name):
    return float(np.mean(played(row, name).regrets))


@every_learner
@pytest.mark.parametrize(
    ("row", "share"),
    [("stationary", 0.6), ("cold start", 0.5), ("sparse feedback", 0.95), ("delayed feedback", 0.7)],
)
def test_what_looks_at_the_query_loses_less_than_what_does_not(row, share, name):
    assert regret(row, name) < share * regret(row, "uniform")
    assert regret(row, name) < share * regret(row, "beta_thompson")


@every_learner
def test_what_forgets_loses_less_after_a_change(name):
    assert regret("drift, half-life an eighth of the run", name) < 0.85 * regret("drift", name)


@every_learner
def test_a_default_reward_makes_up_for_failures_that_nobody_tells(name):
    assert regret("censored feedback, default reward 0", name) < 0.75 * regret("censored feedback", name)


@every_learner
@pytest.mark.parametrize("remedy", ["source weight 0.1", "log folded anew without the source"])
def test_a_liar_does_less_harm_where_it_is_trusted_less(remedy, name):
    assert regret(f"poisoned feedback, {remedy}", name) < 0.75 * regret("poisoned feedback", name)


@every_learner
def test_restarts_change_no_choice_and_states_do_not_grow(name):
    unbroken, restarted = played("stationary", name), played("restart, every 50 steps", name)
    assert np.array_equal(unbroken.arms, restarted.arms)
    assert unbroken.largest_state == 0
    assert 0 < restarted.largest_state < STATE_BOUND
