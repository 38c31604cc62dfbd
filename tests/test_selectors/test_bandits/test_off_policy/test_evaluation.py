"""An evaluation says how sure it is, and refuses where it cannot know."""

import numpy as np
import pytest

from kshot.errors import InsufficientSupport, InvalidParameter, InvalidShape
from kshot.selectors.bandits.off_policy import DecisionLog, evaluate
from kshot.selectors.bandits.off_policy.estimators import Terms, direct, ips, snips
from kshot.selectors.bandits.off_policy.intervals import bernstein_interval, bootstrap_interval
from kshot.selectors.bandits.off_policy.support import support, unsupported_share
from tests.test_selectors.test_bandits.test_off_policy.logs import World


def rng(seed=0):
    return np.random.default_rng(seed)


def terms_of(values):
    values = np.asarray(values, np.float64)
    return Terms(values, np.zeros(len(values)), None, 1.0)


# Intervals.


def test_resampled_means_are_as_far_apart_as_theory_says():
    values = rng(1).random(400)
    low, high = bootstrap_interval(terms_of(values), np.arange(400), rng(), resamples=20_000)
    half = 1.96 * values.std() / 20
    # Quantiles of 20,000 resamples: within 3 %.
    assert high - low == pytest.approx(2 * half, rel=0.03)
    assert (low + high) / 2 == pytest.approx(values.mean(), abs=0.03 * half)


def test_sessions_are_resampled_whole():
    """Ten copies of every value say no more than one."""
    values = rng(1).random(40)
    repeated, sessions = np.repeat(values, 10), np.repeat(np.arange(40), 10)
    widths = [
        np.ptp(bootstrap_interval(terms_of(v), s, rng()))
        for v, s in ((values, np.arange(40)), (repeated, sessions), (repeated, np.arange(400)))
    ]
    assert widths[0] == pytest.approx(widths[1], rel=1e-9)
    assert widths[2] == pytest.approx(widths[0] / np.sqrt(10), rel=0.15)


def test_blocks_of_resamples_change_nothing():
    """Too many sessions for one block: two thousand resamples of 5,000 in parts of 838."""
    values = rng(2).random(5_000)
    low, high = bootstrap_interval(terms_of(values), np.arange(5_000), rng(), resamples=2_000)
    assert high - low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(5_000), rel=0.1)


def test_a_ratio_is_resampled_as_a_ratio():
    """Where reward and weight are proportional the ratio is constant, and its interval has no width."""
    w = rng(3).random(100) + 0.1
    low, high = bootstrap_interval(snips(w, np.full(100, 0.25)), np.arange(100), rng())
    np.testing.assert_allclose([low, high], 0.25)


def test_intervals_cover_the_truth_as_often_as_they_say():
    world = World(2)
    truth = world.value()
    inside = {"bootstrap": 0, "bernstein": 0}
    for seed in range(300):
        log = world.log(seed, 250)
        done = (np.arange(250), log.arms)
        terms = ips(world.target(log.contexts)[done] / log.propensities, log.rewards)
        low, high = bootstrap_interval(terms, log.sessions, rng(seed), resamples=300)
        inside["bootstrap"] += low <= truth <= high
        bound = bernstein_interval(terms, log.sessions)
        assert bound is not None
        inside["bernstein"] += bound.low <= truth <= bound.high
    # 285 expected, standard deviation 3.8; skew costs a few.
    assert 265 <= inside["bootstrap"] <= 299
    assert inside["bernstein"] == 300


def test_the_bound_is_that_of_the_formula():
    values = np.array([0.0, 1.0, 1.0, 0.0, 1.0])
    found = bernstein_interval(direct(values), np.arange(5))
    # Variance 0.3, ln(4 / .05) = 4.382027: sqrt(2 * .3 * 4.382027 / 5) + 7 * 4.382027 / 12 = 3.281332.
    assert found is not None
    np.testing.assert_allclose([found.high - 0.6, 0.6 - found.low], 3.281332, atol=1e-6)
    assert bernstein_interval(snips(values, values), np.arange(5)) is None
    alone = bernstein_interval(direct(values), np.zeros(5, np.int64))
    assert alone is not None
    assert np.isinf(alone.high)


