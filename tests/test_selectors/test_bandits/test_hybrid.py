"""One ridge regression for all arms: what arms have in common, and what their vectors make of the context."""

import dataclasses

import numpy as np
import pytest

from kshot.errors import InvalidShape
from kshot.selectors.bandits import ArmPrior, Situation, outcomes, snapped
from kshot.selectors.bandits.grid import grid_features
from kshot.selectors.bandits.hybrid import hybrid_estimates
from kshot.selectors.bandits.lin_ucb import LinUcb
from kshot.selectors.bandits.sums import SumsState

D, CROSSED = 5, 3
VECTORS = {"a": np.array([1.0, 0.5]), "b": np.array([-1.0, 0.25]), "c": np.array([0.9, 0.5])}


def phi(z, g):
    """The context, and products of its first features and intercept with every entry of the arm's vector."""
    crossed = [*z[: CROSSED - 1], z[-1]]
    return np.concatenate([z, [feature * entry for feature in crossed for entry in g]])


def events(seed, m=200):
    rng = np.random.default_rng(seed)
    contexts = snapped(np.column_stack([rng.uniform(-1, 1, (m, D - 1)), np.ones(m)]))
    return outcomes(list(rng.choice(["a", "b", "plain"], m)), contexts, rng.random(m), weights=rng.random(m))


@pytest.mark.parametrize("ridge", [0.5, 3.0])
def test_the_joint_model_is_the_regression_on_described_arms(ridge):
    addends, g = events(1), {**VECTORS, "plain": np.zeros(2)}
    z, awaited = (
        snapped(np.array([0.3, -0.7, 0.1, 0.9, 1.0])),
        snapped(np.random.default_rng(1).random((7, D))),
    )
    prior, given = ArmPrior(0.4), {"b": ArmPrior(0.8, 11.0)}
    situation = Situation(("a", "b", "c", "plain"), z, priors=given, vectors=VECTORS)
    rows = np.array(
        [phi(np.ldexp(one, -16), g[arm]) for arm, one in zip(addends.arms, addends.contexts, strict=True)]
    )
    w, r = np.ldexp(addends.weights, -10), np.ldexp(addends.rewards, -26)
    believed = phi(np.eye(D)[-1], VECTORS["b"])
    A = ridge * np.eye(rows.shape[1]) + 11.0 * np.outer(believed, believed) + (rows.T * w) @ rows
    start = np.zeros(len(A))
    start[D - 1] = 0.4
    theta = np.linalg.solve(A, ridge * start + 11.0 * 0.8 * believed + rows.T @ r)
    described = np.array([phi(z, g[arm]) for arm in situation.arms])
    state = SumsState(D).fold(addends)
    means, widths = hybrid_estimates(state, situation, ridge, prior, CROSSED)
    assert means == pytest.approx(described @ theta, abs=1e-10)
    assert widths == pytest.approx(np.sqrt([p @ np.linalg.solve(A, p) for p in described]), abs=1e-10)
    # What one arm awaits narrows what is known of all.
    pending = dataclasses.replace(situation, pending={"a": grid_features(awaited)})
    more = np.array([phi(one, VECTORS["a"]) for one in awaited])
    B = A + more.T @ more
    means, widths = hybrid_estimates(state, pending, ridge, prior, CROSSED)
    assert means == pytest.approx(described @ theta, abs=1e-10)
    assert widths == pytest.approx(np.sqrt([p @ np.linalg.solve(B, p) for p in described]), abs=1e-10)


def test_a_new_arm_begins_with_what_arms_like_it_have_earned():
    contexts = np.tile([0.0, 1.0], (200, 1))
    rewards = np.tile([0.9, 0.1], 100)
    addends = outcomes(["good", "bad"] * 100, contexts, rewards)
    policy = LinUcb(hybrid=True)
    state = policy.fold(policy.init(2), addends)
    vectors = {"good": [1.0, 0.0], "bad": [0.0, 1.0], "like bad": [0.1, 0.9], "like good": [0.9, 0.1]}
    situation = Situation(
        ("like bad", "like good"),
        np.array([0.0, 1.0]),
        vectors={arm: np.array(vector) for arm, vector in vectors.items()},
    )
    means = policy.choose(state, situation).means
    # On the line between 0.1 and 0.9, but for the ridge.
    assert means == pytest.approx([0.18, 0.82], abs=0.01)
    # Alone, or without vectors, they know nothing of each other.
    alone = LinUcb().choose(state, situation)
    assert alone.means.tolist() == [0.5, 0.5]
    blind = policy.choose(state, dataclasses.replace(situation, vectors={}))
    assert blind.means[0] == blind.means[1] == pytest.approx(0.5, abs=0.01)


def test_vectors_may_change_without_a_replay():
    policy = LinUcb(hybrid=True, crossed=CROSSED)
    state = policy.fold(policy.init(D), events(2))
    situation = Situation(("a", "b"), np.eye(D)[-1], vectors=VECTORS)
    before = policy.choose(state, situation)
    moved = policy.choose(
        state, dataclasses.replace(situation, vectors={**VECTORS, "b": np.array([3.0, 1.0])})
    )
    assert not np.array_equal(moved.means, before.means)
    assert np.array_equal(policy.choose(state, situation).means, before.means)


def test_vectors_of_different_lengths_are_refused():
    policy = LinUcb(hybrid=True)
    situation = Situation(("a",), np.ones(2), vectors={"a": np.ones(2), "b": np.ones(3)})
    with pytest.raises(InvalidShape, match="vectors"):
        policy.choose(policy.init(2), situation)


def test_forgetting_weighs_widths_by_squared_discounts():
    policy = LinUcb(hybrid=True, half_life_s=1.0, prior_reward=0.0)
    # As for one arm alone: g = .5, z = 1 twice, r = 1 then 0, and no vectors.
    addends = outcomes(["a", "b"], np.ones((2, 1)), np.array([1.0, 0.0]), times=np.array([0.0, 1.0]))
    choice = policy.choose(policy.fold(policy.init(1), addends), Situation(("a", "b"), np.ones(1), now=1.0))
    assert choice.means == pytest.approx([0.2, 0.2], abs=1e-12)
    assert choice.widths == pytest.approx([0.6, 0.6], abs=1e-12)
