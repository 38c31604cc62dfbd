"""What other policies would have earned on the decisions that were logged."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kshot.arrays import Bools, Float64s, Int64s
from kshot.errors import FieldError, InsufficientSupport, VariantNotFound
from kshot.index.store import Store
from kshot.schemas.decisions import Estimate, EvaluateRequest, EvaluationReply, EvaluationTarget
from kshot.selectors.bandits import Situation, outcomes
from kshot.selectors.bandits.grid import natural
from kshot.selectors.bandits.off_policy import DecisionLog, evaluate
from kshot.selectors.bandits.off_policy.estimators import ips
from kshot.selectors.bandits.off_policy.intervals import bootstrap_interval
from kshot.selectors.bandits.propensity import mixed_uniformly
from kshot.server.algorithms_schema import build_policy
from kshot.server.services.learning.definitions import Definition
from kshot.server.services.learning.history import Told, told
from kshot.server.services.learning.outcomes import features_of
from kshot.server.services.learning.states import PolicyStates
from kshot.server.validation import refusal, validated

ESTIMATORS = ("clipped_dr", "ips", "clipped_ips", "snips", "dm", "dr", "sndr", "switch", "dros")
THE_POLICY = "the policy as it is set"
_NO_OUTCOME = "no decision has both an outcome and features of this version of the policy"


@dataclass(frozen=True, slots=True)
class Logged:
    """Logged decisions as arrays, their arms by name."""

    log: DecisionLog
    arms: tuple[str, ...]
    eligible: Bools

    def take(self, rows: Bools) -> "Logged":
        """Return some of the decisions."""
        return Logged(self.log.take(rows), self.arms, self.eligible[rows])


class EvaluationService:
    """Answers what would have been."""

    def __init__(self, store: Store, states: PolicyStates) -> None:
        self._store = store
        self._states = states

    async def evaluate(self, policy: str, request: EvaluateRequest) -> EvaluationReply:
        """Estimate the rewards of some targets; a target without support has a refusal in its place."""
        return await asyncio.to_thread(self._evaluate, policy, request)

    def _evaluate(self, policy: str, request: EvaluateRequest) -> EvaluationReply:
        if request.estimator not in ESTIMATORS:
            allowed = ", ".join(sorted(ESTIMATORS))
            raise refusal([FieldError("/estimator", f"received {request.estimator!r}, allowed {allowed}")])
        definition = self._states.get(policy).definition
        targets = [
            validated(EvaluationTarget, one.model_dump(), prefix=f"/targets/{index}")
            for index, one in enumerate(request.targets)
        ] or _default_targets(definition)
        rules = definition.rules
        history = told(self._store, definition.id, rules, since=request.since, until=request.until)
        logged = as_log(history, definition)
        rng = np.random.default_rng(request.seed)
        earned = low = high = None
        if logged is not None and len(logged.log):
            terms = ips(np.ones(len(logged.log)), logged.log.rewards)
            earned, (low, high) = terms.value(), bootstrap_interval(terms, logged.log.sessions, rng)
        known = 0 if logged is None else int(np.count_nonzero(logged.log.known))
        return EvaluationReply(
            policy=policy,
            decisions=known,
            without_propensity=0 if logged is None else len(logged.log) - known,
            earned=earned,
            earned_low=low,
            earned_high=high,
            data=[
                self._estimate(index, target, definition, logged, request, rng)
                for index, target in enumerate(targets)
            ],
        )

    def _estimate(
        self,
        index: int,
        target: EvaluationTarget,
        definition: Definition,
        logged: Logged | None,
        request: EvaluateRequest,
        rng: np.random.Generator,
    ) -> Estimate:
        if target.variant is not None and target.variant not in definition.variants:
            present = ", ".join(sorted(definition.variants))
            raise VariantNotFound(
                f"policy {definition.name!r} has no variant {target.variant!r}; it has {present}",
                errors=[FieldError(f"/targets/{index}/variant", f"received {target.variant!r}")],
            )
        name = target.variant or (
            THE_POLICY if target.algorithm is None else _algorithm_name(target.algorithm)
        )
        if logged is None or not len(logged.log):
            return _refused(name, request.estimator, _NO_OUTCOME)
        used, pi = (
            always(logged, target.variant, target.floor)
            if target.variant is not None
            else learnt_before(logged, definition, target)
        )
        try:
            found = evaluate(used.log, pi, rng)
        except InsufficientSupport as error:
            return _refused(name, request.estimator, error.message)
        chosen, support = found.estimates[request.estimator], found.support
        return Estimate(
            target=name,
            estimator=request.estimator,
            value=chosen.value,
            low=chosen.interval.low,
            high=chosen.interval.high,
            effective_sample_size=support.effective,
            largest_weight=support.largest_weight,
            mean_weight=support.mean_weight,
            unsupported=support.unsupported,
            refusal=None if support.weights_plausible else "weights do not average 1: propensities are wrong",
            all_estimators={one: estimate.value for one, estimate in found.estimates.items()},
        )


def as_log(history: Sequence[Told], definition: Definition) -> Logged | None:
    """Return the decisions that have an outcome and features of the present version; None without any."""
    version = definition.features.version
    contextual = definition.policy.contextual
    kept = [
        one
        for one in history
        if one.reward is not None and (not contextual or one.record.feature_version == version)
    ]
    if not kept:
        return None
    arms = tuple(sorted({arm for one in kept for arm in [*one.record.eligible, one.served]}))
    place = {arm: index for index, arm in enumerate(arms)}
    n = len(kept)
    behaviour, eligible = np.zeros((n, len(arms))), np.zeros((n, len(arms)), np.bool_)
    for row, one in enumerate(kept):
        columns = [place[arm] for arm in one.record.eligible]
        eligible[row, columns] = True
        behaviour[row, columns] = np.frombuffer(one.record.probabilities, "<f8")
        if one.record.propensity_kind == "forced":
            behaviour[row] = 0.0
            behaviour[row, place[one.served]] = 1.0
    sessions: dict[str, int] = {}
    codes = [sessions.setdefault(one.record.session_key or one.record.id, len(sessions)) for one in kept]
    log = DecisionLog(
        contexts=_contexts(kept),
        arms=np.array([place[one.served] for one in kept], np.int64),
        rewards=np.array([one.reward for one in kept], np.float64),
        propensities=np.array(
            [np.nan if one.propensity is None else one.propensity for one in kept], np.float64
        ),
        sessions=np.array(codes, np.int64),
        times=np.array([one.record.decided_at.timestamp() for one in kept], np.float64),
        behaviour=behaviour,
    )
    return Logged(log, arms, eligible)


def always(logged: Logged, variant: str, floor: float) -> tuple[Logged, Float64s]:
    """Return the decisions at which a variant could be served, and the target that always serves it."""
    column = logged.arms.index(variant) if variant in logged.arms else None
    rows: Bools = np.zeros(len(logged.log), np.bool_) if column is None else logged.eligible[:, column].copy()
    used = logged.take(rows)
    pi = np.zeros((len(used.log), len(logged.arms)))
    if column is not None:
        pi[:, column] = 1.0
    return used, _floored(pi, used.eligible, floor)


def learnt_before(
    logged: Logged, definition: Definition, target: EvaluationTarget
) -> tuple[Logged, Float64s]:
    """Return the later half of the decisions, and a target that has learnt from the earlier half alone.

    A policy that had seen an outcome already would look better on it than it is.
    """
    policy = (
        definition.policy
        if target.algorithm is None
        else build_policy(target.algorithm, half_life_s=definition.settings.half_life_s)
    )
    order = np.argsort(logged.log.times, kind="stable")
    later: Bools = np.zeros(len(order), np.bool_)
    later[order[len(order) // 2 :]] = True
    earlier = logged.take(~later)
    used = logged.take(later)
    contexts = _seen(logged.log.contexts, contextual=policy.contextual)
    state = policy.init(contexts.shape[1])
    arms = logged.arms
    state = policy.fold(
        state,
        outcomes(
            [arms[arm] for arm in earlier.log.arms.tolist()],
            contexts[~later],
            earlier.log.rewards,
            times=earlier.log.times,
            decisions=[str(row) for row in np.flatnonzero(~later).tolist()],
        ),
    )
    pi = np.zeros((len(used.log), len(arms)))
    for row in range(len(used.log)):
        columns: Int64s = np.flatnonzero(used.eligible[row])
        situation = Situation(
            tuple(arms[column] for column in columns.tolist()),
            contexts[later][row],
            now=float(used.log.times[row]),
        )
        pi[row, columns] = policy.choose(state, situation).probabilities
    return used, _floored(pi, used.eligible, target.floor)


def _contexts(kept: Sequence[Told]) -> Float64s:
    width = max(len(features_of(one.record)) for one in kept)
    contexts = np.zeros((len(kept), max(width, 1)))
    contexts[:, -1] = 1.0
    for row, one in enumerate(kept):
        features = features_of(one.record)
        if len(features) == width and width:
            contexts[row] = natural(features)
    return contexts


def _seen(contexts: Float64s, *, contextual: bool) -> Float64s:
    return contexts if contextual else contexts[:, :0]


def _floored(pi: Float64s, eligible: Bools, floor: float) -> Float64s:
    if not floor:
        return pi
    floored = pi.copy()
    for row in range(len(pi)):
        columns = np.flatnonzero(eligible[row])
        floored[row, columns] = mixed_uniformly(pi[row, columns], floor)
    return floored


def _default_targets(definition: Definition) -> list[EvaluationTarget]:
    alone = [
        EvaluationTarget(variant=variant.name)
        for variant in definition.variants.values()
        if variant.is_active
    ]
    return [*alone, EvaluationTarget(floor=definition.settings.floor)]


def _algorithm_name(algorithm: object) -> str:
    return algorithm if isinstance(algorithm, str) else str(getattr(algorithm, "type", algorithm))


def _refused(name: str, estimator: str, reason: str) -> Estimate:
    return Estimate(
        target=name,
        estimator=estimator,
        value=None,
        low=None,
        high=None,
        effective_sample_size=0.0,
        largest_weight=0.0,
        mean_weight=0.0,
        unsupported=1.0,
        refusal=reason,
    )
