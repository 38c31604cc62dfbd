"""Decisions that were made, shown and answered, as arrays."""

from dataclasses import dataclass

import numpy as np

from kshot.arrays import Bools, Float64s, Int64s, require_finite, require_shape
from kshot.errors import InvalidParameter


@dataclass(frozen=True, slots=True)
class DecisionLog:
    """n decisions with known rewards.

    Attributes
    ----------
    contexts : float64 array, shape (n, d)
        The last feature is the intercept 1.
    arms : int64 array, shape (n,)
        What was served, 0 to K - 1.
    rewards : float64 array, shape (n,)
        In [0, 1].
    propensities : float64 array, shape (n,)
        How probable it was that this arm is served, in (0, 1]; NaN where nobody knows, as where the caller
        chose.
    sessions : int64 array, shape (n,)
        Equal for decisions of one session, which are not independent.
    times : float64 array, shape (n,)
        When they were made, in seconds.
    behaviour : float64 array, shape (n, K), or None
        Probabilities of every arm, 0 for those that could not be served; None if they were not kept.

    Raises
    ------
    InvalidShape
        The shapes differ, or a number other than a propensity is not finite.
    InvalidParameter
        A number is outside its range.
    """

    contexts: Float64s
    arms: Int64s
    rewards: Float64s
    propensities: Float64s
    sessions: Int64s
    times: Float64s
    behaviour: Float64s | None = None

    def __post_init__(self) -> None:
        n = len(self.arms)
        require_shape("contexts", self.contexts, (n, None))
        for name in ("arms", "rewards", "propensities", "sessions", "times"):
            require_shape(name, getattr(self, name), (n,))
        for name in ("contexts", "rewards", "times"):
            require_finite(name, getattr(self, name))
        if self.behaviour is not None:
            require_shape("behaviour", self.behaviour, (n, None))
            require_finite("behaviour", self.behaviour)
        if n and self.arms.min() < 0:
            raise InvalidParameter(f"arm is {self.arms.min()}, allowed >= 0")
        known = self.propensities[self.known]
        for name, values, low in (("reward", self.rewards, 0.0), ("propensity", known, 1e-300)):
            outside = ~((values >= low) & (values <= 1.0))
            if outside.any():
                raise InvalidParameter(f"{name} is {values[outside][0]:g}, allowed {low:g} to 1")

    def __len__(self) -> int:
        return len(self.arms)

    @property
    def known(self) -> Bools:
        """Which decisions have a propensity, shape (n,)."""
        known: Bools = ~np.isnan(self.propensities)
        return known

    def take(self, rows: Bools | Int64s) -> "DecisionLog":
        """Return some of the decisions."""
        return DecisionLog(
            self.contexts[rows],
            self.arms[rows],
            self.rewards[rows],
            self.propensities[rows],
            self.sessions[rows],
            self.times[rows],
            None if self.behaviour is None else self.behaviour[rows],
        )
