"""From stored decisions and policies to what the wire says of them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kshot.index.store.policies import StoredPolicy
from kshot.records import DecisionRecord
from kshot.schemas.base import Notice
from kshot.schemas.decisions import DecisionReply, RankedVariant
from kshot.schemas.policies import PolicyInfo, VariantInfo
from kshot.schemas.selections import Message
from kshot.selectors.bandits.grid import REWARD_BITS
from kshot.selectors.bandits.ledger import Account
from kshot.server.services.learning.definitions import Definition, Variant, settings_of, variant_of
from kshot.server.services.learning.learner import Learnt


def finite(values: Sequence[float]) -> list[float | None]:
    """Return numbers as JSON has them: null for those that are not finite."""
    return [float(value) if math.isfinite(value) else None for value in values]


def decision_reply(
    record: DecisionRecord,
    definition: Definition,
    *,
    account: Account | None = None,
    messages: Sequence[Message] | None = None,
) -> DecisionReply:
    """Return what a caller is told of a decision.

    Parameters
    ----------
    record : DecisionRecord
    definition : Definition
        Its policy, as it is now.
    account : Account, optional
        What is known of its outcome.
    messages : sequence of Message, optional
        The variant's prompt, put together.
    """
    detail: Mapping[str, Any] = record.detail or {}
    served = definition.variants.get(record.served)
    status = "active" if record.active else "inactive"
    outcome = None
    variant = record.served
    probability = record.propensity
    if account is not None:
        status = account.status.value
        known = account.outcome()
        outcome = math.ldexp(known.reward, -REWARD_BITS) if known.known else None
        if account.arm != record.served:
            # Something else was shown, with nobody knows which probability.
            variant, probability = account.arm or "", None
            served = definition.variants.get(variant)
    return DecisionReply(
        decision_id=record.id,
        policy=definition.name,
        policy_version=record.policy_version,
        variant=variant,
        chosen=record.chosen,
        probability=probability,
        probability_kind="external" if probability is None else record.propensity_kind,
        ranking=_ranking(record, detail),
        hold_out=record.hold_out,
        mode=record.mode,
        sticky=bool(detail.get("sticky")),
        active=status == "active",
        prompt=detail.get("prompt"),
        messages=None if messages is None else list(messages),
        selector=None if served is None else _selector(served),
        parameters={} if served is None else dict(served.settings.parameters),
        outcome=outcome,
        status=status,
        decided_at=record.decided_at,
        warnings=[Notice.model_validate(one) for one in detail.get("warnings", ())],
    )


def _ranking(record: DecisionRecord, detail: Mapping[str, Any]) -> list[RankedVariant]:
    probabilities = np.frombuffer(record.probabilities, "<f8")
    unknown = [None] * len(record.eligible)
    ranked = [
        RankedVariant(variant=name, probability=float(probability), mean=mean, width=width)
        for name, probability, mean, width in zip(
            record.eligible,
            probabilities,
            detail.get("means", unknown),
            detail.get("widths", unknown),
            strict=True,
        )
    ]
    return sorted(ranked, key=lambda one: (-one.probability, one.variant))


def policy_info(learnt: Learnt, warnings: Sequence[Notice] = ()) -> PolicyInfo:
    """Describe a policy with all that it has learnt."""
    definition = learnt.definition
    summaries = learnt.state.summaries()
    return PolicyInfo(
        name=definition.name,
        version=definition.record.version,
        settings=definition.settings.model_dump(mode="json"),
        variants=[
            _variant_info(variant, summaries.get(name), learnt.cost_of(name))
            for name, variant in definition.variants.items()
        ],
        outcomes=learnt.state.events,
        upto_seq=learnt.upto_seq,
        checksum=learnt.checksum(),
        created_at=definition.record.created_at,
        updated_at=definition.record.updated_at,
        warnings=list(warnings),
    )


def unopened_info(record: StoredPolicy, reason: str) -> PolicyInfo:
    """Describe a policy that cannot be opened: what it is set to, and nothing of what it has learnt."""
    return PolicyInfo(
        name=record.name,
        version=record.version,
        settings=settings_of(record).model_dump(mode="json"),
        variants=[
            _variant_info(variant_of(one, record.version), None, one.config.get("cost"))
            for one in record.variants
        ],
        outcomes=0,
        upto_seq=0,
        checksum="",
        created_at=record.created_at,
        updated_at=record.updated_at,
        warnings=[Notice(code="not_opened", message=reason)],
    )


def _variant_info(variant: Variant, summary: Any, cost: float | None) -> VariantInfo:
    settings = variant.settings
    return VariantInfo(
        name=variant.name,
        status=variant.stored.status,
        prompt=None if settings.prompt is None else settings.prompt.model_dump(mode="json"),
        template=settings.template,
        system=settings.system,
        selector=_selector(variant),
        parameters=dict(settings.parameters),
        parent=settings.parent,
        cost=cost,
        outcomes=0 if summary is None else summary.n,
        mean=None if summary is None else summary.mean,
        created_at=variant.stored.created_at,
    )


def _selector(variant: Variant) -> dict[str, Any] | None:
    selector = variant.settings.selector
    return None if selector is None else selector.model_dump(mode="json")
