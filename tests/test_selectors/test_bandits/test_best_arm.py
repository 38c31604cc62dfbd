"""Best-arm search: shares, when to stop, intervals; and how often each of them is wrong."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import minimize

from kshot.errors import InvalidParameter, InvalidShape
from kshot.selectors.bandits.best_arm import (
    allocation,
    anytime_threshold,
    confidence_sequence,
    glr,
    leading,
    smoothed_variance,
    stopping_threshold,
)

INSTANCES = [
    # Means, variances, eps, shares.
    ([0.7, 0.5], [0.21, 0.25], 0.0, [0.47822, 0.52178]),
    ([0.7, 0.5, 0.3], [0.21, 0.25, 0.21], 0.0, [0.451234, 0.487827, 0.060939]),
    ([0.7, 0.65, 0.4, 0.1], [0.21, 0.2275, 0.24, 0.09], 0.02, [0.48295, 0.5025, 0.01325, 0.001301]),
]


def objective(weights, means, variances, eps=0.0):
    """Return what an allocation maximises, as it is defined."""
    best = int(np.argmax(means))
    return min(
        (means[best] - means[i] + eps) ** 2
        / (2 * (variances[best] / weights[best] + variances[i] / weights[i]))
        for i in range(len(means))
        if i != best
    )


@pytest.mark.parametrize(("means", "variances", "eps", "shares"), INSTANCES)
def test_published_shares(means, variances, eps, shares):
    assert allocation(means, variances, eps) == pytest.approx(shares, abs=5e-6)


def test_published_value():
    means, variances = [0.7, 0.5, 0.3], [0.21, 0.25, 0.21]
    assert objective(allocation(means, variances), means, variances) == pytest.approx(0.02045268, abs=5e-9)


@pytest.mark.parametrize("seed", range(8))
def test_no_search_over_the_simplex_finds_better_shares(seed):
    rng = np.random.default_rng(seed)
    K = int(rng.integers(2, 6))
    means, variances = rng.uniform(0.1, 0.9, K), rng.uniform(0.05, 0.25, K)
    eps = 0.05 * rng.random()
    # In logarithms, so that shares stay above 0; a maximum of t with every ratio at least t.
    best = int(np.argmax(means))
    others = [i for i in range(K) if i != best]

    def ratios(x):
        w = np.exp(x[:K]) / np.exp(x[:K]).sum()
        gaps = means[best] - means[others] + eps
        return gaps**2 / (2 * (variances[best] / w[best] + variances[others] / w[others]))

    start = np.append(np.zeros(K), ratios(np.zeros(K)).min())
    constraints = [
        {"type": "ineq", "fun": lambda x: 100 * (ratios(x) - x[K])},
        {"type": "eq", "fun": lambda x: x[:K].sum()},
    ]
    options = {"ftol": 1e-13, "maxiter": 1000}
    search: Any = minimize
    found = search(lambda x: -100 * x[K], start, constraints=constraints, method="SLSQP", options=options)
    mine = objective(allocation(means, variances, eps), means, variances, eps)
    assert mine >= ratios(found.x).min() - 1e-9
    assert mine == pytest.approx(ratios(found.x).min(), abs=1e-6)


@given(st.integers(0, 2**32 - 1), st.integers(2, 10), st.sampled_from([0.0, 0.01, 0.1]))
def test_at_the_optimum_all_challengers_are_equally_hard_to_tell(seed, K, eps):
    rng = np.random.default_rng(seed)
    means, variances = rng.random(K), 10.0 ** rng.uniform(-8, 0, K)
    shares = allocation(means, variances, eps)
    assert shares.sum() == pytest.approx(1, abs=1e-12)
    assert (shares > 0).all()
    best = int(np.argmax(means))
    gaps = np.maximum((means[best] - means + eps) ** 2, 1e-6)
    values = gaps / (variances[best] / shares[best] + variances / shares)
    others = np.arange(K) != best
    assert values[others] == pytest.approx(values[others].min(), rel=1e-6)
    # The leader's share is the square root of the others' squares, in units of standard deviations.
    assert shares[best] ** 2 / variances[best] == pytest.approx(
        (shares[others] ** 2 / variances[others]).sum(), rel=1e-6
    )


def test_two_arms_share_by_their_standard_deviations():
    assert allocation([0.9, 0.1], [0.04, 0.16]) == pytest.approx([1 / 3, 2 / 3], abs=1e-12)
    # The more an arm varies, the more it is tried.
    assert allocation([0.9, 0.1], [0.01, 0.25])[1] > allocation([0.9, 0.1], [0.04, 0.25])[1]


def test_equal_arms_are_tried_alike():
    # Their gaps are all below the least that counts; the leader is any of them, and is tried more.
    assert allocation([0.5, 0.5], [0.25, 0.25]) == pytest.approx([0.5, 0.5], abs=1e-9)
    shares = allocation([0.5] * 4, [0.25] * 4)
    assert shares[1:] == pytest.approx([shares[1]] * 3, abs=1e-9)
    assert shares[0] == pytest.approx(np.sqrt(3) * shares[1], rel=1e-9)


def test_variances_of_nothing_and_arms_far_apart_are_no_harm():
    for means, variances in (([1, 0], [0, 0]), ([1, 0.5, 0], [0, 0.25, 0]), ([0.5, 0.5], [0, 0.25])):
        shares = allocation(means, variances)
        assert np.isfinite(shares).all()
        assert shares.sum() == pytest.approx(1)
        assert shares.min() > 0


def test_every_arm_gets_the_least_share():
    plain = allocation([0.7, 0.5, 0.3], [0.21, 0.25, 0.21])
    assert allocation([0.7, 0.5, 0.3], [0.21, 0.25, 0.21], least=0.1) == pytest.approx(0.7 * plain + 0.1)
    assert allocation([0.7, 0.5], [0.21, 0.25], least=0.5).tolist() == [0.5, 0.5]


def test_ties_for_the_lead_go_to_the_better_known_and_then_to_the_first():
    assert leading([0.5, 0.5 + 1e-11, 0.4], [0.1, 0.2, 0.0]) == 0
    assert leading([0.5, 0.5], [0.2, 0.1]) == 1
    assert leading([0.5, 0.5], [0.1, 0.1]) == 0
    # Which of two arms of .5 leads is told by the ratio to the third: .01 / (2 (.25/400 + .25/100)).
    found = glr([0.5, 0.5, 0.4], [0.25] * 3, [100, 400, 100], eps=1.0)
    assert found == pytest.approx(1 / (2 * (0.25 / 400 + 0.25 / 100)))


def test_ratio_and_threshold_of_two_hundred_outcomes_each():
    assert glr([0.7, 0.5], [0.21, 0.25], [200, 200]) == pytest.approx(8.695652, abs=5e-7)
    assert stopping_threshold(400, 2, 0.05) == pytest.approx(4.940422, abs=5e-7)
    # A union over K - 1 challengers.
    assert stopping_threshold(400, 5, 0.05) == pytest.approx(4.940422 + np.log(4), abs=5e-7)
    assert stopping_threshold(0, 2, 0.05) == pytest.approx(np.log(20))


def test_estimated_variances_reduce_the_ratio_of_few_outcomes():
    # 9 and 3 of 10: t^2 of 18 degrees of freedom, as rare as the z^2 beside it.
    variances = smoothed_variance([10, 10], [9, 3], [9, 3])
    plain = glr([0.9, 0.3], variances, [10, 10])
    found = glr([0.9, 0.3], variances, [10, 10], estimated=True)
    t = np.sqrt(2 * plain * 18 / 20)
    z = stats.norm.isf(stats.t.sf(t, 18))
    assert found == pytest.approx(z * z / 2, rel=2e-3)
    assert found < 0.8 * plain
    many = glr([0.9, 0.85], variances, [1e6, 1e6])
    assert glr([0.9, 0.85], variances, [1e9, 1e9], estimated=True) / 1000 == pytest.approx(many, rel=0.01)


def test_the_threshold_for_all_times_is_the_reverse_of_the_interval():
    """A gap of half an interval's width is at the threshold: z^2 / 2 = gap^2 n / (2 v), v = 1."""
    for n in (20, 100, 5000):
        high = confidence_sequence(n, 0.0, 1.0, 0.05).high
        assert anytime_threshold(n, 2, 0.05) == pytest.approx(high**2 * n / 2, rel=1e-12)
    assert anytime_threshold(1e6, 5, 0.05) == pytest.approx(
        anytime_threshold(1e6, 2, 0.05) + np.log(4), rel=1e-4
    )


