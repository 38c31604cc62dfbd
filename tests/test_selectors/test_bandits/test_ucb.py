"""UCB1 and UCB-V: indices by hand and by a published implementation, and what they do when outcomes come."""

import numpy as np
import pytest

from kshot.errors import InvalidParameter
from kshot.selectors.bandits import ArmPrior, Situation, outcomes
from kshot.selectors.bandits.ucb1 import Ucb1, ucb1_widths
from kshot.selectors.bandits.ucb_v import UcbV, ucb_v_widths

NO_CONTEXT = np.empty(0)
BOTH = pytest.mark.parametrize("policy", [Ucb1(), UcbV()], ids=["ucb1", "ucb_v"])

MABWISER = [
    # MABWiser 2.7.4, LearningPolicy.UCB1(alpha), fit on the first half and partial_fit on the second:
    # seed, alpha, arms, rewards, expectations after the first half, and after both.
    (
        0,
        1.0,
        3,
        40,
        [1.4179121380047166, 1.5927698997154083, 1.4575274123468525],
        [1.2669456070563294, 1.171232807082795, 1.3613300934080188],
    ),
    (
        1,
        0.5,
        5,
        200,
        [0.8651536248659871, 0.7731791930478054, 0.8348327385406614, 0.8441040771184278, 0.9678286370630778],
        [0.8144645048970358, 0.7259684630840619, 0.774439570354432, 0.7860815769422658, 0.7621194003134113],
    ),
    (
        2,
        2.0,
        4,
        1000,
        [1.1034853300702854, 1.1250284297388584, 1.1693485204703453, 1.112794378715802],
        [0.959006884031449, 0.9856725413741839, 0.9877106242645697, 0.9624999636246618],
    ),
]


def stream(seed, arms, count):
    """Return arms and rewards from a linear congruential generator, the same everywhere."""
    x, names, rewards = seed + 1, [], []
    for _ in range(count):
        x = (1103515245 * x + 12345) % 2**31
        names.append("abcdefgh"[(x >> 16) % arms])
        x = (1103515245 * x + 12345) % 2**31
        rewards.append(((x >> 16) % 1024) / 1024)
    return names, np.array(rewards)


def told(policy, arms, rewards, state=None, **more):
    addends = outcomes(list(arms), np.empty((len(rewards), 0)), np.array(rewards, float), **more)
    return policy.fold(policy.init(0) if state is None else state, addends)


def situation(arms="ab", **more):
    return Situation(tuple(arms), NO_CONTEXT, **more)


def index(choice):
    return choice.means + choice.widths


@pytest.mark.parametrize(("seed", "alpha", "K", "count", "half", "whole"), MABWISER)
def test_indices_are_those_of_a_published_implementation(seed, alpha, K, count, half, whole):
    policy = Ucb1(alpha=alpha)
    arms, rewards = stream(seed, K, count)
    at = count // 2
    first = told(policy, arms[:at], rewards[:at])
    asked = situation("abcdefgh"[:K])
    assert index(policy.choose(first, asked)) == pytest.approx(half, abs=1e-12)
    both = told(policy, arms[at:], rewards[at:], first)
    choice = policy.choose(both, asked)
    assert index(choice) == pytest.approx(whole, abs=1e-12)
    assert np.argmax(choice.probabilities) == np.argmax(whole)


def test_ten_and_five_outcomes():
    # .6 + sqrt(2 ln 15 / 10) = 1.3359; .5 + sqrt(2 ln 15 / 5) = 1.5408.
    state = told(Ucb1(), "a" * 10 + "b" * 5, [1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 1, 0, 0.5, 0.5, 0.5])
    choice = Ucb1().choose(state, situation())
    assert index(choice) == pytest.approx([1.3359, 1.5408], abs=5e-5)
    assert choice.probabilities.tolist() == [0, 1]


def test_ucb_v_of_rewards_that_do_not_vary_has_only_the_second_term():
    state = told(UcbV(), "aab", [0.25, 0.25, 0.5])
    # E = 1.2 ln 3; 3 E / n.
    E = 1.2 * np.log(3)
    assert UcbV().choose(state, situation()).widths == pytest.approx([3 * E / 2, 3 * E], abs=1e-12)


