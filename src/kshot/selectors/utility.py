"""What a demonstration's presence was worth, from outcomes of the selections that showed it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import stdtrit

from kshot.arrays import Bools, Float64s, Int64s, require_finite, require_shape
from kshot.errors import InvalidParameter

MAX_COLUMNS = 4_096
"""Demonstrations told apart at once: the system is dense, 128 MB at this size."""


@dataclass(frozen=True, slots=True)
class PresenceEffects:
    """Estimates per demonstration.

    Attributes
    ----------
    counts : int64 array, shape (m,)
        Selections that showed it.
    means : float64 array, shape (m,)
        Their mean value; NaN without any.
    effects : float64 array, shape (m,)
        Value with it less value without it, all else equal.
    standard_errors : float64 array, shape (m,)
    low, high : float64 array, shape (m,)
        Intervals of the effects, each on its own.
    harmful : bool array, shape (m,)
        The effect is below 0 even by an interval that holds for all m at once.
    """

    counts: Int64s
    means: Float64s
    effects: Float64s
    standard_errors: Float64s
    low: Float64s
    high: Float64s
    harmful: Bools


def presence_effects(
    shown: csr_array, values: NDArray[Any], *, penalty: float = 2.0, confidence: float = 0.95
) -> PresenceEffects:
    """Estimate the effect of each of m demonstrations from n selections.

    Ridge regression of the value on what was shown, the intercept unpenalised: the effect of one is told
    apart from those of the others that were shown beside it. An estimate, not an experiment: demonstrations
    that go to harder queries look worse than they are.

    Parameters
    ----------
    shown : csr_array, shape (n, m)
        1 where selection i showed demonstration j; n >= 2.
    values : array, shape (n,)
        Outcomes in any unit.
    penalty : float
        Ridge penalty > 0, in selections without effect that each demonstration is given beforehand.
    confidence : float
        Of the intervals, in (0, 1).

    Raises
    ------
    InvalidParameter
        Fewer than 2 selections, more than 4,096 demonstrations, or a number outside its range.

    Notes
    -----
    Standard errors are those of the posterior with the residual variance; as that is estimated, intervals are
    Student's, of as many degrees of freedom as are left. O(n m k + m**3) for k shown each.
    """
    n, m = shown.shape
    outcomes = np.asarray(values, np.float64)
    require_shape("values", outcomes, (n,))
    require_finite("values", outcomes)
    if n < 2 or m > MAX_COLUMNS:
        raise InvalidParameter(f"{n} selections of {m} demonstrations, allowed >= 2 of <= {MAX_COLUMNS}")
    if not penalty > 0:
        raise InvalidParameter(f"penalty is {penalty:g}, allowed > 0")
    if not 0 < confidence < 1:
        raise InvalidParameter(f"confidence is {confidence:g}, allowed between 0 and 1")
    counts = np.asarray(shown.sum(axis=0), np.float64).ravel()
    mean = outcomes.mean()
    centred = outcomes - mean
    # The intercept is eliminated: columns and values are taken less their means.
    share = counts / n
    gram = (shown.T @ shown).toarray().astype(np.float64) - n * np.outer(share, share)
    moment = np.asarray(shown.T @ centred, np.float64)
    inverse = np.linalg.inv(gram + penalty * np.eye(m))
    effects = inverse @ moment
    fitted = np.asarray(shown @ effects, np.float64) - share @ effects
    freedom = max(1.0, n - 1 - float(np.einsum("ij,ji->", inverse, gram)))
    variance = float(np.sum((centred - fitted) ** 2)) / freedom
    errors = np.sqrt(variance * np.maximum(np.diag(inverse), 0.0))
    width = float(stdtrit(freedom, 0.5 + confidence / 2)) * errors
    joint = float(stdtrit(freedom, 1.0 - (1.0 - confidence) / 2 / max(m, 1))) * errors
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.asarray(shown.T @ outcomes, np.float64) / counts
    return PresenceEffects(
        counts=counts.astype(np.int64),
        means=means,
        effects=effects,
        standard_errors=errors,
        low=effects - width,
        high=effects + width,
        harmful=(effects + joint < 0) & (counts > 0),
    )
