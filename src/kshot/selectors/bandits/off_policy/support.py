"""Whether logged decisions say enough about a policy to estimate its reward."""

from dataclasses import dataclass

import numpy as np

from kshot.arrays import Float64s, Int64s, require_shape
from kshot.errors import InsufficientSupport
from kshot.selectors.bandits.off_policy.intervals import session_sums

LEAST_EFFECTIVE = 50.0
"""With fewer effective decisions no estimate is given."""
_STANDARD_ERRORS = 3.0
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Support:
    """What the weights say about the log and the target.

    Attributes
    ----------
    n : int
        Decisions with a known propensity.
    missing : int
        Decisions left out, as nobody knows how probable they were.
    effective : float
        ``(sum w)^2 / sum w^2``: as many decisions of the target itself would say as much.
    largest_weight : float
    mean_weight, mean_weight_error : float
        The mean must be 1, up to chance; its standard error, over sessions.
    weights_plausible : bool
        Whether the mean weight is within 3 standard errors of 1. If not, propensities are wrong, or part of
        the target has no support.
    unsupported : float
        Share of the target's probability on what the logged policy never does, in [0, 1]; no estimate knows
        of it.
    """

    n: int
    missing: int
    effective: float
    largest_weight: float
    mean_weight: float
    mean_weight_error: float
    weights_plausible: bool
    unsupported: float


def support(weights: Float64s, sessions: Int64s, *, unsupported: float = 0.0, missing: int = 0) -> Support:
    """Return what importance weights, shape (n,), say.

    Parameters
    ----------
    weights : float64 array, shape (n,)
        Not negative.
    sessions : int64 array, shape (n,)
        Equal for decisions of one session.
    unsupported : float
        As `unsupported_share` gives it.
    missing : int
        Decisions left out before.
    """
    require_shape("sessions", sessions, (len(weights),))
    n = len(weights)
    if n == 0:
        return Support(0, missing, 0.0, 0.0, 0.0, 0.0, weights_plausible=False, unsupported=unsupported)
    mean = float(weights.mean())
    sums = session_sums(sessions, weights - mean)[:, 0]
    s = len(sums)
    error = float(np.sqrt(np.square(sums).sum() * s / max(s - 1, 1))) / n
    squares = float(np.square(weights).sum())
    return Support(
        n=n,
        missing=missing,
        effective=float(weights.sum()) ** 2 / squares if squares else 0.0,
        largest_weight=float(weights.max()),
        mean_weight=mean,
        mean_weight_error=error,
        weights_plausible=abs(mean - 1.0) <= _STANDARD_ERRORS * error + _ROUNDING,
        unsupported=unsupported,
    )


def unsupported_share(target: Float64s, behaviour: Float64s | None, arms: Int64s) -> float:
    """Return the share of the target's probability on what the logged policy never does.

    Parameters
    ----------
    target : float64 array, shape (n, K)
    behaviour : float64 array, shape (n, K), or None
        Probabilities of the policy that decided. None: what was never done in the whole log counts.
    arms : int64 array, shape (n,)
        What was done.
    """
    require_shape("target", target, (len(arms), None))
    if not len(arms):
        return 0.0
    if behaviour is None:
        never = np.bincount(arms, minlength=target.shape[1]) == 0
        return float(target[:, never].sum(axis=1).mean())
    require_shape("behaviour", behaviour, target.shape)
    return float(np.where(behaviour <= 0, target, 0.0).sum(axis=1).mean())


def require_support(found: Support) -> None:
    """Refuse to estimate from too little.

    Raises
    ------
    InsufficientSupport
        No propensity is known, or fewer than 50 decisions are effective.
    """
    if found.n == 0:
        raise InsufficientSupport(
            f"none of {found.missing} decisions has a known propensity; only decisions that the policy drew "
            "itself can be used"
        )
    if found.effective < LEAST_EFFECTIVE:
        raise InsufficientSupport(
            f"{found.effective:.1f} of {found.n} decisions are effective, wanted at least "
            f"{LEAST_EFFECTIVE:g}; the log rarely does what the policy would do"
        )
