"""A model of rewards that has not seen the decision it is asked about."""

import numpy as np

from kshot.arrays import Float64s, Int64s, require_finite, require_shape
from kshot.errors import InvalidParameter

FOLDS = 3


def time_folds(times: Float64s, sessions: Int64s, folds: int = FOLDS) -> Int64s:
    """Return the fold of every decision, shape (n,): consecutive stretches of time, sessions kept together.

    A session is where its first decision is. Folds have the same number of decisions up to a session; with
    fewer sessions than folds some are empty.

    Raises
    ------
    InvalidParameter
        ``folds`` is below 2.
    """
    if folds < 2:
        raise InvalidParameter(f"folds is {folds}, allowed >= 2")
    require_shape("sessions", sessions, (len(times),))
    _, codes = np.unique(sessions, return_inverse=True)
    sizes = np.bincount(codes)
    starts = np.full(len(sizes), np.inf)
    np.minimum.at(starts, codes, times)
    order = np.argsort(starts, kind="stable")
    before = np.cumsum(sizes[order]) - sizes[order]
    fold_of_session = np.empty(len(sizes), np.int64)
    fold_of_session[order] = before * folds // max(len(times), 1)
    found: Int64s = fold_of_session[codes]
    return found


def cross_fitted(
    contexts: Float64s,
    arms: Int64s,
    rewards: Float64s,
    fold: Int64s,
    n_arms: int,
    *,
    penalty: float = 1.0,
) -> Float64s:
    """Predict the reward of every arm at every decision from the decisions of other folds.

    One ridge regression per arm, drawn to the mean reward of the other folds: what an arm without decisions
    there is predicted to have.

    Parameters
    ----------
    contexts : float64 array, shape (n, d)
        The last feature is the intercept 1.
    arms : int64 array, shape (n,)
        0 to ``n_arms - 1``.
    rewards : float64 array, shape (n,)
        In [0, 1].
    fold : int64 array, shape (n,)
        As `time_folds` gives them.
    n_arms : int
    penalty : float
        Of the squared difference from the mean reward alone, > 0.

    Returns
    -------
    float64 array, shape (n, n_arms)
        Clipped to [0, 1]; 0.5 where the other folds are empty.

    Raises
    ------
    InvalidParameter
        ``penalty`` is not above 0, or an arm not below ``n_arms``.

    Notes
    -----
    O(folds * (n d^2 + n_arms d^3)).
    """
    n = len(arms)
    require_shape("contexts", contexts, (n, None))
    require_shape("rewards", rewards, (n,))
    require_shape("fold", fold, (n,))
    require_finite("contexts", contexts)
    require_finite("rewards", rewards)
    if not penalty > 0:
        raise InvalidParameter(f"penalty is {penalty:g}, allowed > 0")
    if n and (arms.min() < 0 or arms.max() >= n_arms):
        raise InvalidParameter(f"arms are {arms.min()} to {arms.max()}, allowed 0 to {n_arms - 1}")
    d = contexts.shape[1]
    predicted = np.full((n, n_arms), 0.5)
    for one in np.unique(fold):
        own, other = fold == one, fold != one
        if not other.any():
            continue
        # Of deviations from the mean, so that the penalty draws to it.
        mean = float(rewards[other].mean())
        for arm in range(n_arms):
            rows = other & (arms == arm)
            Z = contexts[rows]
            theta = np.linalg.solve(Z.T @ Z + penalty * np.eye(d), Z.T @ (rewards[rows] - mean))
            predicted[own, arm] = mean + contexts[own] @ theta
    clipped: Float64s = np.clip(predicted, 0.0, 1.0)
    return clipped