# Support.


def test_effective_decisions_by_hand():
    found = support(np.array([1.4, 0.4, 1.125, 0.4, 4.0]), np.arange(5))
    assert found.effective == pytest.approx(2.745147, abs=1e-6)
    assert found.largest_weight == 4.0
    assert found.mean_weight == pytest.approx(1.465)
    equal = support(np.ones(60), np.arange(60))
    assert (equal.effective, equal.mean_weight_error, equal.weights_plausible) == (60.0, 0.0, True)


def test_the_error_of_the_mean_weight_is_that_of_sessions():
    w = rng(4).random(50)
    single = support(w, np.arange(50)).mean_weight_error
    assert single == pytest.approx(w.std(ddof=1) / np.sqrt(50))
    # Where sessions repeat themselves there are 50 of them, and not 150 decisions.
    repeated = support(np.repeat(w, 3), np.repeat(np.arange(50), 3))
    assert repeated.mean_weight_error == pytest.approx(single)


def test_arms_that_are_never_served_have_no_support():
    target = np.array([[0.5, 0.25, 0.25], [0.0, 0.5, 0.5]])
    arms = np.array([0, 1])
    assert unsupported_share(target, None, arms) == 0.375
    behaviour = np.array([[0.9, 0.0, 0.1], [0.5, 0.5, 0.0]])
    assert unsupported_share(target, behaviour, arms) == 0.375
    assert unsupported_share(target, np.full((2, 3), 1 / 3), arms) == 0.0


def test_wrong_propensities_are_seen():
    """Logged as 1 / K though drawn otherwise: the weights no longer have mean 1."""
    world = World(3)
    log = world.log(0, 2_000)
    target = world.target(log.contexts)
    right = evaluate(log, target, rng(), resamples=50).support
    assert right.weights_plausible
    claimed = DecisionLog(log.contexts, log.arms, log.rewards, np.full(2_000, 1 / 3), log.sessions, log.times)
    wrong = evaluate(claimed, target, rng(), resamples=50).support
    assert abs(wrong.mean_weight - 1) > 5 * wrong.mean_weight_error
    assert not wrong.weights_plausible


def test_right_propensities_are_rarely_doubted():
    world = World(3)
    doubted = 0
    for seed in range(200):
        log = world.log(seed, 300)
        done = (np.arange(300), log.arms)
        weights = world.target(log.contexts)[done] / log.propensities
        doubted += not support(weights, log.sessions).weights_plausible
    # 0.3 % expected of a normal mean; skewed weights cost a few more.
    assert doubted <= 6


# Evaluations.


def test_every_estimator_finds_the_value_of_the_target():
    world = World()
    truth = world.value()
    log = world.log(1, 6_000)
    found = evaluate(log, world.target(log.contexts), rng(), resamples=200)
    assert set(found.estimates) == {
        "ips", "clipped_ips", "snips", "dm", "dr", "clipped_dr", "sndr", "switch", "dros",
    }  # fmt: skip
    for name, one in found.estimates.items():
        low, high = one.interval
        assert low <= one.value <= high
        if name == "clipped_ips":
            # What is clipped is missing, and nothing takes its place.
            assert one.value < found.estimates["ips"].value
        elif name == "dm":
            # The error of the model itself is outside of the interval.
            assert abs(one.value - truth) < 0.02
        else:
            assert abs(one.value - truth) <= 2.5 * (high - low) / 3.92, name
        assert (one.bernstein is None) == (name in ("snips", "sndr"))
    assert found.default == "clipped_dr"
    assert found.logged == log.rewards.mean()
    # The model takes the more away the better it is; here it is right.
    widths = {name: np.ptp(one.interval) for name, one in found.estimates.items()}
    assert widths["dr"] < 0.8 * widths["ips"]


