"""Probabilities of being the best: against one integral per arm, and where arms are unlike."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.special import ndtr

from kshot.errors import InvalidParameter, InvalidShape
from kshot.selectors.bandits import quadrature
from kshot.selectors.bandits.distributions import Betas, Normals, Students
from kshot.selectors.bandits.quadrature import (
    best_arm_probabilities_beta,
    best_arm_probabilities_normal,
    best_arm_probabilities_student,
)


def over_quantiles(arms, nodes=64):
    """Integrate over each arm's quantiles with Gauss-Legendre, arm by arm."""
    u, w = np.polynomial.legendre.leggauss(nodes)
    levels, weights = (u + 1) / 2, w / 2
    return np.array(
        [np.sum(weights * np.prod([b.cdf(a.ppf(levels)) for b in arms if b is not a], axis=0)) for a in arms]
    )


def summed(arms):
    """Sum F_a's increments times the other arms' product, on a fine grid of all arms' quantiles."""
    tails = np.geomspace(1e-13, 0.01, 2000)
    levels = np.concatenate([tails, np.linspace(0.01, 0.99, 8000), 1 - tails[::-1]])
    x = np.unique(np.concatenate([arm.ppf(levels) for arm in arms]))
    F = np.array([arm.cdf(x) for arm in arms])
    others = np.array([np.prod(np.delete(F, a, axis=0), axis=0) for a in range(len(arms))])
    return np.sum(np.diff(F, axis=1) * (others[:, 1:] + others[:, :-1]) / 2, axis=1)


def masses(family, *parameters):
    """Return the probabilities as integrated, before they are made to sum to 1."""
    K = len(parameters[0])
    places = np.zeros(K) if family is Betas else parameters[0]
    build = Betas.of if family is Betas else family
    return quadrature._masses(places, np.ones(K, np.bool_), lambda _: build(*parameters))


def test_published_beta_example():
    a, b = [3, 8, 30, 2], [5, 9, 25, 1]
    expected = [0.057144, 0.093868, 0.195078, 0.653899]
    oracle = over_quantiles([stats.beta(*ab) for ab in zip(a, b, strict=True)])
    assert oracle == pytest.approx(expected, abs=1e-6)
    # The oracle sums to .99999: what it misses is missing from each of its numbers.
    found = best_arm_probabilities_beta(a, b)
    assert found == pytest.approx(expected, abs=5e-6)
    assert found == pytest.approx(summed([stats.beta(*ab) for ab in zip(a, b, strict=True)]), abs=1e-8)


def test_two_normal_arms_have_the_closed_form():
    found = best_arm_probabilities_normal([0.5, 0.6], [0.1, 0.2])
    assert found[1] == pytest.approx(0.672640, abs=1e-6)
    assert found[1] == pytest.approx(float(ndtr(0.1 / np.hypot(0.1, 0.2))), abs=1e-8)


@pytest.mark.parametrize("widths", [0, 1, 2, 3])
@pytest.mark.parametrize("K", [2, 5, 12])
def test_normal_arms_of_unlike_widths(K, widths):
    rng = np.random.default_rng([K, widths])
    means, sds = 0.3 * rng.random(K), 0.05 * 10.0 ** (-widths * rng.random(K))
    sds[0] = 0.05 * 10.0**-widths
    arms = [stats.norm(m, s) for m, s in zip(means, sds, strict=True)]
    assert best_arm_probabilities_normal(means, sds) == pytest.approx(summed(arms), abs=1e-7)
    assert masses(Normals, means, sds).sum() == pytest.approx(1, abs=1e-7)


@pytest.mark.parametrize("df", [1.0, 2.0, 3.5, 8.0, 30.0, 1e9])
@pytest.mark.parametrize("K", [2, 5])
def test_student_arms(K, df):
    rng = np.random.default_rng(K)
    loc, scale, dfs = 0.3 * rng.random(K), 0.05 * 10.0 ** -rng.random(K), np.full(K, df)
    dfs[0] = 2.0
    arms = [stats.t(nu, m, s) for nu, m, s in zip(dfs, loc, scale, strict=True)]
    assert best_arm_probabilities_student(loc, scale, dfs) == pytest.approx(summed(arms), abs=1e-6)
    assert masses(Students, loc, scale, dfs).sum() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("largest", [1.5, 4.0, 20.0, 2e3])
@pytest.mark.parametrize("penalty", [0.0, 0.2])
@pytest.mark.parametrize("K", [2, 5])
def test_beta_arms_with_and_without_penalties(K, penalty, largest):
    rng = np.random.default_rng(K)
    a, b = 0.5 + (largest - 0.5) * rng.random((2, K))
    shift = penalty * rng.random(K)
    arms = [stats.beta(p, q, loc=-s) for p, q, s in zip(a, b, shift, strict=True)]
    assert best_arm_probabilities_beta(a, b, shift) == pytest.approx(summed(arms), abs=2e-6)
    assert masses(Betas, a, b, shift).sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("K", [50, 300])
def test_many_arms_sum_to_one_before_they_are_made_to(K):
    rng = np.random.default_rng(K)
    means, sds = rng.random(K), 10.0 ** (-3 * rng.random(K))
    assert masses(Normals, means, sds).sum() == pytest.approx(1, abs=1e-6)
    assert masses(Students, means, sds, 2 + 30 * rng.random(K)).sum() == pytest.approx(1, abs=1e-6)
    a, b = 1 + 40 * rng.random((2, K))
    assert masses(Betas, a, b, np.zeros(K)).sum() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_many_beta_arms_that_break_off_at_unlike_places(seed):
    """Densities that rise to their edge, at as many penalties as arms, beside narrow and smooth ones."""
    rng = np.random.default_rng(seed)
    a, b = 0.5 + 0.5 * 10.0 ** rng.uniform(-2, 3, (2, 30))
    assert masses(Betas, a, b, 0.3 * rng.random(30)).sum() == pytest.approx(1, abs=2e-6)


