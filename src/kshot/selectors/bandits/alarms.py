"""What a policy does not find out by itself: that it does harm, that arms have changed, that answers lack.

All three read sums. The first two may be asked after every outcome; the third is a test for one look.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from kshot.arrays import Bools, Float64s, as_float64, require_shape
from kshot.errors import InvalidParameter
from kshot.selectors.bandits.best_arm import Interval, confidence_sequence, smoothed_variance
from kshot.selectors.bandits.columns import Columns
from kshot.selectors.bandits.feedback_rates import FeedbackRates, feedback_rates

LEAST_EXPECTED = 5.0
"""Expected decisions in every cell, below which a chi-square says nothing."""


@dataclass(frozen=True, slots=True)
class RunningMean:
    """Count, sum and sum of squares of values; those of two batches add up."""

    n: int = 0
    total: float = 0.0
    squares: float = 0.0

    @classmethod
    def of(cls, values: ArrayLike) -> "RunningMean":
        """Sum values, an array of any shape."""
        given = np.asarray(values, np.float64)
        return cls(given.size, float(given.sum()), float((given * given).sum()))

    def __add__(self, other: "RunningMean") -> "RunningMean":
        return RunningMean(self.n + other.n, self.total + other.total, self.squares + other.squares)


@dataclass(frozen=True, slots=True)
class Guard:
    """Whether to serve the control arm instead of what the policy chooses, and the intervals that say so."""

    is_harmful: bool
    control: Interval
    policy: Interval


def ips_values(served: Bools, propensities: ArrayLike, rewards: ArrayLike) -> Float64s:
    """Return values whose mean is what one arm would have earned in all decisions.

    Parameters
    ----------
    served : bool array, shape (n,)
        Whether the arm was served.
    propensities : float array, shape (n,)
        With which probability it was to be, above 0 where it was.
    rewards : float array, shape (n,)
        Of what was served.

    Returns
    -------
    float64 array, shape (n,)
        ``reward / propensity`` where the arm was served, 0 elsewhere.

    Raises
    ------
    InvalidShape
        The shapes differ, or a number is not finite.
    InvalidParameter
        A propensity of an arm that was served is not above 0, or above 1.
    """
    r = as_float64("rewards", rewards, (None,))
    p = as_float64("propensities", propensities, (len(r),))
    require_shape("served", served, (len(r),))
    if ((p[served] <= 0) | (p[served] > 1)).any():
        raise InvalidParameter("propensities of decisions that served the arm are not all above 0, at most 1")
    return np.where(served, r / np.where(served, p, 1.0), 0.0)


def baseline_guard(
    control: RunningMean, policy: RunningMean, alpha: float = 0.05, least_decisions: int = 100
) -> Guard:
    """Tell whether a control arm alone would surely have earned more than the policy did.

    Parameters
    ----------
    control : RunningMean
        Of `ips_values` of the control arm.
    policy : RunningMean
        Of the rewards, on [0, 1], of the same decisions.
    alpha : float
        Probability of ever blaming a policy that is as good as the control arm, in (0, 0.6).
    least_decisions : int
        Below this no policy is blamed: the intervals need some outcomes to be valid.

    Returns
    -------
    Guard
        ``is_harmful`` if the control arm's lower bound is above the policy's upper bound; both are
        `confidence_sequence` at half of ``alpha``.

    Raises
    ------
    InvalidParameter
        ``alpha`` is outside its range.

    Notes
    -----
    Propensities must be those that were drawn by: 1 / K in their place makes a control arm that is seldom
    served look bad, and one that is often served look good.
    """
    n = max(control.n, 1)
    spread = max(control.squares / n - (control.total / n) ** 2, 0.0)
    own = confidence_sequence(control.n, control.total / n, spread, alpha / 2)
    variance = smoothed_variance(policy.n, policy.total, policy.squares)
    served = confidence_sequence(policy.n, policy.total / max(policy.n, 1), variance, alpha / 2)
    enough = min(control.n, policy.n) >= least_decisions
    return Guard(bool(enough and own.low > served.high), own, served)


@dataclass(frozen=True, slots=True)
class Changes:
    """Which arms earn something else of late.

    Attributes
    ----------
    changed : bool array, shape (K,)
    change : Interval
        Bounds of each arm's mean reward of late less that before, infinite where either is unknown.
    """

    changed: Bools
    change: Interval


def change_alarms(late: Columns, before: Columns, alpha: float = 0.01) -> Changes:
    """Compare what arms have earned in the last stretch of time with what they have earned before.

    Parameters
    ----------
    late : Columns
        Of K arms, over the last stretch.
    before : Columns
        Of the same arms; discounted, as a policy that forgets keeps them. Sums that include the last stretch
        hide a part of the change.
    alpha : float
        Probability that any of the arms is said to have changed when none has, in (0, 0.6), for each stretch
        and however often one looks at it.

    Returns
    -------
    Changes
        An arm has changed if 0 is outside of the `confidence_sequence` of its residuals, its rewards of late
        less its mean before, at ``alpha / K``. Their variance includes what is not known of that mean.

    Raises
    ------
    InvalidShape
        The numbers of arms differ.
    InvalidParameter
        ``alpha`` is outside its range.
    """
    K = len(before.weight)
    require_shape("late", late.weight, (K,))
    nothing = np.zeros(K)
    known = (late.weight > 0) & (before.weight > 0)
    share = np.where(known, late.weight, 0.0) / np.where(known, before.weight, 1.0)
    variance = smoothed_variance(late.weight, late.reward, late.square)
    variance += share * smoothed_variance(before.weight, before.reward, before.square)
    counts = np.where(known, late.weight, 0.0)
    residuals = late.means(nothing) - before.means(nothing)
    change = confidence_sequence(counts, residuals, variance, alpha / max(K, 1))
    return Changes((change.low > 0) | (change.high < 0), change)


def feedback_alarm(
    decided: Mapping[str, int], answered: Mapping[str, int], level: float = 0.001
) -> tuple[bool, FeedbackRates]:
    """Tell whether outcomes are missing more often for some arms than for others.

    Parameters
    ----------
    decided, answered : mapping of str to int
        As of `feedback_rates`.
    level : float
        p-value below which there is an alarm, in [0, 1]. It is that of one look: small, as there are many.

    Returns
    -------
    raised : bool
        False also while a decision with or without outcome is expected fewer than 5 times of an arm.
    rates : FeedbackRates

    Raises
    ------
    InvalidParameter
        ``level`` is outside its range, or an arm has more outcomes than decisions.
    """
    if not 0 <= level <= 1:
        raise InvalidParameter(f"level is {level:g}, allowed 0 to 1")
    rates = feedback_rates(decided, answered)
    counts = np.array([decided[arm] for arm in rates.rates], np.float64)
    known = sum(answered.get(arm, 0) for arm in rates.rates)
    share = known / max(counts.sum(), 1.0)
    expected = counts * min(share, 1.0 - share)
    return bool(rates.p_value < level and (expected >= LEAST_EXPECTED).all()), rates
