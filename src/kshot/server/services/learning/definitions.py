"""What a policy is while it is served: settings, algorithm, features, metric and variants, joined."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from kshot.arrays import Float64s
from kshot.index.store.policies import StoredPolicy, StoredVariant
from kshot.schemas.policies import PolicySettings, VariantCreate
from kshot.selectors.bandits import ArmPrior, Policy
from kshot.selectors.bandits.metric_rules import RewardRules
from kshot.selectors.bandits.propensity import Exploration
from kshot.server.algorithms_schema import build_policy
from kshot.server.services.learning.contexts import Features
from kshot.server.validation import validated

INHERITED = "inherited"
"""Field of a variant's config: what its parent had learnt when the variant was added."""
FROZEN_AT = "frozen_at"
"""Field of a policy's config: how far in the log it learns while it is frozen."""
PARENT_OUTCOMES = 5.0
"""What is inherited counts as so many outcomes, where the algorithm has no coefficients to pull to."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A variant of a policy: one that may be chosen, or was."""

    stored: StoredVariant
    settings: VariantCreate
    prior: ArmPrior | None

    @property
    def name(self) -> str:
        """What it is called."""
        return self.stored.name

    @property
    def is_active(self) -> bool:
        """Whether it takes part where a request does not say otherwise."""
        return self.stored.status == "active"


@dataclass(frozen=True)
class Definition:
    """A policy as its record says; never changed: another record makes another definition.

    Attributes
    ----------
    record : StoredPolicy
    settings : PolicySettings
    policy : Policy
    features : Features
        What is decided on; the intercept alone where the algorithm does not look at contexts.
    rules : RewardRules
        What is learnt from.
    cost_rules : RewardRules or None
        By what costs are reported, if they are.
    variants : mapping of str to Variant
        In the order of their creation.
    vectors : mapping of str to float64 array, shape (g,)
        What describes them, where the algorithm learns of one from others.
    frozen_at : int or None
        How far in the log is learnt from, where the policy is frozen.
    """

    record: StoredPolicy
    settings: PolicySettings
    policy: Policy[Any]
    features: Features
    rules: RewardRules
    cost_rules: RewardRules | None
    variants: Mapping[str, Variant]
    vectors: Mapping[str, Float64s]
    frozen_at: int | None

    @property
    def id(self) -> int:
        """The policy's number."""
        return self.record.id

    @property
    def name(self) -> str:
        """The policy's name."""
        return self.record.name

    @property
    def dimension(self) -> int:
        """Features that are learnt from; 0 where contexts do not matter."""
        return self.features.contexts.dimension if self.policy.contextual else 0

    @property
    def yardsticks(self) -> list[str | None]:
        """What is summed beside the state: saved states of other such sums are of no use."""
        return [self.features.version, self.settings.control, self.settings.cost_metric]

    @cached_property
    def exploration(self) -> Exploration:
        """How much is served at random."""
        return Exploration(
            floor=self.settings.floor,
            holdout=self.settings.hold_out,
            nursery_outcomes=self.settings.nursery_events,
            nursery_cap=self.settings.nursery,
        )

    @cached_property
    def window_s(self) -> float:
        """How long after a decision its outcome may come."""
        return max(rule.window_s for rule in self.rules.metrics.values())

    def initial_state(self) -> Any:
        """Return what is known before any outcome."""
        return self.policy.init(self.dimension)


def settings_of(record: StoredPolicy) -> PolicySettings:
    """Return a policy's stored settings."""
    config = {name: value for name, value in record.config.items() if name in PolicySettings.model_fields}
    return validated(PolicySettings, config, prefix="/settings")


def is_hybrid(policy: Policy[Any]) -> bool:
    """Tell whether an algorithm looks at what describes variants."""
    return bool(getattr(policy, "hybrid", False))


def define(
    record: StoredPolicy,
    features: Features,
    rules: RewardRules,
    cost_rules: RewardRules | None,
    vectors: Mapping[str, Float64s],
) -> Definition:
    """Join a policy's record with its features and its metric."""
    settings = settings_of(record)
    policy = build_policy(settings.algorithm, half_life_s=settings.half_life_s)
    variants = {stored.name: variant_of(stored, record.version) for stored in record.variants}
    return Definition(
        record=record,
        settings=settings,
        policy=policy,
        features=features,
        rules=rules,
        cost_rules=cost_rules,
        variants=variants,
        vectors=vectors,
        frozen_at=record.config.get(FROZEN_AT) if settings.mode == "frozen" else None,
    )


def variant_of(stored: StoredVariant, version: int) -> Variant:
    """Return a stored variant with what is believed of it before its first outcome."""
    config = {name: value for name, value in stored.config.items() if name in VariantCreate.model_fields}
    settings = validated(VariantCreate, {"name": stored.name, **config}, prefix=f"/variants/{stored.name}")
    return Variant(stored, settings, _prior(settings, stored.config.get(INHERITED), version))


def _prior(settings: VariantCreate, inherited: Mapping[str, Any] | None, version: int) -> ArmPrior | None:
    if settings.prior is not None:
        return ArmPrior(settings.prior.reward, settings.prior.events)
    if inherited is None:
        return None
    theta = inherited.get("theta")
    # Coefficients mean nothing to an algorithm or to features that came later; the mean reward does.
    if theta is not None and inherited["policy_version"] == version:
        return ArmPrior(inherited["reward"], 0.0, np.array(theta, np.float64))
    return ArmPrior(inherited["reward"], PARENT_OUTCOMES)