def test_a_wrong_model_is_corrected_by_weights():
    world = World(effect=0.1, bend=0.3)
    truth = world.value()
    log = world.log(1, 6_000)
    nonsense = np.tile([0.9, 0.1, 0.2], (6_000, 1))
    found = evaluate(log, world.target(log.contexts), rng(), model=nonsense, resamples=200).estimates
    assert abs(found["dm"].value - truth) > 0.05
    assert found["dr"].interval.low <= truth <= found["dr"].interval.high


def test_decisions_without_propensity_are_left_out_and_counted():
    world = World()
    log = world.log(1, 600)
    target = world.target(log.contexts)
    missing = log.propensities.copy()
    missing[::3] = np.nan
    partly = DecisionLog(log.contexts, log.arms, log.rewards, missing, log.sessions, log.times, log.behaviour)
    kept = np.arange(600) % 3 > 0
    found, expected = (
        evaluate(partly, target, rng(), resamples=50),
        evaluate(log.take(kept), target[kept], rng(), resamples=50),
    )
    assert (found.support.n, found.support.missing) == (400, 200)
    assert found.estimates == expected.estimates


@pytest.mark.parametrize("n", [0, 40, 600])
def test_too_little_is_refused(n):
    world = World()
    log = world.log(1, n)
    unknown = DecisionLog(log.contexts, log.arms, log.rewards, np.full(n, np.nan), log.sessions, log.times)
    with pytest.raises(InsufficientSupport, match=f"none of {n} decisions has a known propensity"):
        evaluate(unknown, world.target(log.contexts), rng())
    if n == 40:
        with pytest.raises(InsufficientSupport, match="of 40 decisions are effective, wanted at least 50"):
            evaluate(log, world.target(log.contexts), rng())
    if n == 600:
        never = np.tile([1.0, 0.0, 0.0], (n, 1))
        others = log.take(log.arms > 0)
        with pytest.raises(InsufficientSupport, match=r"^0\.0 of"):
            evaluate(others, never[: len(others)], rng())


def test_the_same_log_and_generator_give_the_same_evaluation():
    log = World().log(1, 300, session_size=3)
    target = World().target(log.contexts)
    assert evaluate(log, target, rng(5), resamples=50) == evaluate(log, target, rng(5), resamples=50)


def test_what_makes_no_sense_is_refused():
    world = World()
    log = world.log(1, 100)
    target = world.target(log.contexts)
    for wrong in (target * 0.9, target * [2, -1, 1], target[:, :1] / target[:, :1]):
        with pytest.raises(InvalidParameter, match="target is no distribution"):
            evaluate(log, wrong, rng())
    with pytest.raises(InvalidShape, match="target"):
        evaluate(log, target[:5], rng())
    with pytest.raises(InvalidParameter, match="level"):
        bootstrap_interval(terms_of([1.0]), np.arange(1), rng(), level=1.0)
    with pytest.raises(InvalidParameter, match="resamples"):
        bootstrap_interval(terms_of([1.0]), np.arange(1), rng(), resamples=1)
    with pytest.raises(InvalidParameter, match="propensity is 0"):
        DecisionLog(log.contexts, log.arms, log.rewards, log.propensities * 0, log.sessions, log.times)
    with pytest.raises(InvalidParameter, match="reward is"):
        DecisionLog(log.contexts, log.arms, log.rewards + 1, log.propensities, log.sessions, log.times)
    with pytest.raises(InvalidParameter, match="arm is -1"):
        DecisionLog(log.contexts, log.arms * 0 - 1, log.rewards, log.propensities, log.sessions, log.times)
    with pytest.raises(InvalidShape, match="sessions"):
        DecisionLog(log.contexts, log.arms, log.rewards, log.propensities, log.sessions[:3], log.times)
