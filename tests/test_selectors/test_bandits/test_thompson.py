"""Thompson sampling without context: posteriors in closed form, and probabilities that draws confirm."""

import numpy as np
import pytest
from scipy import stats

from kshot.errors import InvalidParameter
from kshot.selectors.bandits import ArmPrior, PropensityKind, Situation, outcomes
from kshot.selectors.bandits.beta_thompson import BetaThompson
from kshot.selectors.bandits.gaussian_thompson import GaussianThompson, NormalGamma, normal_gamma

NO_CONTEXT = np.empty(0)
DRAWS = 100_000
BOTH = pytest.mark.parametrize("policy", [BetaThompson(), GaussianThompson()], ids=["beta", "gaussian"])


def told(policy, arms, rewards, state=None, **more):
    addends = outcomes(list(arms), np.empty((len(rewards), 0)), np.array(rewards, float), **more)
    return policy.fold(policy.init(0) if state is None else state, addends)


def situation(arms="ab", **more):
    return Situation(tuple(arms), NO_CONTEXT, **more)


def successes(counts):
    """Return arms and rewards for a mapping of arms to numbers of successes and failures."""
    arms = "".join(arm * (s + f) for arm, (s, f) in counts.items())
    rewards = [reward for s, f in counts.values() for reward in [1] * s + [0] * f]
    return arms, rewards


def won(draws, penalties=0.0):
    return np.bincount(np.argmax(draws - penalties, axis=1), minlength=draws.shape[1])


def agree(counts, probabilities):
    return stats.chisquare(counts, probabilities * counts.sum()).pvalue > 0.001


def test_beta_posterior_in_closed_form():
    # Prior (1, 1): arms at (3, 5), (8, 9), (30, 25), (2, 1).
    state = told(BetaThompson(), *successes({"a": (2, 4), "b": (7, 8), "c": (29, 24), "d": (1, 0)}))
    choice = BetaThompson().choose(state, situation("abcd"))
    assert choice.probabilities == pytest.approx([0.057144, 0.093868, 0.195078, 0.653899], abs=5e-6)
    assert choice.means == pytest.approx([3 / 8, 8 / 17, 30 / 55, 2 / 3], abs=1e-15)
    expected = [stats.beta(a, b).std() for a, b in ((3, 5), (8, 9), (30, 25), (2, 1))]
    assert choice.widths == pytest.approx(expected, abs=1e-12)
    assert choice.kind is PropensityKind.QUADRATURE
    assert choice.probabilities.sum() == pytest.approx(1, abs=1e-12)


def test_fractional_rewards_are_shares_of_a_success():
    # .25 + .5 = .75 successes and .75 + .5 = 1.25 failures.
    state = told(BetaThompson(), "aa", [0.25, 0.5])
    choice = BetaThompson().choose(state, situation())
    assert choice.means[0] == pytest.approx(1.75 / 4)
    # The other arm's belief is uniform: it is below x with probability x, so below a draw with its mean.
    assert choice.probabilities[0] == pytest.approx(1.75 / 4, abs=1e-8)


@BOTH
def test_arms_win_as_often_as_their_probabilities_say(policy):
    arms, rewards = successes({"a": (2, 4), "b": (7, 8), "c": (4, 1)})
    rewards = np.array(rewards) * 0.75
    state = told(policy, arms, rewards)
    penalties = np.array([0.0, 0.05, 0.2])
    asked = situation("abcd", penalties=np.append(penalties, 0.0))
    choice = policy.choose(state, asked)
    rng = np.random.default_rng(11)
    held = [rewards[[one == arm for one in arms]] for arm in "abcd"]
    if isinstance(policy, BetaThompson):
        draws = np.column_stack([rng.beta(1 + r.sum(), 1 + (1 - r).sum(), DRAWS) for r in held])
    else:
        columns = []
        for r in held:
            m, k, a, b = posterior(r, (0.5, 1, 1, 0.05))
            precision = rng.gamma(a, 1 / b, DRAWS)
            columns.append(rng.normal(m, 1 / np.sqrt(k * precision)))
        draws = np.column_stack(columns)
    assert agree(won(draws, np.append(penalties, 0.0)), choice.probabilities)


def posterior(rewards, prior):
    """Return the normal-gamma posterior, reward by reward."""
    m, k, a, b = prior
    for r in rewards:
        b += k * (r - m) ** 2 / (2 * (k + 1))
        m, k, a = (k * m + r) / (k + 1), k + 1, a + 0.5
    return m, k, a, b


def test_gaussian_posterior_of_four_rewards():
    r = np.array([0.2, 0.9, 0.4, 0.7])
    found = normal_gamma(
        NormalGamma(0.5, 1, 1, 0.25), np.array([4.0]), np.array([r.sum()]), np.array([(r * r).sum()])
    )
    assert [float(np.squeeze(part)) for part in found] == pytest.approx([0.54, 5, 3, 0.396], abs=1e-12)
    assert posterior(r, (0.5, 1, 1, 0.25)) == pytest.approx((0.54, 5, 3, 0.396), abs=1e-12)


