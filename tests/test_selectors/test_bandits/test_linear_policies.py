"""Ridge regressions per arm and the policies that read them, by numbers worked out elsewhere."""

import dataclasses

import numpy as np
import pytest
from scipy.special import ndtr

from kshot.errors import InvalidInput, InvalidParameter, InvalidShape
from kshot.selectors.bandits import POLICIES, ArmPrior, Situation, outcomes, snapped
from kshot.selectors.bandits.decaying import DecayingState
from kshot.selectors.bandits.epsilon_greedy import EpsilonGreedy
from kshot.selectors.bandits.grid import grid_features
from kshot.selectors.bandits.lin_thompson import LinThompson
from kshot.selectors.bandits.lin_ucb import LinUcb
from kshot.selectors.bandits.ridge import ridge_estimates
from kshot.selectors.bandits.square_cb import SquareCb, inverse_gap_weights
from kshot.selectors.bandits.sums import SumsState

FROM_ZERO = ArmPrior(0.0)
LINEAR = (EpsilonGreedy, LinUcb, LinThompson, SquareCb)


def events(seed, m=300, d=4, arms=3):
    rng = np.random.default_rng(seed)
    contexts = snapped(np.column_stack([rng.uniform(-1, 1, (m, d - 1)), np.ones(m)]))
    return outcomes(
        [f"arm-{arm}" for arm in rng.integers(0, arms, m)],
        contexts,
        rng.random(m),
        weights=rng.integers(1, 4, m).astype(float),
        times=np.arange(m, dtype=float),
    )


def estimates(state, situation, ridge=1.0, prior=FROM_ZERO):
    return ridge_estimates(state, situation, ridge, prior)


def direct(addends, z, arm, ridge, theta0, *, intercept=0.0, reward=0.0, awaited=()):
    """Ridge regression as the books write it, from the events themselves."""
    rows = [row for row, name in enumerate(addends.arms) if name == arm]
    Z, w = np.ldexp(addends.contexts[rows], -16), np.ldexp(addends.weights[rows], -10)
    r = np.ldexp(addends.rewards[rows], -26)
    e = np.eye(len(z))[-1]
    A = ridge * np.eye(len(z)) + intercept * np.outer(e, e) + (Z.T * w) @ Z
    theta = np.linalg.solve(A, ridge * theta0 + intercept * reward * e + Z.T @ r)
    B = A + sum((np.outer(one, one) for one in awaited), np.zeros_like(A))
    return theta @ z, np.sqrt(z @ np.linalg.solve(B, z))


def two_arms():
    contexts = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    return outcomes(["arm-0", "arm-0", "arm-1"], contexts, np.array([1.0, 0.0, 1.0]))


def test_two_arms_and_three_outcomes():
    # theta = (.4, -.2) and (0, .5).
    state = SumsState(2).fold(two_arms())
    situation = Situation(("arm-0", "arm-1"), np.array([1.0, 0.5]))
    means, widths = estimates(state, situation)
    assert means == pytest.approx([0.3, 0.25], abs=1e-12)
    assert widths == pytest.approx([0.591608, 1.060660], abs=1e-6)
    choice = LinUcb(alpha=1.0, prior_reward=0.0).choose(state, situation)
    assert choice.probabilities.tolist() == [0.0, 1.0]
    assert LinUcb(alpha=0.0, prior_reward=0.0).choose(state, situation).probabilities.tolist() == [1.0, 0.0]


@pytest.mark.parametrize("ridge", [0.25, 1.0, 7.0])
def test_estimates_are_those_of_the_closed_form(ridge):
    addends = events(1)
    theta0 = np.array([0.1, -0.2, 0.3, 0.4])
    priors = {"arm-1": ArmPrior(0.9, 12.0, theta0), "arm-2": ArmPrior(0.8)}
    z, awaited = snapped(np.array([0.5, -0.5, 0.25, 1.0])), snapped(np.random.default_rng(2).random((9, 4)))
    situation = Situation(
        ("arm-0", "arm-1", "arm-2"),
        z,
        priors=priors,
        pending={"arm-0": grid_features(awaited[:2]), "arm-1": grid_features(awaited)},
    )
    means, widths = estimates(SumsState(4).fold(addends), situation, ridge)
    zeros, intercept = np.zeros(4), np.array([0.0, 0.0, 0.0, 0.8])
    wanted = [
        direct(addends, z, "arm-0", ridge, zeros, awaited=awaited[:2]),
        direct(addends, z, "arm-1", ridge, theta0, intercept=12.0, reward=0.9, awaited=awaited),
        direct(addends, z, "arm-2", ridge, intercept),
    ]
    assert means == pytest.approx([mean for mean, _ in wanted], abs=1e-11)
    assert widths == pytest.approx([width for _, width in wanted], abs=1e-11)


