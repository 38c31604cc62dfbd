"""Uniform: all arms alike, whatever they earn."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kshot.selectors.bandits.additive import AdditivePolicy, ArmsState
from kshot.selectors.bandits.base import Choice, Situation
from kshot.selectors.bandits.columns import columns, prior_rewards
from kshot.selectors.bandits.registry import POLICIES


@POLICIES.register("uniform")
@dataclass(frozen=True, slots=True)
class Uniform(AdditivePolicy):
    """Serve every arm with the same probability: a fair comparison, and the best log to judge policies by.

    Outcomes are counted, for reports, and change nothing.
    """

    contextual: ClassVar[bool] = False
    half_life_s: ClassVar[float | None] = None

    def choose(self, state: ArmsState, situation: Situation) -> Choice:
        """Return 1 / K for every arm."""
        K = len(situation.arms)
        means = columns(state, situation).with_priors(situation).means(prior_rewards(situation))
        return Choice(np.full(K, 1.0 / K), means, np.zeros(K))
