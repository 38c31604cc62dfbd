"""Random Fourier features: near the kernel, exact in the sums, and better where no line will do."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.bandits.worlds import lin, xor
from kshot.errors import InvalidInput, InvalidParameter, StateCorrupt
from kshot.selectors.bandits import ArmPrior, Situation, outcomes, snapped
from kshot.selectors.bandits.fourier import fourier_map, lifted_model
from kshot.selectors.bandits.grid import grid_features
from kshot.selectors.bandits.kernels import Kernel, median_width
from kshot.selectors.bandits.lin_ucb import LinUcb
from kshot.selectors.bandits.rff_thompson import RffThompson
from kshot.selectors.bandits.rff_ucb import RffUcb
from tests.test_selectors.test_bandits.environments import mean_regret

POLICIES = [RffUcb(components=16), RffThompson(components=16)]


def points(seed, m, d=4):
    return snapped(np.column_stack([np.random.default_rng(seed).normal(size=(m, d)) / 2, np.ones(m)]))


def phi(contexts, components=2000, width=1.0, seed=0):
    lift = fourier_map(contexts.shape[1], components, width, seed)
    return lift.features(grid_features(contexts))[:, :-1] / 2**16


# The map.


@pytest.mark.parametrize("width", [0.5, 1.0, 3.0])
def test_products_of_features_are_near_the_kernel(width):
    X, Y = points(1, 1000), points(2, 1000)
    found = (phi(X, width=width) * phi(Y, width=width)).sum(axis=1)
    expected = np.exp(-np.square(X - Y).sum(axis=1) / (2 * width**2))
    assert np.abs(found - expected).max() < 0.1
    np.testing.assert_allclose(np.diag(Kernel(width=width).between(X, Y)), expected, atol=1e-12)


def test_the_error_falls_with_the_root_of_the_components():
    X, Y = points(1, 1000), points(2, 1000)
    expected = np.exp(-np.square(X - Y).sum(axis=1) / 2)
    sizes = np.array([32, 128, 512, 2048])
    errors = [
        np.mean([np.abs((phi(X, D, seed=s) * phi(Y, D, seed=s)).sum(1) - expected).mean() for s in range(8)])
        for D in sizes
    ]
    slope = np.polyfit(np.log(sizes), np.log(errors), 1)[0]
    assert -0.6 < slope < -0.4


def test_features_have_length_one():
    np.testing.assert_allclose(np.square(phi(points(3, 200), 128)).sum(axis=1), 1.0, atol=1e-4)


@given(st.integers(0, 99), st.integers(1, 40), st.sampled_from([0.01, 0.5, 100.0]))
def test_features_of_a_context_do_not_depend_on_its_company(seed, m, width):
    given_ = grid_features(snapped(np.random.default_rng(seed).uniform(-8, 8, (m, 5))))
    lift = fourier_map(5, 32, width, 0)
    together = lift.features(given_)
    assert all(
        np.array_equal(lift.features(row[None])[0], both) for row, both in zip(given_, together, strict=True)
    )


def test_the_map_of_a_seed_is_the_same_everywhere():
    """Frozen, as states that have learnt from other features are of no use."""
    found = fourier_map(3, 4, 0.5, 7).features(np.array([[1 << 15, -(1 << 14), 1 << 16]]))
    assert found.tolist() == [[35550, -40778, -29727, -22015, 65536]]


# What is learnt.


def test_the_first_reward_counts_once():
    """Moments are sums of reward times features, to the last bit."""
    X, r = points(4, 30), np.random.default_rng(0).integers(0, 5, 30) / 4
    policy = RffUcb(components=16)
    lifted = fourier_map(5, 16, 1.0, 0).features(grid_features(X)) / 2**16
    for n in (1, 2, 30):
        state = policy.fold(policy.init(5), outcomes(["a"] * n, X[:n], r[:n]))
        view = state.view("a", 0.0)
        assert view is not None
        np.testing.assert_array_equal(view.moment, r[:n] @ lifted[:n])
        np.testing.assert_allclose(view.gram, lifted[:n].T @ lifted[:n], atol=1e-12)


@pytest.mark.parametrize("prior", [ArmPrior(0.5), ArmPrior(0.8, 4.0), ArmPrior(0.3, 2.0, np.arange(17) / 20)])
def test_estimates_are_those_of_a_ridge_regression_on_the_features(prior):
    """Of deviations from the prior's mean, written down with rows and without sums."""
    policy, X = RffUcb(components=16, ridge=0.7), points(5, 40)
    r = np.random.default_rng(0).integers(0, 5, 40) / 4
    lift = fourier_map(5, 16, 1.0, 0)
    lifted, origin = lift.features(grid_features(X)) / 2**16, lift.origin[0] / 2**16
    theta0 = np.append(np.zeros(16), prior.reward) if prior.theta is None else prior.theta
    rows = np.vstack([lifted, np.sqrt(prior.events) * origin])[:, :-1]
    left = np.append(r - lifted @ theta0, np.sqrt(prior.events) * (prior.reward - origin @ theta0))
    A = rows.T @ rows + 0.7 * np.eye(16)
    z = lift.features(grid_features(points(6, 1)))[0] / 2**16
    state = policy.fold(policy.init(5), outcomes(["a"] * 40, X, r))
    choice = policy.choose(state, Situation(("a",), points(6, 1)[0], priors={"a": prior}))
    expected = z @ theta0 + z[:-1] @ np.linalg.solve(A, rows.T @ left)
    np.testing.assert_allclose(choice.means, expected, atol=1e-10)
    np.testing.assert_allclose(choice.widths, np.sqrt(z[:-1] @ np.linalg.solve(A, z[:-1])), atol=1e-10)