def test_student_arms_of_very_many_degrees_of_freedom_are_normal():
    means, sds = np.array([0.1, 0.2, 0.15]), np.array([0.1, 0.01, 0.05])
    found = best_arm_probabilities_student(means, sds, np.full(3, 1e12))
    assert found == pytest.approx(best_arm_probabilities_normal(means, sds), abs=1e-8)


def test_beyond_a_million_events_a_normal_distribution_stands_in():
    # The normal and the Beta of 1e6 events differ by little: no jump at the change.
    a, b = np.array([500_100.0, 499_900.0]), np.array([499_800.0, 500_000.0])
    below = best_arm_probabilities_beta(a, b)
    above = best_arm_probabilities_beta(a + 100, b + 100)
    assert below == pytest.approx(above, abs=1e-3)
    n = a + b
    means, sds = a / n, np.sqrt(a * b / n**2 / (n + 1))
    assert below == pytest.approx(best_arm_probabilities_normal(means, sds), abs=1e-4)
    assert best_arm_probabilities_beta([3e9, 3e9, 1], [7e9, 7e9, 1]).sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("K", [1, 2, 7, 50])
def test_identical_arms_share_evenly(K):
    even = np.full(K, 1 / K)
    assert best_arm_probabilities_normal(np.full(K, 0.4), np.full(K, 0.1)) == pytest.approx(even, abs=1e-12)
    assert best_arm_probabilities_beta(np.ones(K), np.ones(K)) == pytest.approx(even, abs=1e-12)
    assert best_arm_probabilities_student(np.ones(K), np.ones(K), np.full(K, 2.0)) == pytest.approx(even)


def test_arms_of_no_width():
    assert best_arm_probabilities_normal([0.5, 0.7, 0.7], [0, 0, 0]).tolist() == [0, 1, 0]
    # The second is above .6 with probability ndtr(-1); below it, .6 has won and .3 has not.
    mixed = best_arm_probabilities_normal([0.6, 0.5, 0.3], [0.0, 0.1, 0.0])
    assert mixed == pytest.approx([ndtr(1), ndtr(-1), 0], abs=1e-8)
    assert best_arm_probabilities_student([2.0, 0.0], [0.0, 1.0], [3, 3])[1] == pytest.approx(
        stats.t.sf(2, 3), abs=1e-8
    )
    assert best_arm_probabilities_normal([1e6, 0], [0, 1]).tolist() == [1, 0]


def test_a_width_near_nothing_is_like_none():
    almost = best_arm_probabilities_normal([0.6, 0.5, 0.3], [1e-12, 0.1, 1e-300])
    assert almost == pytest.approx(best_arm_probabilities_normal([0.6, 0.5, 0.3], [0, 0.1, 0]), abs=1e-7)
    assert best_arm_probabilities_normal([0.3, 0.6], [1e-300, 1e-300]).tolist() == [0, 1]


@given(st.integers(0, 2**32 - 1), st.integers(2, 8), st.floats(-3, 3), st.floats(0.1, 10))
def test_shift_scale_and_order_of_normal_arms(seed, K, shift, scale):
    rng = np.random.default_rng(seed)
    means, sds = rng.random(K), 10.0 ** (-3 * rng.random(K))
    order = rng.permutation(K)
    found = best_arm_probabilities_normal(means, sds)
    assert found.sum() == pytest.approx(1, abs=1e-9)
    assert (found >= 0).all()
    assert best_arm_probabilities_normal(means[order], sds[order]) == pytest.approx(found[order], abs=1e-9)
    moved = best_arm_probabilities_normal(shift + scale * means, scale * sds)
    assert moved == pytest.approx(found, abs=1e-6)


@given(st.integers(0, 2**32 - 1), st.integers(2, 6))
def test_mirrored_pairs_of_beta_arms(seed, K):
    """1 - X of a Beta(a, b) is a Beta(b, a): of two arms, the best here is the worst there."""
    a, b = 0.5 + 20 * np.random.default_rng(seed).random((2, 2))
    found = best_arm_probabilities_beta(a, b)
    assert best_arm_probabilities_beta(b, a) == pytest.approx(found[::-1], abs=2e-6)


def test_bad_numbers_are_refused():
    with pytest.raises(InvalidParameter, match="sds is -1, allowed >= 0"):
        best_arm_probabilities_normal([0, 1], [1, -1])
    with pytest.raises(InvalidParameter, match=r"a or b is 0.1, allowed >= 0.5"):
        best_arm_probabilities_beta([1], [0.1])
    with pytest.raises(InvalidParameter, match=r"df is 0.5, allowed >= 1"):
        best_arm_probabilities_student([1], [1], [0.5])
    with pytest.raises(InvalidShape, match="wanted at least one"):
        best_arm_probabilities_normal([], [])
    with pytest.raises(InvalidShape):
        best_arm_probabilities_normal([0, np.nan], [1, 1])
    with pytest.raises(InvalidShape):
        best_arm_probabilities_normal([0, 1], [1])
