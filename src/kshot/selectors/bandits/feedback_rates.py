"""Whether outcomes are missing more often for one arm than for another."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import chdtrc

from kshot.errors import InvalidParameter


@dataclass(frozen=True, slots=True)
class FeedbackRates:
    """How often decisions had an outcome.

    Attributes
    ----------
    rates : mapping of str to float
        By arm, in [0, 1]; arms without decision are left out.
    statistic : float
        Pearson's chi-square of answered and unanswered decisions by arm; 0 where there is nothing to compare.
    p_value : float
        How probable one at least as large is if all arms' rates are alike.
    """

    rates: Mapping[str, float]
    statistic: float
    p_value: float


def feedback_rates(decided: Mapping[str, int], answered: Mapping[str, int]) -> FeedbackRates:
    """Compare the arms' rates of feedback.

    Learning from those outcomes alone that came is without bias only if it does not depend on the arm, nor on
    the outcome, whether one comes. The first can be seen here; against it help a default or weights.

    Parameters
    ----------
    decided : mapping of str to int
        Decisions per arm whose window has passed.
    answered : mapping of str to int
        Those of them with an outcome; 0 for arms that are not named.

    Raises
    ------
    InvalidParameter
        An arm has more outcomes than decisions, or fewer than 0.

    Notes
    -----
    With fewer than about 5 expected decisions in a cell, the p-value is rough.

    Examples
    --------
    >>> rates = feedback_rates({"a": 100, "b": 100}, {"a": 60, "b": 40})
    >>> round(rates.statistic, 6), round(rates.p_value, 6)
    (8.0, 0.004678)
    """
    arms = sorted(arm for arm in decided if decided[arm])
    for arm in sorted({*decided, *answered}):
        n, known = decided.get(arm, 0), answered.get(arm, 0)
        if not 0 <= known <= n:
            raise InvalidParameter(f"arm {arm!r} has {known} outcomes of {n} decisions, allowed 0 to {n}")
    n_by_arm = np.array([decided[arm] for arm in arms], np.float64)
    observed = np.array([answered.get(arm, 0) for arm in arms], np.float64)
    rates = dict(zip(arms, (observed / n_by_arm).tolist(), strict=True))
    common = observed.sum() / n_by_arm.sum() if arms else 0.0
    if len(arms) < 2 or common in (0.0, 1.0):
        return FeedbackRates(rates, 0.0, 1.0)
    # The deviation of the unanswered is the negative of that of the answered.
    statistic = float((np.square(observed - n_by_arm * common) / (n_by_arm * common * (1 - common))).sum())
    return FeedbackRates(rates, statistic, float(chdtrc(len(arms) - 1, statistic)))
