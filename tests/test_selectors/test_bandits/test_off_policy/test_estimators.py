"""Estimators: numbers known by hand, numbers of a published implementation, and what they are for."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kshot.errors import InvalidParameter, InvalidShape
from kshot.selectors.bandits.off_policy.estimators import (
    clipped_doubly_robust,
    clipped_ips,
    default_limit,
    direct,
    doubly_robust,
    importance_weights,
    ips,
    self_normalised_doubly_robust,
    shrunken_doubly_robust,
    snips,
    switch,
)
from kshot.selectors.bandits.off_policy.reward_model import cross_fitted, time_folds
from tests.test_selectors.test_bandits.test_off_policy.logs import World

R = np.array([1.0, 0, 1, 0, 1])
W = importance_weights(np.array([0.7, 0.1, 0.9, 0.2, 0.4]), np.array([0.5, 0.25, 0.8, 0.5, 0.1]))
Q = np.array([0.6, 0.3, 0.7, 0.4, 0.5])
V = np.array([0.55, 0.45, 0.72, 0.35, 0.5])


def test_five_decisions_by_hand():
    np.testing.assert_allclose(W, [1.4, 0.4, 1.125, 0.4, 4.0])
    # (1.4 + 1.125 + 4) / 5, the same with 2 for 4, and over the sum of weights 7.325.
    assert ips(W, R).value() == pytest.approx(1.305, abs=1e-12)
    assert clipped_ips(W, R, 2.0).value() == pytest.approx(0.905, abs=1e-12)
    assert snips(W, R).value() == pytest.approx(6.525 / 7.325, abs=1e-12)
    assert direct(V).value() == pytest.approx(0.514, abs=1e-12)
    # Corrections w (r - q): .56, -.12, .3375, -.16, 2.
    assert doubly_robust(W, R, Q, V).value() == pytest.approx(1.0375, abs=1e-12)
    assert self_normalised_doubly_robust(W, R, Q, V).value() == pytest.approx(0.514 + 2.6175 / 7.325)
    assert shrunken_doubly_robust(W, R, Q, V, 1.0).value() == pytest.approx(0.556884, abs=1e-6)
    assert switch(W, R, Q, V, 2.0).value() == pytest.approx(0.6375, abs=1e-12)
    assert default_limit(W) == pytest.approx(11.25)


# Open Bandit Pipeline 0.5.7, on the arrays that `arrays_of` draws.
PUBLISHED = {
    (40, 3, 0): {
        "ips": 0.7308118061240159,
        "clipped_ips": 0.6611374363761167,
        "snips": 0.5328599243747858,
        "dm": 0.5403773178938257,
        "dr": 0.42382528705313155,
        "clipped_dr": 0.45502969590000364,
        "sndr": 0.45539523930797304,
        "switch": 0.5487796959000036,
        "dros": 0.4994583615625567,
    },
    (200, 5, 1): {
        "ips": 0.6034403237879014,
        "clipped_ips": 0.4820089284624426,
        "snips": 0.4776916127698897,
        "dm": 0.48355150061132335,
        "dr": 0.44240607697009166,
        "clipped_dr": 0.4499401050365911,
        "sndr": 0.45098022056509857,
        "switch": 0.49619010503659106,
        "dros": 0.47299417104845004,
    },
}


def arrays_of(n, K, seed):
    rng = np.random.default_rng(seed)
    arms = rng.integers(K, size=n)
    rewards = rng.integers(0, 5, size=n) / 4
    logged = rng.integers(1, 9, size=(n, K)).astype(np.float64)
    target = rng.integers(0, 9, size=(n, K)).astype(np.float64)
    target[:, 0] += 1
    model = rng.integers(0, 17, size=(n, K)) / 16
    logged /= logged.sum(axis=1, keepdims=True)
    target /= target.sum(axis=1, keepdims=True)
    done = (np.arange(n), arms)
    return importance_weights(target[done], logged[done]), rewards, model[done], (target * model).sum(axis=1)


@pytest.mark.parametrize("case", PUBLISHED)
def test_estimates_are_those_of_a_published_implementation(case):
    w, r, q, v = arrays_of(*case)
    found = {
        "ips": ips(w, r),
        "clipped_ips": clipped_ips(w, r, 2.0),
        "snips": snips(w, r),
        "dm": direct(v),
        "dr": doubly_robust(w, r, q, v),
        "clipped_dr": clipped_doubly_robust(w, r, q, v, 2.0),
        "sndr": self_normalised_doubly_robust(w, r, q, v),
        "switch": switch(w, r, q, v, 2.0),
        "dros": shrunken_doubly_robust(w, r, q, v, 3.0),
    }
    assert {name: terms.value() for name, terms in found.items()} == pytest.approx(PUBLISHED[case], rel=1e-9)


@given(st.integers(0, 200))
def test_limits_lead_from_one_estimator_to_another(seed):
    w, r, q, v = arrays_of(30, 4, seed)
    dr, dm = doubly_robust(w, r, q, v).value(), direct(v).value()
    assert clipped_doubly_robust(w, r, q, v, w.max()).value() == dr
    assert switch(w, r, q, v, w.max()).value() == dr
    assert switch(w, r, q, v, w[w > 0].min() / 2).value() == dm
    assert shrunken_doubly_robust(w, r, q, v, 1e18).value() == pytest.approx(dr, abs=1e-9)
    assert shrunken_doubly_robust(w, r, q, v, 1e-18).value() == pytest.approx(dm, abs=1e-9)
    # A model that knows nothing leaves inverse propensities; one of the rewards themselves leaves the model.
    nothing = np.zeros(30)
    assert doubly_robust(w, r, nothing, nothing).value() == ips(w, r).value()
    assert doubly_robust(w, r, r, v).value() == dm


@given(st.integers(0, 200))
def test_self_normalised_estimates_stay_within_the_rewards(seed):
    w, r, _, _ = arrays_of(30, 4, seed)
    assert r.min() <= snips(w, r).value() <= r.max()


def test_two_hundred_logs_are_right_on_average():
    """Within two standard errors of the truth, and the model takes variance away."""
    world = World()
    truth = world.value()
    found = []
    for seed in range(200):
        log = world.log(seed, 300)
        target = world.target(log.contexts)
        done = (np.arange(len(log)), log.arms)
        w = importance_weights(target[done], log.propensities)
        fold = time_folds(log.times, log.sessions)
        q = cross_fitted(log.contexts, log.arms, log.rewards, fold, 3)
        v = (q * target).sum(axis=1)
        found.append([ips(w, log.rewards).value(), doubly_robust(w, log.rewards, q[done], v).value()])
    means, variances = np.mean(found, axis=0), np.var(found, axis=0, ddof=1)
    assert (np.abs(means - truth) <= 2 * np.sqrt(variances / 200)).all()
    assert variances[1] < 0.8 * variances[0]


def test_rewards_are_predicted_from_other_folds_alone():
    """A reward that its own decision could give away: none is."""
    rng = np.random.default_rng(0)
    n = 240
    contexts = np.column_stack([np.eye(n), np.ones(n)])
    rewards = rng.integers(0, 2, n).astype(np.float64)
    arms = rng.integers(0, 2, n)
    fold = time_folds(np.linspace(0.0, 1.0, n), np.arange(n))
    predicted = cross_fitted(contexts, arms, rewards, fold, 2)[np.arange(n), arms]
    own = [np.corrcoef(predicted[fold == one], rewards[fold == one])[0, 1] for one in range(3)]
    # 80 decisions a fold: standard deviation 0.11; constant predictions have no correlation at all.
    assert all(not abs(one) > 0.35 for one in own)


def test_the_model_is_a_ridge_regression_drawn_to_the_mean():
    rng = np.random.default_rng(1)
    log = World().log(0, 90)
    fold = time_folds(log.times, log.sessions)
    predicted = cross_fitted(log.contexts, log.arms, log.rewards, fold, 4, penalty=2.0)
    others = fold != 1
    mean = log.rewards[others].mean()
    rows = others & (log.arms == 2)
    # Pseudo-outcomes of the mean reward are the penalty.
    Z = np.vstack([log.contexts[rows], math.sqrt(2.0) * np.eye(3)])
    y = np.concatenate([log.rewards[rows] - mean, np.zeros(3)])
    theta = np.linalg.lstsq(Z, y, rcond=None)[0]
    expected = np.clip(mean + log.contexts[fold == 1] @ theta, 0, 1)
    np.testing.assert_allclose(predicted[fold == 1, 2], expected, atol=1e-12)
    np.testing.assert_allclose(predicted[fold == 1, 3], mean)
    order = rng.permutation(90)
    shuffled = cross_fitted(
        log.contexts[order], log.arms[order], log.rewards[order], fold[order], 4, penalty=2.0
    )
    np.testing.assert_allclose(shuffled, predicted[order], atol=1e-12)


def test_folds_are_stretches_of_time_that_keep_sessions_together():
    times = np.array([5.0, 1, 2, 9, 7, 3, 8, 6, 4], np.float64)
    np.testing.assert_array_equal(time_folds(times, np.arange(9)), [1, 0, 0, 2, 2, 0, 2, 1, 1])
    sessions = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2])
    np.testing.assert_array_equal(
        time_folds(times[[1, 2, 5, 8, 0, 7, 4, 6, 3]], sessions), [0] * 4 + [1] * 3 + [2] * 2
    )
    np.testing.assert_array_equal(time_folds(np.ones(3), np.zeros(3, np.int64)), [0, 0, 0])
    alone = cross_fitted(np.ones((3, 1)), np.zeros(3, np.int64), np.ones(3), np.zeros(3, np.int64), 2)
    np.testing.assert_array_equal(alone, 0.5)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: importance_weights(np.array([0.5]), np.array([0.0])), InvalidParameter),
        (lambda: importance_weights(np.array([0.5]), np.array([np.nan])), InvalidParameter),
        (lambda: importance_weights(np.array([1.5]), np.array([0.5])), InvalidParameter),
        (lambda: importance_weights(np.array([0.5]), np.array([0.5, 0.5])), InvalidShape),
        (lambda: ips(W, R[:4]), InvalidShape),
        (lambda: ips(W, np.full(5, np.inf)), InvalidShape),
        (lambda: ips(W[:0], R[:0]), InvalidParameter),
        (lambda: clipped_ips(W, R, 0.0), InvalidParameter),
        (lambda: switch(W, R, Q, V, math.nan), InvalidParameter),
        (lambda: shrunken_doubly_robust(W, R, Q, V, -1.0), InvalidParameter),
        (lambda: time_folds(R, np.arange(5), 1), InvalidParameter),
        (lambda: cross_fitted(R[:, None], np.arange(5), R, np.arange(5), 5, penalty=0.0), InvalidParameter),
        (lambda: cross_fitted(R[:, None], np.arange(5), R, np.arange(5), 4), InvalidParameter),
    ],
)
def test_what_makes_no_sense_is_refused(call, error):
    with pytest.raises(error):
        call()
    assert math.isnan(snips(np.zeros(5), R).value())
