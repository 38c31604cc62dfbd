"""Alarms: harm beside a control arm, change, missing answers; how often each is false, and how soon true."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kshot.errors import InvalidParameter, InvalidShape
from kshot.selectors.bandits.alarms import (
    RunningMean,
    baseline_guard,
    change_alarms,
    feedback_alarm,
    ips_values,
)
from kshot.selectors.bandits.best_arm import confidence_sequence, smoothed_variance
from kshot.selectors.bandits.columns import Columns


def test_values_of_an_arm_by_hand():
    found = ips_values(np.array([True, False, True]), [0.5, 0.1, 0.2], [1.0, 1.0, 0.5])
    assert found.tolist() == [2.0, 0.0, 2.5]


def test_values_are_without_bias_and_1_in_K_is_not():
    rng = np.random.default_rng(0)
    n = 40_000
    p = np.where(rng.random(n) < 0.5, 0.05, 0.6)
    served = rng.random(n) < p
    rewards = (rng.random(n) < np.where(served, 0.7, 0.3)).astype(float)
    values = ips_values(served, p, rewards)
    # Four standard errors.
    assert values.mean() == pytest.approx(0.7, abs=4 * values.std() / np.sqrt(n))
    assert ips_values(served, np.full(n, 0.2), rewards).mean() > 1.0


def log(rng, runs, steps, p_control, control, others):
    """Return which decisions served the control arm, and what they earned, shape (runs, steps)."""
    served = rng.random((runs, steps)) < p_control
    rewards = (rng.random((runs, steps)) < np.where(served, control, others)).astype(float)
    return served, rewards


def blamed(served, rewards, p_control, looks, alpha=0.05):
    """Return how many runs blame their policy at any of the looks."""
    found = 0
    for own, earned in zip(served, rewards, strict=True):
        values = ips_values(own, np.full(len(own), p_control), earned)
        found += any(
            baseline_guard(RunningMean.of(values[:at]), RunningMean.of(earned[:at]), alpha).is_harmful
            for at in looks
        )
    return found


@pytest.mark.parametrize("p_control", [0.02, 0.3])
def test_a_policy_as_good_as_the_control_arm_is_not_blamed(p_control):
    rng = np.random.default_rng(1)
    served, rewards = log(rng, 200, 3000, p_control, 0.4, 0.4)
    # At most .05: 10 of 200, and four standard deviations of 3.1 more; both bounds must fail together.
    assert blamed(served, rewards, p_control, range(100, 3001, 50)) <= 10


def test_a_policy_that_does_harm_is_blamed():
    rng = np.random.default_rng(2)
    served, rewards = log(rng, 40, 4000, 0.1, 0.8, 0.3)
    assert blamed(served, rewards, 0.1, [4000]) == 40
    better, own = log(rng, 40, 4000, 0.1, 0.3, 0.8)
    assert blamed(better, own, 0.1, range(100, 4001, 100)) == 0


def test_no_policy_is_blamed_before_enough_decisions_or_without_any():
    control, policy = RunningMean(99, 99.0, 99.0), RunningMean(99, 0.0, 0.0)
    assert not baseline_guard(control, policy).is_harmful
    assert baseline_guard(control, policy, least_decisions=99).is_harmful
    empty = baseline_guard(RunningMean(), RunningMean(), least_decisions=0)
    assert not empty.is_harmful
    assert np.isinf([*empty.control, *empty.policy]).all()


def test_the_guard_compares_the_bounds_of_half_alpha():
    control, policy = RunningMean.of([2.0, 0.0] * 500), RunningMean.of([1.0, 0.0] * 500)
    guard = baseline_guard(control, policy, 0.1)
    assert [*guard.control] == [*confidence_sequence(1000, 1.0, 1.0, 0.05)]
    assert [*guard.policy] == [*confidence_sequence(1000, 0.5, smoothed_variance(1000, 500, 500), 0.05)]
    assert guard.is_harmful == (guard.control.low > guard.policy.high)


@given(st.lists(st.integers(0, 64), max_size=20), st.integers(0, 20))
def test_running_means_of_parts_add_up(numbers, cut):
    values = np.array(numbers) / 64
    assert RunningMean.of(values[:cut]) + RunningMean.of(values[cut:]) == RunningMean.of(values)


def stretch(rng, counts, p):
    n = np.asarray(counts, np.int64)
    s = rng.binomial(n, p).astype(float)
    return Columns(n, n.astype(float), s, s)


def test_arms_that_have_not_changed_raise_no_alarm():
    rng = np.random.default_rng(3)
    raised = 0
    for _ in range(300):
        p = rng.uniform(0.05, 0.95, 4)
        before, late = stretch(rng, [50, 200, 1000, 5000], p), stretch(rng, [40, 80, 150, 400], p)
        raised += bool(change_alarms(late, before, 0.05).changed.any())
    # At most .05: 15 of 300.
    assert raised <= 15


def test_an_arm_that_has_changed_raises_an_alarm_and_no_other_does():
    rng = np.random.default_rng(4)
    before = stretch(rng, [1000, 1000, 1000], [0.5, 0.5, 0.5])
    late = stretch(rng, [200, 200, 200], [0.5, 0.1, 0.9])
    found = change_alarms(late, before)
    assert found.changed.tolist() == [False, True, True]
    assert found.change.high[1] < 0 < found.change.low[2]


def test_bounds_of_a_change_by_hand():
    # 30 of 100 against 600 of 1000: variance of late ones, and a tenth of that before.
    before = Columns(np.array([1000]), np.array([1000.0]), np.array([600.0]), np.array([600.0]))
    late = Columns(np.array([100]), np.array([100.0]), np.array([30.0]), np.array([30.0]))
    q, p = 31 / 102, 601 / 1002
    expected = confidence_sequence(100, -0.3, q * (1 - q) + 0.1 * p * (1 - p), 0.01)
    found = change_alarms(late, before, 0.01)
    assert [found.change.low[0], found.change.high[0]] == pytest.approx([*expected], abs=1e-12)
    assert found.changed.tolist() == [True]


def test_of_arms_without_outcomes_nothing_is_known():
    none = Columns(np.zeros(2, np.int64), np.zeros(2), np.zeros(2), np.zeros(2))
    some = Columns(np.array([50, 0]), np.array([50.0, 0]), np.array([50.0, 0]), np.array([50.0, 0]))
    for late, before in ((none, some), (some, none)):
        found = change_alarms(late, before)
        assert found.changed.tolist() == [False, False]
        assert np.isinf(found.change.low).all()


def test_a_reference_that_is_little_known_is_no_evidence():
    late = Columns(np.array([60]), np.array([60.0]), np.array([48.0]), np.array([48.0]))
    well = Columns(np.array([500]), np.array([500.0]), np.array([200.0]), np.array([200.0]))
    little = Columns(np.array([5]), np.array([5.0]), np.array([2.0]), np.array([2.0]))
    assert change_alarms(late, well).changed.tolist() == [True]
    assert change_alarms(late, little).changed.tolist() == [False]


def test_an_arm_with_fewer_answers_raises_the_alarm():
    raised, rates = feedback_alarm({"a": 1000, "b": 1000}, {"a": 600, "b": 480})
    assert raised
    assert dict(rates.rates) == {"a": 0.6, "b": 0.48}
    assert not feedback_alarm({"a": 1000, "b": 1000}, {"a": 600, "b": 590})[0]
    # The same p-value is no alarm at a lower level.
    assert not feedback_alarm({"a": 100, "b": 100}, {"a": 60, "b": 40})[0]
    assert feedback_alarm({"a": 100, "b": 100}, {"a": 60, "b": 40}, 0.01)[0]


def test_few_answers_say_nothing():
    # 3 of 6 and 0 of 1000: significant, by cells in which a thousandth is expected.
    raised, rates = feedback_alarm({"a": 6, "b": 1000}, {"a": 3})
    assert rates.p_value < 1e-6
    assert not raised
    assert not feedback_alarm({}, {})[0]
    assert not feedback_alarm({"a": 0}, {})[0]


def test_equal_rates_raise_the_alarm_as_seldom_as_the_level_says():
    rng = np.random.default_rng(5)
    raised = 0
    for _ in range(2000):
        known = rng.binomial([200, 100, 50], 0.6)
        raised += feedback_alarm({"a": 200, "b": 100, "c": 50}, dict(zip("abc", known, strict=True)), 0.01)[0]
    # 20 expected, standard deviation 4.4.
    assert raised <= 38


def test_bad_numbers_are_refused():
    with pytest.raises(InvalidParameter, match="above 0, at most 1"):
        ips_values(np.array([True]), [0.0], [1.0])
    with pytest.raises(InvalidParameter, match="above 0, at most 1"):
        ips_values(np.array([True]), [1.5], [1.0])
    with pytest.raises(InvalidShape):
        ips_values(np.array([True, False]), [0.5], [1.0])
    with pytest.raises(InvalidParameter, match="alpha is"):
        baseline_guard(RunningMean(), RunningMean(), 0.0)
    with pytest.raises(InvalidParameter, match=r"level is 2, allowed 0 to 1"):
        feedback_alarm({}, {}, 2)
    one, two = (Columns(np.zeros(k, np.int64), np.zeros(k), np.zeros(k), np.zeros(k)) for k in (1, 2))
    with pytest.raises(InvalidShape, match="late"):
        change_alarms(one, two)