def test_gaussian_widths_and_two_arms():
    # Rewards on the grid of 2**-16.
    policy = GaussianThompson(mean=0.5, mean_outcomes=1, shape=1, rate=0.25)
    state = told(policy, "aaaa", [0.25, 0.875, 0.375, 0.75])
    choice = policy.choose(state, situation())
    m, k, a, b = posterior([0.25, 0.875, 0.375, 0.75], (0.5, 1, 1, 0.25))
    assert choice.means == pytest.approx([m, 0.5], abs=1e-12)
    assert choice.widths == pytest.approx([np.sqrt(b / (a * k)), 0.5], abs=1e-12)
    first, second = stats.t(2 * a, m, choice.widths[0]), stats.t(2, 0.5, 0.5)
    x = np.unique(np.concatenate([one.ppf(np.linspace(1e-7, 1 - 1e-7, 100_001)) for one in (first, second)]))
    below = second.cdf(x)
    wins = np.sum(np.diff(first.cdf(x)) * (below[1:] + below[:-1]) / 2)
    assert choice.probabilities[0] == pytest.approx(wins, abs=1e-5)


@BOTH
def test_a_doubled_weight_is_a_repeated_outcome(policy):
    arms, rewards = "aabbb", [0.25, 1, 0, 0.5, 1]
    once = told(policy, arms, rewards, weights=np.full(5, 2.0))
    twice = told(policy, arms * 2, rewards * 2)
    assert policy.choose(once, situation()).probabilities.tolist() == (
        policy.choose(twice, situation()).probabilities.tolist()
    )


@BOTH
def test_two_halves_merged_are_one_pass(policy):
    rng = np.random.default_rng(0)
    arms, rewards = rng.choice(list("abc"), 101), rng.random(101)
    one = told(policy, arms, rewards)
    other = policy.merge(told(policy, arms[:50], rewards[:50]), told(policy, arms[50:], rewards[50:]))
    assert other.to_bytes() == one.to_bytes()
    asked = situation("abc")
    assert policy.choose(other, asked).probabilities.tolist() == (
        policy.choose(one, asked).probabilities.tolist()
    )


@BOTH
def test_a_prior_is_as_good_as_its_outcomes(policy):
    seen = told(policy, "a" * 9 + "bb", [0.25] * 7 + [1, 0, 1, 1])
    believed = told(policy, "aabb", [1, 0, 1, 1])
    with_prior = policy.choose(believed, situation(priors={"a": ArmPrior(0.25, 7)}))
    without = policy.choose(seen, situation())
    assert with_prior.probabilities == pytest.approx(without.probabilities, abs=1e-12)
    assert with_prior.widths == pytest.approx(without.widths, abs=1e-12)


@BOTH
def test_a_wrong_prior_is_overcome(policy):
    """An arm of .3 that is believed to earn .9, in 20 outcomes, falls behind one of .6 with its own 150."""
    overcome = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        rewards = np.concatenate([rng.random(150) < 0.3, rng.random(150) < 0.6]).astype(float)
        choice = policy.choose(
            told(policy, "a" * 150 + "b" * 150, rewards), situation(priors={"a": ArmPrior(0.9, 20)})
        )
        overcome += choice.probabilities[0] < 0.5
    assert overcome >= 95


@BOTH
def test_awaited_outcomes_narrow_a_belief_and_keep_its_mean(policy):
    state = told(policy, "aabb", [0.25, 1, 1, 0])
    waiting = situation(pending={"a": np.zeros((20, 0), np.int64)})
    plain, narrowed = policy.choose(state, situation()), policy.choose(state, waiting)
    assert narrowed.widths[0] < 0.6 * plain.widths[0]
    assert narrowed.means == pytest.approx(plain.means, abs=1e-15)
    assert narrowed.widths[1] == plain.widths[1]


@BOTH
def test_a_penalty_takes_probability_and_no_mean(policy):
    state = told(policy, "aabb", [1, 0, 1, 0])
    shares = []
    for penalty in (0.0, 0.1, 0.3, 1.5):
        choice = policy.choose(state, situation(penalties=np.array([penalty, 0.0])))
        assert choice.means.tolist() == [0.5, 0.5]
        shares.append(choice.probabilities[0])
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == pytest.approx(0.5)
    assert shares[-1] < 0.01


@pytest.mark.parametrize("policy", [BetaThompson(half_life_s=10.0), GaussianThompson(half_life_s=10.0)])
def test_what_was_long_ago_counts_less(policy):
    state = told(policy, "a" * 50 + "b", [1] * 50 + [0.5], times=np.append(np.zeros(50), 1000.0))
    now = policy.choose(state, situation(now=1000.0))
    assert now.means[0] == pytest.approx(0.5, abs=1e-9)
    fresh = policy.choose(told(policy, "b", [0.5]), situation())
    assert now.probabilities == pytest.approx(fresh.probabilities, abs=1e-6)


@BOTH
def test_an_arm_whose_outcomes_were_taken_back_too_early_has_its_prior(policy):
    addends = -outcomes(["a"], np.empty((1, 0)), np.array([1.0]))
    state = policy.fold(policy.init(0), addends)
    choice = policy.choose(state, situation())
    assert choice.probabilities == pytest.approx([0.5, 0.5])


@BOTH
def test_a_choice_can_be_handed_out_again(policy):
    state = told(policy, "aabb", [0, 1, 1, 0])
    choice = policy.choose(state, situation())
    with pytest.raises(ValueError, match="read-only"):
        choice.probabilities[0] = 1.0
    other = policy.choose(state, situation(penalties=np.array([0.5, 0.0])))
    assert other.probabilities[0] < policy.choose(state, situation()).probabilities[0]


def test_bad_parameters_are_refused():
    with pytest.raises(InvalidParameter, match="successes"):
        BetaThompson(successes=0.1)
    with pytest.raises(InvalidParameter, match="rate"):
        GaussianThompson(rate=0)