def test_ucb_v_by_hand():
    # Variance of 0, 1, 1, 0 is 1/4; t = 5: E = 1.2 ln 5.
    state = told(UcbV(), "aaaab", [0, 1, 1, 0, 1])
    E = 1.2 * np.log(5)
    choice = UcbV().choose(state, situation())
    assert choice.means.tolist() == [0.5, 1.0]
    assert choice.widths == pytest.approx([np.sqrt(2 * 0.25 * E / 4) + 3 * E / 4, 3 * E], abs=1e-12)


@BOTH
def test_every_index_moves_with_every_outcome(policy):
    before = told(policy, "aabb", [0, 1, 1, 0])
    after = told(policy, "b", [1], before)
    old, new = (policy.choose(state, situation()) for state in (before, after))
    assert new.widths[0] > old.widths[0]
    assert new.means[0] == old.means[0]


@BOTH
def test_arms_without_outcomes_come_first_and_in_order(policy):
    state = told(policy, "bb", [1, 1])
    choice = policy.choose(state, situation("abc"))
    assert choice.probabilities.tolist() == [1, 0, 0]
    assert np.isinf(choice.widths).tolist() == [True, False, True]
    assert choice.means.tolist() == [0.5, 1, 0.5]


@BOTH
def test_arms_that_may_not_be_served_do_not_count(policy):
    few = told(policy, "aabb", [0, 1, 1, 0])
    more = told(policy, "ccc", [1, 1, 1], few)
    assert policy.choose(more, situation("ab")).widths.tolist() == (
        policy.choose(few, situation("ab")).widths.tolist()
    )


@BOTH
def test_a_prior_is_as_good_as_its_outcomes(policy):
    # Seven outcomes of a quarter, believed or seen.
    seen = told(policy, "a" * 9 + "bb", [0.25] * 7 + [1, 0, 1, 1])
    believed = told(policy, "aabb", [1, 0, 1, 1])
    priors = {"a": ArmPrior(0.25, 7)}
    with_prior = policy.choose(believed, situation(priors=priors))
    assert index(with_prior) == pytest.approx(index(policy.choose(seen, situation())), abs=1e-12)


@BOTH
def test_awaited_outcomes_narrow_a_width_and_no_mean(policy):
    state = told(policy, "aabb", [0, 1, 1, 0])
    waiting = situation(pending={"a": np.zeros((2, 0), np.int64)})
    plain, narrowed = policy.choose(state, situation()), policy.choose(state, waiting)
    assert plain.probabilities.tolist() == [1, 0]
    assert narrowed.probabilities.tolist() == [0, 1]
    assert narrowed.widths[0] < plain.widths[0]
    assert narrowed.means.tolist() == plain.means.tolist()


@BOTH
def test_penalties_are_subtracted(policy):
    state = told(policy, "aabb", [0, 1, 1, 0])
    choice = policy.choose(state, situation(penalties=np.array([0.1, 0.0])))
    assert choice.probabilities.tolist() == [0, 1]
    assert choice.means.tolist() == [0.5, 0.5]


@pytest.mark.parametrize("policy", [Ucb1(half_life_s=10.0), UcbV(half_life_s=10.0)])
def test_what_was_long_ago_counts_less(policy):
    state = told(policy, "aabb", [1, 1, 0, 0], times=np.array([0.0, 0, 1000, 1000]))
    choice = policy.choose(state, situation(now=1000.0))
    assert choice.widths[0] > 1e6
    # Discounted counts of 2 and nothing: t = 2.
    expected = policy.choose(told(type(policy)(), "bb", [0, 0]), situation("b")).widths
    assert choice.widths[1] == pytest.approx(expected[0], rel=0.01)


def test_widths_of_nothing_are_infinite():
    assert np.isinf(ucb1_widths([0, 0], 0)).all()
    assert np.isinf(ucb_v_widths([0, 0], [0, 0], 0)).all()


def test_bad_parameters_are_refused():
    with pytest.raises(InvalidParameter, match="alpha"):
        Ucb1(alpha=-1)
    with pytest.raises(InvalidParameter, match="exploration"):
        UcbV(exploration=-1)