def test_awaited_outcomes_narrow_widths_as_if_they_had_come():
    policy, X = RffUcb(components=16), points(7, 25)
    come = policy.fold(policy.init(5), outcomes(["a"] * 25, X, np.zeros(25)))
    some = policy.fold(policy.init(5), outcomes(["a"] * 5, X[:5], np.zeros(5)))
    where = Situation(("a", "b"), points(8, 1)[0], pending={"a": grid_features(X[5:])})
    awaited, plain = policy.choose(some, where), policy.choose(some, dataclasses.replace(where, pending={}))
    later = policy.choose(come, dataclasses.replace(where, pending={}))
    np.testing.assert_allclose(awaited.widths, later.widths, atol=1e-10)
    np.testing.assert_array_equal(awaited.means, plain.means)
    assert awaited.widths[0] < plain.widths[0]


def test_outcomes_taken_back_before_they_came_count_as_none():
    policy, X = RffUcb(components=16), points(9, 60)
    lost = policy.fold(policy.init(5), -outcomes(["a"] * 60, X, np.ones(60)))
    where = Situation(("a",), X[0])
    np.testing.assert_array_equal(
        policy.choose(lost, where).means, policy.choose(policy.init(5), where).means
    )
    theta0, model = lifted_model(None, np.ones(17), 1.0, ArmPrior(0.4))
    assert theta0[-1] == 0.4
    np.testing.assert_array_equal(model.theta, 0.0)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("change", [{"seed": 1}, {"width": 2.0}, {"components": 18}])
def test_states_of_other_maps_do_not_mix(policy, change):
    other = dataclasses.replace(policy, **change)
    learnt = outcomes(["a"], points(1, 1), np.ones(1))
    state = other.fold(other.init(5), learnt)
    with pytest.raises(InvalidInput, match="different features"):
        policy.merge(policy.init(5), state)
    with pytest.raises(StateCorrupt, match="wanted 16 Fourier components of width 1"):
        policy.restore(state.to_bytes())
    for use in (
        lambda: policy.fold(state, learnt),
        lambda: policy.choose(state, Situation(("a",), points(1, 1)[0])),
        lambda: policy.fold(policy.init(4), learnt),
    ):
        with pytest.raises(InvalidInput, match="has learnt from"):
            use()


@pytest.mark.parametrize("policy", POLICIES)
def test_a_state_may_forget(policy):
    """Half as much after a half-life, whatever is folded in between."""
    forgets = dataclasses.replace(policy, half_life_s=10.0)
    X = points(2, 2)
    both = outcomes(["a", "a"], X, np.array([1.0, 0.0]), times=np.array([0.0, 10.0]))
    state = forgets.fold(forgets.init(5), both)
    halved = np.array([2, 1])
    faded = dataclasses.replace(both, weights=both.weights // halved, rewards=both.rewards // halved)
    plain = policy.fold(policy.init(5), faded)
    where = Situation(("a",), points(3, 1)[0], now=10.0)
    np.testing.assert_allclose(
        forgets.choose(state, where).means, policy.choose(plain, where).means, atol=1e-12
    )
    again = forgets.restore(state.to_bytes())
    assert again.to_bytes() == state.to_bytes()
    with pytest.raises(StateCorrupt, match="half-life"):
        dataclasses.replace(forgets, half_life_s=20.0).restore(state.to_bytes())
    with pytest.raises(InvalidInput, match="forgets"):
        policy.merge(policy.init(5), state)


def test_parameters_that_make_no_sense_are_refused():
    for cls in (RffUcb, RffThompson):
        with pytest.raises(InvalidParameter, match="even"):
            cls(components=15)
    with pytest.raises(InvalidParameter, match="at least two"):
        median_width(points(1, 1))
    with pytest.raises(InvalidParameter, match="equal"):
        median_width(np.ones((5, 2)))


# What it is for.


def regrets(policy, make, seeds):
    return mean_regret(policy, make, seeds)[[999, 3999]]


@pytest.mark.slow
def test_what_no_line_can_tell_is_learnt():
    found = regrets(RffUcb(components=64, width=0.5), xor, 4)[1]
    assert 63 * 0.65 <= found <= 63 * 1.35
    linear = regrets(LinUcb(), xor, 2)[1]
    assert 907 * 0.65 <= linear <= 907 * 1.35


@pytest.mark.slow
def test_a_width_that_is_far_too_large_fails():
    """So that the width is not ignored: of 1,200 that chance loses, it saves next to nothing."""
    assert regrets(RffUcb(components=64, width=8.0), xor, 2)[1] > 900


@pytest.mark.slow
def test_linear_rewards_cost_little_more_than_with_a_linear_model():
    at_1000, at_4000 = regrets(RffUcb(), lin, 2)
    assert 91 * 0.65 <= at_1000 <= 91 * 1.35
    assert 222 * 0.65 <= at_4000 <= 222 * 1.35


@pytest.mark.slow
def test_sampling_learns_it_as_well():
    found = regrets(RffThompson(components=64, width=0.5), xor, 2)[1]
    assert found < 0.25 * regrets(LinUcb(), xor, 2)[1]