def test_an_arm_without_outcomes_has_its_prior():
    situation = Situation(("a", "b"), np.array([0.5, 1.0]), priors={"b": ArmPrior(0.9, 24.0)})
    means, widths = estimates(SumsState(2), situation, prior=ArmPrior(0.3))
    assert means == pytest.approx([0.3, 0.9], abs=1e-12)
    # .25 / 1 + 1 / 1, and .25 / 1 + 1 / 25.
    assert widths == pytest.approx([np.sqrt(1.25), np.sqrt(0.29)], abs=1e-12)


@pytest.mark.parametrize("policy", [policy() for policy in LINEAR], ids=lambda policy: type(policy).__name__)
def test_a_wrong_prior_is_overcome(policy):
    rng = np.random.default_rng(4)
    z = np.array([0.5, 1.0])
    situation = Situation(("bad", "good"), z, priors={"bad": ArmPrior(0.9, 20.0)})
    overcome = 0
    for _ in range(100):
        # 150 outcomes of an arm of .3 that is believed to be one of .9; the other is one of .5.
        rewards = np.concatenate([rng.random(150) < 0.3, rng.random(150) < 0.5]).astype(float)
        addends = outcomes(["bad"] * 150 + ["good"] * 150, np.tile(z, (300, 1)), rewards)
        choice = policy.choose(policy.fold(policy.init(2), addends), situation)
        overcome += choice.probabilities[1] > 0.5
    assert overcome >= 95


def test_awaited_outcomes_keep_decisions_at_once_from_one_arm():
    policy = LinUcb()
    state = policy.fold(policy.init(2), two_arms())
    z = np.array([1.0, 0.5])
    pending = {"arm-0": np.empty((0, 2), np.int64), "arm-1": np.empty((0, 2), np.int64)}
    served = set()
    for _ in range(50):
        situation = Situation(("arm-0", "arm-1"), z, pending=pending)
        arm = situation.arms[int(policy.choose(state, situation).probabilities.argmax())]
        pending = {**pending, arm: np.concatenate([pending[arm], grid_features(z[None])])}
        served.add(arm)
    assert len(served) == 2


@pytest.mark.parametrize("half_life_s", [None, 50.0])
def test_what_is_awaited_now_counts_and_not_what_was(half_life_s):
    policy = LinUcb(half_life_s=half_life_s)
    addends = events(6)
    state, z = policy.fold(policy.init(4), addends), np.array([0.5, -0.5, 0.25, 1.0])
    awaited = grid_features(snapped(np.random.default_rng(6).uniform(-1, 1, (30, 4))))
    situation = Situation(("arm-0", "arm-1"), z, pending={"arm-0": awaited}, now=300.0)
    for change in (0, 1, 0, 7):
        awaited[change] += 1000
        fresh = policy.choose(policy.fold(policy.init(4), addends), situation)
        assert np.array_equal(policy.choose(state, situation).widths, fresh.widths)


def test_outcomes_taken_back_before_they_came_count_as_none():
    policy = LinUcb()
    early = policy.fold(policy.init(2), -two_arms())
    situation = Situation(("arm-0", "arm-1"), np.array([1.0, 0.5]))
    assert np.array_equal(
        policy.choose(early, situation).means, policy.choose(policy.init(2), situation).means
    )
    hybrid = LinUcb(hybrid=True)
    assert np.array_equal(
        hybrid.choose(early, situation).means, hybrid.choose(hybrid.init(2), situation).means
    )


def test_gaps_weigh_inversely():
    values = np.array([0.7, 0.6, 0.3])
    assert inverse_gap_weights(values, 10.0) == pytest.approx([0.607143, 0.25, 0.142857], abs=1e-6)
    assert inverse_gap_weights(values, 0.0) == pytest.approx(np.full(3, 1 / 3), abs=1e-15)
    assert inverse_gap_weights(values[:1], 10.0).tolist() == [1.0]


def test_gaps_weigh_more_with_every_outcome_not_with_every_decision():
    policy = SquareCb(prior_reward=0.0)
    situation = Situation(("arm-0", "arm-1"), np.array([1.0, 0.5]))
    once = policy.fold(policy.init(2), two_arms())
    # gamma = 10 sqrt(3), means .3 and .25.
    assert policy.choose(once, situation).probabilities[1] == pytest.approx(1 / (2 + 10 * np.sqrt(3) * 0.05))
    assert policy.choose(once.fold(-two_arms()), situation).probabilities.tolist() == [0.5, 0.5]


