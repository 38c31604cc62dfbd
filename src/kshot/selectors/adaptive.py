"""How many demonstrations are worth their tokens."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from kshot.arrays import Float64s, as_float64
from kshot.errors import InvalidInput, InvalidParameter


@dataclass(frozen=True, slots=True)
class GainCurve:
    """What each pick adds for what it costs.

    Attributes
    ----------
    gain_per_token : float64 array, shape (k,)
        In the method's own unit of gain, per prompt token.
    kept : int
        Picks before the first that is not worth its tokens.
    """

    gain_per_token: Float64s
    kept: int


def adaptive_k(
    gains: ArrayLike, tokens: ArrayLike, min_gain_per_token: float, *, min_k: int = 1
) -> GainCurve:
    """Stop at the first pick whose gain per token falls under a threshold.

    Parameters
    ----------
    gains : array, shape (k,)
        Gain of the method's objective by each pick, in pick order.
    tokens : array, shape (k,)
        Prompt tokens of each pick, >= 0; none counts as one.
    min_gain_per_token : float
        In the unit of the gains; larger is stricter.
    min_k : int
        That many are kept whatever they gain, >= 0.

    Raises
    ------
    InvalidShape
        Lengths differ, or a number is not finite.
    InvalidInput
        A length is negative.
    InvalidParameter
        ``min_gain_per_token`` is not finite, or ``min_k`` is negative.

    Notes
    -----
    The stop is final: later picks that gain more, as the first of a new coverage round does, do not count.

    Examples
    --------
    >>> adaptive_k([0.5, 0.2, 0.01], [10, 10, 20], 0.005).kept
    2
    """
    gain = as_float64("gains", gains, (None,))
    length = as_float64("tokens", tokens, (len(gain),))
    if (length < 0).any():
        raise InvalidInput(f"tokens go down to {length.min():g}, allowed >= 0")
    if not np.isfinite(min_gain_per_token):
        raise InvalidParameter(f"min_gain_per_token is {min_gain_per_token}, allowed finite numbers")
    if min_k < 0:
        raise InvalidParameter(f"min_k is {min_k}, allowed >= 0")
    per_token = gain / np.maximum(length, 1.0)
    poor = np.flatnonzero(per_token < min_gain_per_token)
    poor = poor[poor >= min_k]
    return GainCurve(per_token, int(poor[0]) if len(poor) else len(gain))