def test_ratios_of_many_experiments_at_once():
    rng = np.random.default_rng(0)
    means, variances, counts = rng.random((3, 20, 4))
    together = glr(means, variances, counts, 0.01)
    assert together.tolist() == [
        float(glr(m, v, n, 0.01)) for m, v, n in zip(means, variances, counts, strict=True)
    ]


def test_interval_of_a_hundred_outcomes():
    low, high = confidence_sequence(100, 0.5, 0.25, 0.05)
    assert [low, high] == pytest.approx([0.5 - 0.161333, 0.5 + 0.161333], abs=5e-7)
    low, high = confidence_sequence([0, 1, 100, 10_000], [0.5] * 4, [0.25] * 4)
    assert np.isinf([low[0], high[0]]).all()
    assert (np.diff(high - low) < 0).all()


def test_a_variance_is_smoothed_by_a_failure_and_a_success():
    # 10 of 10: q = 11 / 12.
    assert smoothed_variance(10, 10, 10) == pytest.approx(11 / 144)
    # Rewards of .5: (10 * .25 + 1) / 12 - .25.
    assert smoothed_variance(10, 5, 2.5) == pytest.approx(3.5 / 12 - 0.25)
    assert smoothed_variance(0, 0, 0) == pytest.approx(0.25)


def experiments(p, eps, runs, steps, *, smoothed, seed, least=10):
    """Run track-and-stop of two Bernoulli arms many times at once; return who won, and after how many trials.

    Each trial goes to the arm that is the farthest behind its share of the standard deviations. The winner is
    -1 where no run stops.
    """
    rng = np.random.default_rng(seed)
    n = np.full((runs, 2), float(least))
    s = rng.binomial(least, p, (runs, 2)).astype(float)
    winner, stopped_at = np.full(runs, -1), np.full(runs, steps)
    rows = np.arange(runs)
    for total in range(2 * least, steps):
        means = s / n
        variances = smoothed_variance(n, s, s) if smoothed else np.maximum(means * (1 - means), 1e-12)
        statistic = glr(means, variances, n, eps, estimated=smoothed)
        threshold = max(stopping_threshold(total, 2), anytime_threshold(total, 2) if smoothed else 0.0)
        done = (statistic > threshold) & (winner < 0)
        # Of equal means the better known leads.
        spread = variances / n
        lead = np.where(
            np.abs(means[:, 0] - means[:, 1]) <= 1e-10, spread[:, 1] < spread[:, 0], means[:, 1] > means[:, 0]
        )
        winner[done], stopped_at[done] = lead[done], total
        if (winner >= 0).all():
            break
        sd = np.sqrt(variances)
        arm = np.argmax(sd / sd.sum(axis=1, keepdims=True) - n / total, axis=1)
        n[rows, arm] += 1
        s[rows, arm] += rng.random(runs) < np.asarray(p)[arm]
    return winner, stopped_at