def test_arms_beyond_doubt_are_eliminated():
    z = np.array([1.0])
    rewards = np.repeat([0.9, 0.2, 0.85], 100)
    addends = outcomes(["a"] * 100 + ["b"] * 100 + ["c"] * 100, np.ones((300, 1)), rewards)
    policy = SquareCb(elimination=1.0)
    choice = policy.choose(policy.fold(policy.init(1), addends), Situation(("a", "b", "c"), z))
    # Widths are near .1: .9 - .1 is above .2 + .1, and below .85 + .1.
    assert choice.probabilities[1] == 0.0
    assert choice.probabilities[2] > 0.0
    everyone = dataclasses.replace(policy, elimination=None)
    assert (
        everyone.choose(policy.fold(policy.init(1), addends), Situation(("a", "b", "c"), z)).probabilities[1]
        > 0
    )


def test_two_beliefs_are_compared_exactly():
    policy = LinThompson(prior_reward=0.0)
    situation = Situation(("arm-0", "arm-1"), np.array([1.0, 0.5]), penalties=np.array([0.0, 0.1]))
    choice = policy.choose(policy.fold(policy.init(2), two_arms()), situation)
    gap = choice.means[0] - choice.means[1] + 0.1
    exact = ndtr(gap / np.hypot(*(0.3 * choice.widths)))
    assert choice.probabilities[0] == pytest.approx(exact, abs=1e-6)


def test_beliefs_win_as_often_as_coefficients_drawn_from_them():
    """The whole posterior is drawn, by its covariance; probabilities come from a number per arm."""
    addends, policy = events(4), LinThompson(prior_reward=0.0)
    names, draws = ("arm-0", "arm-1", "arm-2"), 100_000
    z = snapped(np.array([0.5, -0.25, 0.125, 1.0]))
    choice = policy.choose(policy.fold(policy.init(4), addends), Situation(names, z))
    rng, values = np.random.default_rng(6), []
    for arm, name in enumerate(names):
        rows = [row for row, one in enumerate(addends.arms) if one == name]
        Z, w = np.ldexp(addends.contexts[rows], -16), np.ldexp(addends.weights[rows], -10)
        covariance = np.linalg.inv(np.eye(4) + (Z.T * w) @ Z)
        theta = covariance @ Z.T @ np.ldexp(addends.rewards[rows], -26)
        drawn = rng.multivariate_normal(theta, 0.3**2 * covariance, draws) @ z
        assert drawn.mean() == pytest.approx(choice.means[arm], abs=4 * 0.3 * choice.widths[arm] / draws**0.5)
        assert drawn.std() == pytest.approx(0.3 * choice.widths[arm], rel=0.01)
        values.append(drawn)
    wins = np.bincount(np.argmax(values, axis=0), minlength=3) / draws
    assert choice.probabilities == pytest.approx(wins, abs=4 * 0.5 / draws**0.5)


def test_without_exploration_it_is_the_best_of_the_closed_form():
    addends, policy = events(5), EpsilonGreedy(epsilon=0.0, prior_reward=0.0)
    state, names = policy.fold(policy.init(4), addends), ("arm-0", "arm-1", "arm-2")
    served = set()
    for z in snapped(np.column_stack([np.random.default_rng(7).uniform(-1, 1, (40, 3)), np.ones(40)])):
        means = [direct(addends, z, name, 1.0, np.zeros(4))[0] for name in names]
        best = int(np.argmax(means))
        assert policy.choose(state, Situation(names, z)).probabilities.tolist() == np.eye(3)[best].tolist()
        served.add(best)
    assert len(served) > 1


def test_exploration_falls_with_outcomes_to_its_least():
    policy = EpsilonGreedy(prior_reward=0.0)
    z, shares = np.array([1.0]), []
    for m in (1, 200, 400, 2000):
        addends = outcomes(["a", "b"] * m, np.ones((2 * m, 1)), np.tile([1.0, 0.0], m))
        choice = policy.choose(policy.fold(policy.init(1), addends), Situation(("a", "b"), z))
        shares.append(choice.probabilities[1] * 2)
    # min(.1, 5 * 2 / outcomes), and no less than .02.
    assert shares == pytest.approx([0.1, 0.025, 0.02, 0.02])


def test_greedy_ties_share():
    policy = EpsilonGreedy(epsilon=0.0, least_outcomes=1)
    choice = policy.choose(policy.init(1), Situation(("a", "b", "c", "d"), np.ones(1)))
    assert choice.probabilities.tolist() == [0.25] * 4


