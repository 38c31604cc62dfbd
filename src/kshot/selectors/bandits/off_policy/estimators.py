"""Estimators of the reward that a policy would have had, from decisions that another one made.

Every estimator has the form ``mean(base) + mean(correction) / mean(divisor)``, over decisions. Of a
session with many decisions, the sums of the three are all that resampling needs.
"""

from dataclasses import dataclass

import numpy as np

from kshot.arrays import Float64s, require_finite, require_shape
from kshot.errors import InvalidParameter


@dataclass(frozen=True, slots=True)
class Terms:
    """What an estimator takes the mean of.

    Attributes
    ----------
    base, correction : float64 arrays, shape (n,)
    divisor : float64 array, shape (n,), or None
        None for 1: the estimate is then a mean of terms of its own, and bounds on means hold.
    reach : float
        Largest difference that two terms may have; without meaning where there is a divisor.
    """

    base: Float64s
    correction: Float64s
    divisor: Float64s | None
    reach: float

    def value(self) -> float:
        """Return the estimate; NaN where the divisor's mean is 0."""
        divisor = 1.0 if self.divisor is None else float(self.divisor.mean())
        if divisor == 0.0:
            return float("nan")
        return float(self.base.mean() + self.correction.mean() / divisor)


def importance_weights(target: Float64s, propensities: Float64s) -> Float64s:
    """Return ``target / propensities``, shape (n,): how much more often the target would have done so.

    Raises
    ------
    InvalidParameter
        A propensity is outside (0, 1], or a target probability outside [0, 1].
    """
    require_shape("propensities", propensities, (len(target),))
    wrong = ~((propensities > 0) & (propensities <= 1))
    if wrong.any():
        raise InvalidParameter(f"propensity is {propensities[wrong][0]:g}, allowed above 0, up to 1")
    wrong = ~((target >= 0) & (target <= 1))
    if wrong.any():
        raise InvalidParameter(f"target probability is {target[wrong][0]:g}, allowed 0 to 1")
    return target / propensities


def ips(weights: Float64s, rewards: Float64s) -> Terms:
    """Inverse propensity: ``mean(w r)``; without bias, and wild where weights are large."""
    _check(weights, rewards)
    return Terms(_none(weights), weights * rewards, None, _largest(weights))


def clipped_ips(weights: Float64s, rewards: Float64s, limit: float) -> Terms:
    """Inverse propensity with weights clipped to ``limit``: tamer, and too low by what was clipped."""
    _require_positive("limit", limit)
    return ips(np.minimum(weights, limit), rewards)


def snips(weights: Float64s, rewards: Float64s) -> Terms:
    """Self-normalised: ``sum(w r) / sum(w)``; never outside the rewards' range, biased by O(1 / n)."""
    _check(weights, rewards)
    return Terms(_none(weights), weights * rewards, weights, _largest(weights))


def direct(values: Float64s) -> Terms:
    """Direct method: ``mean(v)``, v the model's value of the target; as good as the model is."""
    _check(values)
    return Terms(values, _none(values), None, 1.0)


def doubly_robust(weights: Float64s, rewards: Float64s, modelled: Float64s, values: Float64s) -> Terms:
    """Doubly robust: ``mean(v + w (r - q))``; without bias if propensities or the model are right.

    Parameters
    ----------
    weights, rewards : float64 arrays, shape (n,)
    modelled : float64 array, shape (n,)
        The model's reward q of what was done, fitted without the decision itself.
    values : float64 array, shape (n,)
        The model's value v of the target: its rewards of all arms, weighted by the target.
    """
    _check(weights, rewards, modelled, values)
    return Terms(values, weights * (rewards - modelled), None, 1.0 + 2.0 * _largest(weights))


def clipped_doubly_robust(
    weights: Float64s, rewards: Float64s, modelled: Float64s, values: Float64s, limit: float
) -> Terms:
    """Doubly robust with weights clipped to ``limit``: what was clipped is left to the model."""
    _require_positive("limit", limit)
    return doubly_robust(np.minimum(weights, limit), rewards, modelled, values)


def self_normalised_doubly_robust(
    weights: Float64s, rewards: Float64s, modelled: Float64s, values: Float64s
) -> Terms:
    """Doubly robust with its correction divided by the mean weight."""
    _check(weights, rewards, modelled, values)
    return Terms(values, weights * (rewards - modelled), weights, 1.0 + 2.0 * _largest(weights))


def switch(
    weights: Float64s, rewards: Float64s, modelled: Float64s, values: Float64s, threshold: float
) -> Terms:
    """Switch: doubly robust where ``w <= threshold``, and the model alone elsewhere [1]_.

    References
    ----------
    .. [1] Wang, Agarwal, Dudík (2017), "Optimal and adaptive off-policy evaluation in contextual bandits".
    """
    _require_positive("threshold", threshold)
    return doubly_robust(np.where(weights <= threshold, weights, 0.0), rewards, modelled, values)


def shrunken_doubly_robust(
    weights: Float64s, rewards: Float64s, modelled: Float64s, values: Float64s, shrinkage: float
) -> Terms:
    """Doubly robust with weights shrunken to ``s w / (w^2 + s)`` [1]_: never above ``sqrt(s) / 2``.

    References
    ----------
    .. [1] Su, Dimakopoulou, Krishnamurthy, Dudík (2020), "Doubly robust off-policy evaluation with
       shrinkage".
    """
    _require_positive("shrinkage", shrinkage)
    shrunken = shrinkage * weights / (np.square(weights) + shrinkage)
    return doubly_robust(shrunken, rewards, modelled, values)


def default_limit(weights: Float64s) -> float:
    """Return ten times the median of the weights above 0, where weights are clipped; 10 if all are 0."""
    positive = weights[weights > 0]
    return 10.0 * float(np.median(positive)) if len(positive) else 10.0


def _check(first: Float64s, *others: Float64s) -> None:
    for name, array in zip(
        ("weights or values", "rewards", "modelled", "values"), (first, *others), strict=False
    ):
        require_shape(name, array, (len(first),))
        require_finite(name, array)
    if not len(first):
        raise InvalidParameter("there is no decision, allowed at least one")


def _require_positive(name: str, value: float) -> None:
    if not (np.isfinite(value) and value > 0):
        raise InvalidParameter(f"{name} is {value:g}, allowed finite and > 0")


def _none(like: Float64s) -> Float64s:
    return np.zeros(len(like))


def _largest(weights: Float64s) -> float:
    return float(weights.max())
