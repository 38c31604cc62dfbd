"""Beta Thompson sampling: every arm is served as often as it may be the best, by successes and failures."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kshot.selectors.bandits.additive import AdditivePolicy, ArmsState
from kshot.selectors.bandits.base import Choice, PropensityKind, Situation
from kshot.selectors.bandits.columns import awaited, columns, read_only, situation_key
from kshot.selectors.bandits.quadrature import best_arm_probabilities_beta
from kshot.selectors.bandits.registry import POLICIES
from kshot.selectors.base import check_parameters, parameter


@POLICIES.register("beta_thompson")
@dataclass(frozen=True, slots=True)
class BetaThompson(AdditivePolicy):
    """Serve every arm with the probability that it is the best, by a Beta belief about its mean reward.

    A reward r counts as r successes and 1 - r failures: none has to be binary, and no coin is thrown. The
    belief is ``Beta(successes + sum w r, failures + sum w (1 - r))``, with the outcomes of its prior among
    them. Outcomes that are awaited narrow it without moving its mean. The probabilities are an integral
    and nothing is sampled; see `kshot.selectors.bandits.quadrature.best_arm_probabilities_beta`.

    References
    ----------
    .. [1] Thompson (1933), "On the likelihood that one unknown probability exceeds another in view of the
       evidence of two samples", Biometrika 25.
    """

    contextual: ClassVar[bool] = False

    successes: float = parameter(1.0, description="Successes of an arm before any outcome.", ge=0.5)
    failures: float = parameter(1.0, description="Failures of an arm before any outcome.", ge=0.5)
    half_life_s: float | None = parameter(
        None, description="Age at which an outcome counts half, in seconds; null forgets nothing.", gt=0
    )

    def __post_init__(self) -> None:
        check_parameters(self)

    def choose(self, state: ArmsState, situation: Situation) -> Choice:
        """Return the probability of every arm."""
        key = ("beta_thompson", self, situation_key(state, situation))
        return state.memo.get(key, lambda: read_only(self._chosen(state, situation)))

    def _chosen(self, state: ArmsState, situation: Situation) -> Choice:
        known = columns(state, situation).with_priors(situation)
        a = self.successes + known.reward
        b = self.failures + known.weight - known.reward
        narrowed = 1.0 + awaited(situation) / (a + b)
        a, b = a * narrowed, b * narrowed
        means = a / (a + b)
        widths = np.sqrt(means * (1.0 - means) / (a + b + 1.0))
        probabilities = best_arm_probabilities_beta(a, b, situation.penalties)
        return Choice(probabilities, means, widths, PropensityKind.QUADRATURE)
