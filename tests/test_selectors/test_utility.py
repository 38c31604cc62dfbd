"""What demonstrations were worth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from kshot.errors import InvalidParameter, InvalidShape
from kshot.selectors.utility import presence_effects


def test_one_demonstration_by_hand():
    # Shown in 2 of 4 with values 1, 1; absent with 0, 0. The centred column is +-1/2, its square sums to 1,
    # with the values to 1: effect 1 / (1 + penalty).
    found = presence_effects(
        csr_array(np.array([[1.0], [1.0], [0.0], [0.0]])), np.array([1.0, 1.0, 0.0, 0.0]), penalty=1.0
    )
    assert found.counts.tolist() == [2]
    assert found.means.tolist() == [1.0]
    assert found.effects == pytest.approx([0.5])
    # Residuals are +-1/4; freedom 4 - 1 - 1/2; variance 0.25 / 2.5 = 0.1; posterior variance half of it.
    assert found.standard_errors == pytest.approx([np.sqrt(0.1 / 2)])


def test_an_innocent_neighbour_is_not_blamed():
    """Demonstration 1 was shown beside 0, which hurts, more often than not."""
    rng = np.random.default_rng(5)
    bad = rng.random(4_000) < 0.5
    beside = np.where(rng.random(4_000) < 0.8, bad, ~bad)
    values = 0.7 - 0.3 * bad + 0.1 * rng.standard_normal(4_000)
    found = presence_effects(csr_array(np.stack([bad, beside], axis=1).astype(float)), values)
    assert found.effects == pytest.approx([-0.3, 0.0], abs=0.02)
    assert found.harmful.tolist() == [True, False]
    assert found.means[1] < found.means.mean() + 0.1


def test_intervals_hold_as_often_as_they_say():
    """Of demonstrations without effect one in twenty is outside its interval, and few are quarantined."""
    rng = np.random.default_rng(11)
    outside = harmful = 0
    for _ in range(200):
        shown = csr_array((rng.random((300, 10)) < 0.4).astype(float))
        found = presence_effects(shown, rng.random(300), penalty=1e-6)
        outside += int(np.sum((found.low > 0) | (found.high < 0)))
        harmful += int(found.harmful.any())
    # Binomial: 2,000 intervals with mean 100 and standard deviation under 10; 200 runs with mean under 5.
    assert 60 <= outside <= 140
    assert harmful <= 12


def test_few_selections_make_no_interval_too_sure():
    """Of six, with the variance known from them alone: normal quantiles would miss one time in seven."""
    rng = np.random.default_rng(12)
    shown = csr_array(np.array([[1.0], [1.0], [1.0], [0.0], [0.0], [0.0]]))
    outside = 0
    for _ in range(2_000):
        found = presence_effects(shown, rng.standard_normal(6), penalty=1e-9)
        outside += int(found.low[0] > 0 or found.high[0] < 0)
    # Student's t is exact here: binomial, mean 100, standard deviation under 10.
    assert 60 <= outside <= 140


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 30), m=st.integers(1, 8))
def test_equals_ridge_regression_with_a_free_intercept(seed, n, m):
    rng = np.random.default_rng(seed)
    dense = (rng.random((n, m)) < 0.5).astype(float)
    values = rng.random(n)
    found = presence_effects(csr_array(dense), values, penalty=0.7)
    design = np.hstack([np.ones((n, 1)), dense])
    penalty = 0.7 * np.diag([0.0] + [1.0] * m)
    wanted = np.linalg.solve(design.T @ design + penalty, design.T @ values)[1:]
    assert found.effects == pytest.approx(wanted, abs=1e-9)
    assert np.all(found.low <= found.effects)
    assert np.all(found.effects <= found.high)


def test_one_that_was_never_shown_has_no_mean_and_no_blame():
    shown = csr_array(np.array([[1.0, 0.0], [0.0, 0.0], [1.0, 0.0]]))
    found = presence_effects(shown, np.array([0.0, 1.0, 0.0]))
    assert np.isnan(found.means[1])
    assert found.effects[1] == 0
    assert not found.harmful[1]


@pytest.mark.parametrize(
    ("values", "options", "error", "says"),
    [
        ([1.0], {}, InvalidParameter, "1 selections"),
        ([1.0, np.nan], {}, InvalidShape, "values"),
        ([1.0, 0.0, 1.0], {}, InvalidShape, "values"),
        ([1.0, 0.0], {"penalty": 0.0}, InvalidParameter, "penalty is 0"),
        ([1.0, 0.0], {"confidence": 1.0}, InvalidParameter, "confidence is 1"),
    ],
)
def test_refusals_say_what_was_received(values, options, error, says):
    rows = 1 if len(values) == 1 else 2
    with pytest.raises(error, match=says):
        presence_effects(csr_array(np.ones((rows, 1))), np.array(values), **options)