def test_arms_that_rarely_fail_are_not_told_apart_by_luck():
    """Of two arms at .95 and .99, the first wins wrongly in less than 5 % of experiments, at eps = .01."""
    winner, stopped_at = experiments([0.95, 0.99], 0.01, 2000, 20_000, smoothed=True, seed=0)
    assert (winner >= 0).all()
    assert np.mean(winner == 0) < 0.05
    # Published: a median of 460 trials.
    assert 300 < np.median(stopped_at) < 700


def test_plug_in_variances_are_wrong_far_more_often_than_promised():
    """The defect that smoothing is for: ten of ten successes on both arms end the experiment at once."""
    winner, stopped_at = experiments([0.95, 0.99], 0.01, 2000, 2000, smoothed=False, seed=0)
    assert np.mean(winner == 0) > 0.15
    assert np.mean((winner == 0) & (stopped_at == 20)) > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("p", [0.3, 0.5, 0.9])
def test_of_equal_arms_none_wins(p):
    """Looked at after every one of 5,000 outcomes; one standard deviation is .0034."""
    winner, _ = experiments([p, p], 0.0, 4000, 5000, smoothed=True, seed=3)
    assert np.mean(winner >= 0) < 0.05


def test_without_regard_to_estimation_and_to_many_looks_arms_that_are_equal_win_too_often():
    winner, _ = experiments([0.5, 0.5], 0.0, 1000, 1000, smoothed=False, seed=3)
    assert np.mean(winner >= 0) > 0.06


def test_a_better_arm_wins_and_soon():
    winner, stopped_at = experiments([0.5, 0.7], 0.0, 500, 5000, smoothed=True, seed=4)
    assert np.mean(winner == 1) > 0.97
    # The bound of theory, ln(1 / delta) over the value of the best allocation, is 2.996 / .0218 = 137.
    assert np.median(stopped_at) < 2 * 137


def test_intervals_hold_at_all_times_at_once():
    rng = np.random.default_rng(2)
    runs, steps, p = 500, 3000, 0.3
    s = np.cumsum(rng.random((runs, steps)) < p, axis=1).astype(float)
    n = np.arange(1.0, steps + 1)
    low, high = confidence_sequence(n, s / n, smoothed_variance(n, s, s), 0.05)
    missed = ((low > p) | (high < p))[:, 9:].any(axis=1)
    # At most .05, with four standard deviations of sqrt(.05 * .95 / 500) = .0097.
    assert missed.mean() < 0.05 + 0.039
    # A fixed-time interval misses far more often when it is looked at all the time.
    half = 1.96 * np.sqrt(smoothed_variance(n, s, s) / n)
    assert (np.abs(s / n - p) > half)[:, 9:].any(axis=1).mean() > 0.3


def test_bad_numbers_are_refused():
    with pytest.raises(InvalidParameter, match="there are 1 arms, allowed at least 2"):
        allocation([0.5], [0.25])
    with pytest.raises(InvalidParameter, match="the least variance is -1"):
        allocation([0.5, 0.4], [0.25, -1])
    with pytest.raises(InvalidParameter, match=r"least is 0.6, allowed 0 to 1 / 2"):
        allocation([0.5, 0.4], [0.25, 0.25], least=0.6)
    with pytest.raises(InvalidShape):
        allocation([0.5, np.nan], [0.25, 0.25])
    with pytest.raises(InvalidParameter, match="arms is 1"):
        stopping_threshold(10, 1)
    with pytest.raises(InvalidParameter, match="delta 1"):
        stopping_threshold(10, 2, 1.0)
    with pytest.raises(InvalidParameter, match="alpha is 0"):
        confidence_sequence(10, 0.5, 0.25, 0.0)
