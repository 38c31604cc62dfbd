"""Policies that learn on the way are replayed on the uniform hold-out."""

import numpy as np
import pytest

from kshot.errors import InsufficientSupport, InvalidParameter
from kshot.selectors.bandits.addends import outcomes
from kshot.selectors.bandits.base import Situation
from kshot.selectors.bandits.lin_ucb import LinUcb
from kshot.selectors.bandits.off_policy import DecisionLog, replay
from tests.test_selectors.test_bandits.test_off_policy.logs import World

ARMS = ("a", "b", "c")


def uniform_log(world, seed, n):
    rng = np.random.default_rng(seed)
    contexts = world.contexts(rng, n)
    arms = rng.integers(3, size=n)
    rewards = (rng.random(n) < world.means(contexts)[np.arange(n), arms]).astype(np.float64)
    return DecisionLog(contexts, arms, rewards, np.full(n, 1 / 3), np.arange(n), np.arange(n) * 1.0)


def live(world, policy, seed, n):
    """Return the mean reward of the policy deciding for itself."""
    rng = np.random.default_rng(seed)
    state, total = policy.init(3), 0.0
    for context in world.contexts(rng, n):
        p = policy.choose(state, Situation(ARMS, context)).probabilities
        arm = int(rng.choice(3, p=p))
        reward = float(rng.random() < world.means(context[None])[0, arm])
        total += reward
        state = policy.fold(state, outcomes([ARMS[arm]], context[None], np.array([reward])))
    return total / n


def test_a_replay_earns_what_the_policy_earns_live():
    world, policy = World(4, effect=0.9), LinUcb()
    replayed, alone = [], []
    for seed in range(12):
        found = replay(policy, uniform_log(world, seed, 360), ARMS, np.random.default_rng(seed), resamples=2)
        # As many decisions as the replay accepts, so that as much is learnt.
        replayed.append(found.value)
        alone.append(live(world, policy, 100 + seed, int(found.accepted.sum())))
    error = np.sqrt(np.var(replayed, ddof=1) / 12 + np.var(alone, ddof=1) / 12)
    assert abs(np.mean(replayed) - np.mean(alone)) <= 2.5 * error
    uniform = world.means(world.contexts(np.random.default_rng(0), 20_000)).mean()
    assert np.mean(replayed) > uniform + 2 * error


def test_a_third_is_accepted_of_three_arms_and_the_rest_is_not_learnt():
    found = replay(LinUcb(), uniform_log(World(), 0, 600), ARMS, np.random.default_rng(0), resamples=50)
    # 200 expected, standard deviation 11.5.
    assert abs(found.accepted.sum() - 200) < 46
    low, high = found.interval
    assert low <= found.value <= high


def test_arms_that_were_not_eligible_are_not_drawn():
    log = uniform_log(World(), 0, 400)
    pair = np.where(log.arms == 2, 0, log.arms)
    eligible = np.tile([True, True, False], (400, 1))
    two = DecisionLog(log.contexts, pair, log.rewards, np.full(400, 0.5), log.sessions, log.times)
    found = replay(LinUcb(), two, ARMS, np.random.default_rng(0), eligible=eligible, resamples=2)
    assert abs(found.accepted.sum() - 200) < 60
    with pytest.raises(InvalidParameter, match="not eligible"):
        replay(LinUcb(), log, ARMS, np.random.default_rng(0), eligible=eligible)


def test_decisions_that_were_not_uniform_are_refused():
    for log in (World().log(0, 300), uniform_log(World(), 0, 300)):
        biased = DecisionLog(
            log.contexts, log.arms, log.rewards, log.propensities * 0.99, log.sessions, log.times
        )
        with pytest.raises(InvalidParameter, match="uniform hold-out only"):
            replay(LinUcb(), biased, ARMS, np.random.default_rng(0))


def test_too_few_accepted_decisions_are_refused():
    with pytest.raises(InsufficientSupport, match="accepted by the replay"):
        replay(LinUcb(), uniform_log(World(), 0, 60), ARMS, np.random.default_rng(0))
    with pytest.raises(InsufficientSupport, match="0 of 0 decisions"):
        replay(LinUcb(), uniform_log(World(), 0, 0), ARMS, np.random.default_rng(0))
    with pytest.raises(InvalidParameter, match="sorted and distinct"):
        replay(LinUcb(), uniform_log(World(), 0, 60), ARMS[::-1], np.random.default_rng(0))
