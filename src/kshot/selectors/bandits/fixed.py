"""Fixed: one arm, or shares that somebody decided on."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kshot.arrays import Float64s
from kshot.errors import FieldError, InvalidParameter
from kshot.selectors.bandits.additive import AdditivePolicy, ArmsState
from kshot.selectors.bandits.base import Choice, Situation
from kshot.selectors.bandits.columns import columns, prior_rewards
from kshot.selectors.bandits.registry import POLICIES
from kshot.selectors.base import parameter


@POLICIES.register("fixed")
@dataclass(frozen=True, slots=True)
class Fixed(AdditivePolicy):
    """Serve one arm, or arms in given shares, whatever they earn.

    Shares are those of the arms that may be served: where some may not, the others keep their proportions.
    Where none of them may, or none is named, the arm that sorts first is served. Outcomes are counted, for
    reports, and change nothing.
    """

    contextual: ClassVar[bool] = False
    half_life_s: ClassVar[float | None] = None

    arm: str | None = parameter(None, description="The arm to serve.")
    weights: Mapping[str, float] | None = parameter(
        None, description="Instead of one arm, how much each is served, in proportion; others never are."
    )

    def __post_init__(self) -> None:
        if self.weights is None:
            return
        refused = [name for name, weight in self.weights.items() if not 0 <= weight < math.inf]
        if refused:
            message = f"received {self.weights[refused[0]]!r}, allowed finite numbers >= 0"
            pointer = f"/method/weights/{refused[0]}"
        elif self.arm is not None:
            message, pointer = "received beside arm, allowed one of both", "/method/weights"
        elif not any(self.weights.values()):
            message, pointer = "are all 0, allowed at least one above 0", "/method/weights"
        else:
            return
        raise InvalidParameter(f"weights: {message}", errors=[FieldError(pointer, message)])

    def choose(self, state: ArmsState, situation: Situation) -> Choice:
        """Return the shares."""
        means = columns(state, situation).with_priors(situation).means(prior_rewards(situation))
        return Choice(self._shares(situation.arms), means, np.zeros(len(means)))

    def _shares(self, arms: tuple[str, ...]) -> Float64s:
        wanted: Mapping[str, float] = {self.arm: 1.0} if self.arm is not None else self.weights or {}
        weights = np.array([float(wanted.get(arm, 0.0)) for arm in arms])
        largest = weights.max()
        if not largest:
            shares: Float64s = np.eye(len(arms))[0]
            return shares
        # The largest first, so that no sum overflows.
        weights /= largest
        normalised: Float64s = weights / weights.sum()
        return normalised
