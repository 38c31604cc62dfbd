"""Track-and-stop: the phases of an experiment, what moves its shares, and what moves its verdict."""

import numpy as np
import pytest

from kshot.errors import InvalidParameter
from kshot.selectors.bandits import ArmPrior, Situation, outcomes
from kshot.selectors.bandits.best_arm import allocation, confidence_sequence, smoothed_variance
from kshot.selectors.bandits.propensity import Exploration, decision_seed, distribution, draw
from kshot.selectors.bandits.track_and_stop import Phase, Standing, TrackAndStop

POLICY = TrackAndStop()


def told(counts, policy=POLICY, state=None):
    """Fold successes and failures, given by arm."""
    arms = [arm for arm, (s, f) in counts.items() for _ in range(s + f)]
    rewards = [reward for s, f in counts.values() for reward in [1.0] * s + [0.0] * f]
    addends = outcomes(arms, np.empty((len(arms), 0)), np.array(rewards))
    return policy.fold(policy.init(0) if state is None else state, addends)


def asked(arms="ab", **more):
    return Situation(tuple(arms), np.empty(0), **more)


def shares(state, situation, policy=POLICY):
    return policy.choose(state, situation).probabilities


def test_the_phases_of_an_experiment():
    state = POLICY.init(0)
    assert POLICY.standing(state, asked("abc")).phase is Phase.NURSERY
    assert shares(state, asked("abc")) == pytest.approx([1 / 3] * 3)

    state = told({"a": (6, 4)})
    assert POLICY.standing(state, asked("abc")) == Standing(Phase.MIXED, None, None, None)
    # Two of three arms are new: two thirds between them.
    assert shares(state, asked("abc")) == pytest.approx([1 / 3] * 3)

    state = told({"b": (5, 5)}, state=state)
    standing = POLICY.standing(state, asked("abc"))
    assert standing.phase is Phase.MIXED
    assert standing.statistic is not None and standing.threshold is not None  # noqa: PT018
    assert standing.statistic < standing.threshold
    variances = smoothed_variance(np.array([10, 10]), np.array([6, 5]), np.array([6, 5]))
    expected = 2 / 3 * allocation([0.6, 0.5], variances)
    assert shares(state, asked("abc")) == pytest.approx([*expected, 1 / 3])

    state = told({"c": (1, 9)}, state=state)
    assert POLICY.standing(state, asked("abc")).phase is Phase.BANDIT
    assert shares(state, asked("abc")).min() > 0

    state = told({"a": (600, 100), "b": (50, 60)}, state=state)
    standing = POLICY.standing(state, asked("abc"))
    assert (standing.phase, standing.winner) == (Phase.STOPPED, "a")
    assert standing.statistic is not None and standing.threshold is not None  # noqa: PT018
    assert standing.statistic > standing.threshold
    assert shares(state, asked("abc")).tolist() == [1, 0, 0]

    assert POLICY.standing(state, asked("abcd")).phase is Phase.STOPPED_NURSERY
    assert shares(state, asked("abcd")) == pytest.approx([0.75, 0, 0, 0.25])
    # A new arm that sorts before the winner.
    assert shares(state, asked("0abc")) == pytest.approx([0.25, 0.75, 0, 0])


def test_one_arm_has_nothing_to_win_against():
    state = told({"a": (6, 4)})
    assert shares(state, asked("a")).tolist() == [1]
    assert POLICY.standing(state, asked("a")) == Standing(Phase.BANDIT, None, None, None)


def test_arms_that_may_not_be_served_do_not_count():
    state = told({"a": (60, 40), "b": (50, 50), "c": (100, 0)})
    without = told({"a": (60, 40), "b": (50, 50)})
    assert shares(state, asked()).tolist() == shares(without, asked()).tolist()
    assert POLICY.standing(state, asked()) == POLICY.standing(without, asked())


def test_a_verdict_can_be_withdrawn():
    state = told({"a": (90, 10), "b": (50, 50)})
    assert POLICY.standing(state, asked()).winner == "a"
    later = told({"a": (20, 180)}, state=state)
    assert POLICY.standing(later, asked()).winner != "a"


def test_ten_of_ten_successes_on_both_arms_are_no_verdict():
    """With eps above 0 and variances of 0, one outcome more than none would be enough."""
    policy = TrackAndStop(eps=0.01)
    state = told({"a": (10, 0), "b": (10, 0)}, policy)
    assert policy.standing(state, asked()).phase is Phase.BANDIT
    assert shares(state, asked(), policy) == pytest.approx([0.5, 0.5])


def test_eps_lets_equal_arms_come_to_an_end():
    state = told({"a": (2500, 2500), "b": (2500, 2500)})
    assert POLICY.standing(state, asked()).winner is None
    assert TrackAndStop(eps=0.1).standing(state, asked()).winner == "a"