def test_an_arm_is_hoped_for_until_it_is_known():
    policy = EpsilonGreedy(epsilon=0.0, least_outcomes=3)
    addends = outcomes(["a"] * 3 + ["b"] * 2, np.ones((5, 1)), np.array([0.9, 0.9, 0.9, 0.0, 0.0]))
    state = policy.fold(policy.init(1), addends)
    situation = Situation(("a", "b"), np.ones(1))
    assert policy.choose(state, situation).probabilities.tolist() == [0.0, 1.0]
    known = dataclasses.replace(situation, priors={"b": ArmPrior(0.5, 1.0)})
    assert policy.choose(state, known).probabilities.tolist() == [1.0, 0.0]


def test_without_context_means_are_plain():
    policy = EpsilonGreedy(contextual=False)
    addends = events(3)
    choice = policy.choose(policy.fold(policy.init(4), addends), Situation(("arm-0", "arm-1"), np.zeros(7)))
    rows = np.array([name == "arm-0" for name in addends.arms])
    mean = (addends.rewards[rows].sum() / 2**26) / (addends.weights[rows].sum() / 2**10)
    assert choice.means[0] == pytest.approx(mean, abs=1e-12)


@pytest.mark.parametrize("policy", LINEAR)
def test_contexts_of_another_length_are_refused(policy):
    with pytest.raises(InvalidShape, match="context"):
        policy().choose(policy().init(3), Situation(("a",), np.ones(2)))
    situation = Situation(("a",), np.ones(3), priors={"a": ArmPrior(theta=np.ones(2))})
    with pytest.raises(InvalidShape, match="theta"):
        policy().choose(policy().init(3), situation)


@pytest.mark.parametrize("policy", LINEAR)
def test_contexts_have_the_intercept_at_least(policy):
    with pytest.raises(InvalidParameter, match="0 features, allowed >= 1"):
        policy().init(0)


def test_forgetting_once_by_half():
    # g = .5, z = 1 twice, r = 1 then 0: V = 1 + .5 + 1 = 2.5, theta = .5 / 2.5; V~ = 1 + .25 + 1 = 2.25.
    policy = LinUcb(half_life_s=1.0, prior_reward=0.0)
    addends = outcomes(["a", "a"], np.ones((2, 1)), np.array([1.0, 0.0]), times=np.array([0.0, 1.0]))
    state = policy.fold(policy.init(1), addends)
    assert isinstance(state, DecayingState)
    choice = policy.choose(state, Situation(("a",), np.ones(1), now=1.0))
    assert choice.means == pytest.approx([0.2], abs=1e-12)
    assert choice.widths == pytest.approx([0.6], abs=1e-12)


@pytest.mark.parametrize(
    "parts",
    [
        {"reward": 1.1},
        {"reward": np.nan},
        {"events": -1.0},
        {"events": np.inf},
        {"theta": np.array([np.nan])},
    ],
)
def test_a_prior_is_a_reward_that_can_be(parts):
    with pytest.raises(InvalidInput):
        ArmPrior(**parts)


def test_every_registered_linear_policy_was_looked_at():
    assert {"epsilon_greedy", "lin_ucb", "lin_thompson", "square_cb"} <= set(POLICIES.names())


def test_a_joint_model_of_too_many_coefficients_is_refused():
    policy = LinUcb(hybrid=True)
    situation = Situation(("a",), np.ones(64), vectors={"a": np.ones(20)})
    with pytest.raises(InvalidParameter, match=r"64 \+ 8 \* 20 = 224 coefficients, allowed 200"):
        policy.choose(policy.init(64), situation)


@pytest.mark.parametrize("policy", [policy() for policy in LINEAR], ids=lambda policy: type(policy).__name__)
def test_price_is_weighed_against_quality_at_each_request(policy):
    # .8 at a cost of 1, .7 at a tenth of it.
    addends = outcomes(["dear", "plain"] * 3000, np.ones((6000, 1)), np.tile([0.8, 0.7], 3000))
    state = policy.fold(policy.init(1), addends)
    before = state.to_bytes()
    costs, spent = np.array([1.0, 0.1]), []
    for price in (0.0, 0.05, 0.1, 0.15, 0.3, 1.0, 10.0):
        situation = Situation(("dear", "plain"), np.ones(1), penalties=price * costs)
        spent.append(float(policy.choose(state, situation).probabilities @ costs))
    assert spent == sorted(spent, reverse=True)
    assert spent[0] > 0.97
    assert spent[-1] < 0.13
    assert state.to_bytes() == before
