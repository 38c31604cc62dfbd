"""From what a policy has learnt to the variant that is served: pure, and the same from the same seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from kshot.arrays import Float64s
from kshot.schemas.base import Notice
from kshot.selectors.bandits import ArmPrior, Choice, PropensityKind, Situation
from kshot.selectors.bandits.best_arm import confidence_sequence
from kshot.selectors.bandits.costs import affordable, budget_threshold, cost_penalties
from kshot.selectors.bandits.propensity import decision_seed, distribution, draw
from kshot.server.services.learning.learner import Learner, Learnt
from kshot.server.services.learning.yardstick import Yardstick

CONTROL_GUARD = "control_guard"
"""Code of the warning of decisions that serve the control instead of what the policy would."""
GUARD_OUTCOMES = 30
"""Before that, variances are not known well enough for the control's guard."""
GUARD_ALPHA = 0.05
LEAST_RATIO, MOST_RATIO = 0.1, 1.0
"""Between which reward per cost is taken to lie, with costs in units of the policy's `cost_reference`."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a decision is asked for.

    Attributes
    ----------
    decision_id : str
    arms : tuple of str
        Sorted, at least one.
    context : float64 array, shape (d,)
    at : datetime
    cost_weight : float
    budget_spent : float or None
    forced : bool
        Whether there is nothing to choose.
    """

    decision_id: str
    arms: tuple[str, ...]
    context: Float64s
    at: datetime
    cost_weight: float = 0.0
    budget_spent: float | None = None
    forced: bool = False


@dataclass(frozen=True, slots=True)
class Draft:
    """What would be served, and with which probabilities it was drawn; arrays in the order of ``arms``."""

    arms: tuple[str, ...]
    chosen: str
    propensity: float
    kind: PropensityKind
    hold_out: bool
    probabilities: Float64s
    means: Float64s
    widths: Float64s
    seed: int
    costs: Mapping[str, float]
    notices: tuple[Notice, ...]


def drafted(learner: Learner, learnt: Learnt, wanted: Wanted) -> Draft:
    """Draw a variant by what was learnt; the wanted context has to be of its definition's features."""
    definition = learnt.definition
    costs = _costs(learnt, wanted.arms)
    notices = []
    arms = wanted.arms
    if wanted.budget_spent is not None and not wanted.forced:
        arms, message = _within_budget(learner, learnt, wanted, costs)
        if message:
            notices.append(Notice(code="budget", message=message))
    control = definition.settings.control
    forced = wanted.forced or len(arms) == 1
    if not forced and control in arms and control_is_better(learnt.yardstick):
        arms, forced = (control,), True
        message = f"the control {control!r} is shown to do better than the policy, so it is served"
        notices.append(Notice(code=CONTROL_GUARD, message=message))
    penalties = None
    if wanted.cost_weight > 0:
        if missing := [arm for arm in arms if arm not in costs]:
            message = f"no cost is known of {', '.join(missing)}; it counts as 0"
            notices.append(Notice(code="cost_unknown", message=message))
        expected = [costs.get(arm, 0.0) for arm in arms]
        penalties = cost_penalties(expected, wanted.cost_weight, definition.settings.cost_reference)
    choice = _choice(learner, learnt, wanted, arms, penalties)
    seed = decision_seed(str(definition.id), definition.record.version, wanted.decision_id)
    if forced:
        only = np.ones(1)
        return Draft(
            arms=arms,
            chosen=arms[0],
            propensity=1.0,
            kind=PropensityKind.FORCED,
            hold_out=False,
            probabilities=only,
            means=choice.means,
            widths=choice.widths,
            seed=seed,
            costs=costs,
            notices=tuple(notices),
        )
    summaries = learnt.state.summaries()
    outcomes = [summaries[arm].n if arm in summaries else 0 for arm in arms]
    mixed = distribution(choice, np.array(outcomes), definition.exploration)
    drawn = draw(mixed, seed)
    return Draft(
        arms=arms,
        chosen=arms[drawn.place],
        propensity=drawn.propensity,
        kind=mixed.kind,
        hold_out=drawn.is_holdout,
        probabilities=mixed.probabilities,
        means=choice.means,
        widths=choice.widths,
        seed=seed,
        costs=costs,
        notices=tuple(notices),
    )


def control_is_better(yardstick: Yardstick) -> bool:
    """Tell whether the control's mean reward is above the policy's, with bounds that hold at all times."""
    if yardstick.control is None or yardstick.n < GUARD_OUTCOMES:
        return False
    bounds = confidence_sequence(
        np.full(2, yardstick.n), np.array(yardstick.means()), np.array(yardstick.variances()), GUARD_ALPHA / 2
    )
    return bool(bounds.low[1] > bounds.high[0])


def _choice(
    learner: Learner, learnt: Learnt, wanted: Wanted, arms: Sequence[str], penalties: Float64s | None
) -> Choice:
    definition = learnt.definition
    now = wanted.at.timestamp()
    priors: dict[str, ArmPrior] = {}
    for arm in arms:
        prior = definition.variants[arm].prior
        if prior is not None:
            priors[arm] = prior
    # What a frozen policy decides has no outcome that it would wait for.
    awaits = learner.narrows and definition.settings.mode != "frozen"
    situation = Situation(
        arms=tuple(arms),
        context=wanted.context,
        penalties=penalties,
        priors=priors,
        pending=learner.pending.contexts(len(wanted.context), now) if awaits else {},
        now=now,
        vectors=definition.vectors,
    )
    return definition.policy.choose(learnt.state, situation)


def _costs(learnt: Learnt, arms: Sequence[str]) -> dict[str, float]:
    known = ((arm, learnt.cost_of(arm)) for arm in arms)
    return {arm: cost for arm, cost in known if cost is not None}


def _within_budget(
    learner: Learner, learnt: Learnt, wanted: Wanted, costs: Mapping[str, float]
) -> tuple[tuple[str, ...], str]:
    """Leave out what is too dear for its quality; the cheapest always stays."""
    if not costs or wanted.budget_spent is None:
        return wanted.arms, "no variant has a cost, so the budget leaves none out"
    choice = _choice(learner, learnt, wanted, wanted.arms, None)
    amounts = [costs.get(arm, 0.0) / learnt.definition.settings.cost_reference for arm in wanted.arms]
    least = budget_threshold(wanted.budget_spent, LEAST_RATIO, MOST_RATIO)
    kept = affordable(choice.means, amounts, least)
    left_out = [arm for arm, stays in zip(wanted.arms, kept, strict=True) if not stays]
    message = f"too dear for the budget that is left: {', '.join(left_out)}" if left_out else ""
    return tuple(arm for arm, stays in zip(wanted.arms, kept, strict=True) if stays), message