def test_widths_are_those_of_always_valid_intervals():
    state = told({"a": (50, 50)})
    choice = POLICY.choose(state, asked())
    expected = confidence_sequence(100, 0.0, smoothed_variance(100, 50, 50)).high
    assert choice.widths == pytest.approx([expected, np.inf])
    assert choice.means.tolist() == [0.5, 0.5]


def test_penalties_can_turn_a_verdict():
    state = told({"a": (450, 50), "b": (350, 150)})
    assert POLICY.standing(state, asked()).winner == "a"
    costly = asked(penalties=np.array([0.5, 0.0]))
    assert POLICY.standing(state, costly).winner == "b"
    assert shares(state, costly).tolist() == [0, 1]
    even = asked(penalties=np.array([0.2, 0.0]))
    assert POLICY.standing(state, even).winner is None


def test_priors_move_shares_and_means_but_no_verdict():
    state = told({"a": (10, 10), "b": (8, 12), "c": (4, 16)})
    plain, believed = asked("abc"), asked("abc", priors={"b": ArmPrior(0.9, 40), "d": ArmPrior(0.9, 5)})
    assert POLICY.standing(state, plain) == POLICY.standing(state, believed)
    assert POLICY.choose(state, believed).means[1] == pytest.approx((8 + 36) / 60)
    assert shares(state, believed)[0] != pytest.approx(shares(state, plain)[0], abs=0.01)
    # No prior takes an arm out of the nursery.
    assert POLICY.standing(state, asked("ad", priors={"d": ArmPrior(0.9, 50)})).phase is Phase.MIXED


def test_every_compared_arm_gets_its_least_share():
    policy = TrackAndStop(least_share=0.2)
    state = told({"a": (30, 10), "b": (26, 14), "c": (2, 38)}, policy)
    assert policy.standing(state, asked("abc")).winner is None
    assert shares(state, asked("abc"), policy).min() >= 0.2
    assert shares(state, asked("abc")).min() < 0.1
    # More than one part in K is one part in K.
    assert shares(state, asked("abc"), TrackAndStop(least_share=0.9)) == pytest.approx([1 / 3] * 3)


def test_fractional_rewards_vary_less_and_end_sooner():
    rng = np.random.default_rng(0)
    arms, place = ["a"] * 60 + ["b"] * 60, np.repeat([0.6, 0.5], 60)
    mild = outcomes(arms, np.empty((120, 0)), place + rng.uniform(-0.1, 0.1, 120))
    coins = outcomes(arms, np.empty((120, 0)), (np.tile(np.arange(60) / 60, 2) < place).astype(float))
    first, second = (POLICY.standing(POLICY.fold(POLICY.init(0), part), asked()) for part in (mild, coins))
    assert first.winner == "a"
    assert second.winner is None


def run(p, policy, seed, steps, batch):
    """Serve, draw by decision ids, learn in batches; return the verdict and the outcomes it took."""
    rng = np.random.default_rng(seed)
    arms = tuple("abcdef"[: len(p)])
    state, situation = policy.init(0), asked(arms)
    for step in range(0, steps, batch):
        mixed = distribution(
            policy.choose(state, situation), np.full(len(p), 99), Exploration(floor=0, holdout=0)
        )
        places = [draw(mixed, decision_seed("t", seed, str(step + i))).place for i in range(batch)]
        rewards = (rng.random(batch) < np.asarray(p)[places]).astype(float)
        state = policy.fold(state, outcomes([arms[i] for i in places], np.empty((batch, 0)), rewards))
        standing = policy.standing(state, situation)
        if standing.phase is Phase.STOPPED:
            return standing.winner, step + batch
    return None, steps


@pytest.mark.slow
def test_experiments_from_decision_to_verdict():
    """Of 200 runs with .95 against .99, eps .01: binomial, at .05 no more than 20 with probability .9985."""
    policy = TrackAndStop(eps=0.01)
    found = [run([0.95, 0.99], policy, seed, 20_000, 20) for seed in range(200)]
    winners = [winner for winner, _ in found]
    assert None not in winners
    assert winners.count("a") <= 20
    assert np.median([count for _, count in found]) < 900


@pytest.mark.slow
def test_of_five_arms_the_best_wins():
    policy = TrackAndStop()
    found = [run([0.7, 0.6, 0.3, 0.3, 0.2], policy, seed, 20_000, 50) for seed in range(60)]
    assert [winner for winner, _ in found].count("a") >= 55


def test_bad_parameters_are_refused():
    with pytest.raises(InvalidParameter, match="least_outcomes"):
        TrackAndStop(least_outcomes=1)
    with pytest.raises(InvalidParameter, match="delta"):
        TrackAndStop(delta=0)
