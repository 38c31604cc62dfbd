"""One decision: who may be chosen, what is chosen, and the record of it before anybody is told."""

import asyncio
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import numpy as np

from kshot.arrays import Float64s
from kshot.errors import DecisionConflict, FieldError, KshotError, PolicyNotFound, Unavailable
from kshot.index.store import Store
from kshot.index.store.decisions import PolicyGone, Proposal, Recorded, SessionMove, StoredSession
from kshot.records import DecisionRecord, canonical_json
from kshot.schemas.decisions import DecideRequest, DecisionReply
from kshot.schemas.selections import Message
from kshot.selectors.bandits import PropensityKind
from kshot.selectors.bandits.grid import grid_features
from kshot.server.metrics import Metrics
from kshot.server.services.learning.contexts import Contexts
from kshot.server.services.learning.decision_log import DecisionLog
from kshot.server.services.learning.definitions import Definition
from kshot.server.services.learning.drawing import Draft, Wanted, drafted
from kshot.server.services.learning.eligibility import eligible, known_variant
from kshot.server.services.learning.learner import Learner
from kshot.server.services.learning.outcomes import FROZEN, account_of
from kshot.server.services.learning.replies import decision_reply, finite
from kshot.server.services.learning.shown import Shown, VariantPrompts
from kshot.server.services.learning.states import PolicyStates
from kshot.server.validation import refusal

ATTEMPTS = 20
"""How often a decision is made again because its session moved meanwhile."""
_CHOOSES = ("online", "frozen")
"""Modes in which the policy's choice is served."""


class Deciding:
    """Answers ``decide``."""

    def __init__(
        self,
        store: Store,
        states: PolicyStates,
        contexts: Contexts,
        log: DecisionLog,
        prompts: VariantPrompts,
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._states = states
        self._contexts = contexts
        self._log = log
        self._prompts = prompts
        self._metrics = metrics

    async def decide(
        self, policy: str, request: DecideRequest, *, selection_id: str | None = None
    ) -> DecisionReply:
        """Choose a variant for one request, and answer once that is on disk.

        Raises
        ------
        PolicyNotFound, VariantNotFound
            There is no such policy, or no such variant of it.
        DecisionConflict
            The id was used for another request.
        Conflict
            No variant may be served.
        InvalidInput
            The request does not fit the policy: what it decides on is missing, or its prompt cannot be
            rendered. Nothing was decided then.
        """
        # Without a change of threads wherever it can be: on a busy machine each costs more than the choice.
        learner = self._states.at_hand(policy)
        if learner is None:
            learner = await asyncio.to_thread(self._states.get, policy)
        try:
            return await self._decided(learner, request, selection_id)
        except KshotError:
            self._metrics.decision_refused(policy)
            raise

    async def _decided(
        self, learner: Learner, request: DecideRequest, selection_id: str | None
    ) -> DecisionReply:
        policy = learner.definition.name
        digest = request_hash(policy, request)
        decision_id = request.decision_id or new_decision_id()
        if request.decision_id is not None:
            repeated = await self._repeated(learner.definition, request, digest)
            if repeated is not None:
                return repeated
        learner, definition, context = await self._context(learner, request)
        for _ in range(ATTEMPTS):
            learnt = learner.learnt
            if learnt.definition is not definition:
                # Changed meanwhile, perhaps to other features: nothing of before fits any more.
                learner, definition, context = await self._context(learner, request)
                continue
            session = await self._session(definition, request)
            draw = partial(drafted, learner, learnt)
            proposal, shown = await self._proposed(
                definition, draw, request, decision_id, digest, context, session, selection_id
            )
            answer = await self._log.record(proposal)
            if isinstance(answer, PolicyGone):
                raise PolicyNotFound(f"policy {policy!r} was deleted meanwhile")
            if not isinstance(answer, Recorded):
                continue
            if not answer.is_new:
                return await self._again(definition, answer.record, request, digest)
            if learner.narrows and answer.record.active and answer.record.mode != FROZEN:
                learner.pending.add(answer.record)
            self._metrics.decided(policy, answer.record.served, "new")
            return decision_reply(answer.record, definition, messages=shown.messages)
        raise Unavailable("the session or the policy is changed by too many requests at once")

    async def _repeated(
        self, definition: Definition, request: DecideRequest, digest: str
    ) -> DecisionReply | None:
        assert request.decision_id is not None, "asked only for requests with an id"
        found = await asyncio.to_thread(self._store.find_decisions, [request.decision_id])
        record = found.get(request.decision_id)
        return None if record is None else await self._again(definition, record, request, digest)

    async def _again(
        self, definition: Definition, record: DecisionRecord, request: DecideRequest, digest: str
    ) -> DecisionReply:
        """Answer a request whose decision has been made."""
        if record.policy_id != definition.id or record.request_hash != digest:
            message = f"received {record.id!r}, which was used for another request"
            raise DecisionConflict(
                f"/decision_id {message}", errors=[FieldError("/decision_id", message, "conflict")]
            )
        events = await asyncio.to_thread(self._store.feedback_of, "decision", [record.id])
        account = account_of(record, events[record.id], definition.rules)
        messages: Sequence[Message] | None = None
        variant = definition.variants.get(record.served)
        if request.render and variant is not None:
            version = ((record.detail or {}).get("prompt") or {}).get("version")
            messages = (await self._prompts.shown(variant, request, version=version)).messages
        self._metrics.decided(definition.name, record.served, "repeated")
        return decision_reply(record, definition, account=account, messages=messages)

    async def _context(
        self, learner: Learner, request: DecideRequest
    ) -> tuple[Learner, Definition, Float64s]:
        """Return the features of a request, with the definition that they are of."""
        definition = learner.definition
        settings = definition.settings.context
        if definition.features.source and definition.features.source != self._contexts.source_of(settings):
            # The pool embeds otherwise by now: decisions are made on other features from here on.
            learner = await asyncio.to_thread(self._states.reopen, definition.name)
            definition = learner.definition
        context = await self._contexts.features(settings, definition.features.contexts, request)
        return learner, definition, context

    async def _session(self, definition: Definition, request: DecideRequest) -> StoredSession | None:
        if request.session_key is None or definition.settings.mode not in _CHOOSES:
            return None
        return await asyncio.to_thread(self._store.get_session, definition.id, request.session_key)

    async def _proposed(
        self,
        definition: Definition,
        draw: Callable[[Wanted], Draft],
        request: DecideRequest,
        decision_id: str,
        digest: str,
        context: Float64s,
        session: StoredSession | None,
        selection_id: str | None,
    ) -> tuple[Proposal, Shown]:
        settings = definition.settings
        external = _external(definition, request)
        may = eligible(definition, request)
        now = datetime.now(UTC)
        lasts = timedelta(seconds=settings.session_ttl_s)
        is_kept = session is not None and now - session.created_at < lasts
        sticky = session is not None and is_kept and not may.forced and session.variant in may.arms
        arms = (session.variant,) if session is not None and sticky else may.arms
        wanted = Wanted(
            decision_id=decision_id,
            arms=arms,
            context=context,
            at=now,
            cost_weight=settings.cost_weight if request.cost_weight is None else request.cost_weight,
            budget_spent=None if sticky else request.budget_spent,
            forced=may.forced or sticky,
        )
        draft = await asyncio.to_thread(draw, wanted)
        draft = replace(draft, notices=(*may.notices, *draft.notices))
        served = draft.chosen if external is None else external
        shown = await self._prompts.shown(definition.variants[served], request)
        record = _record(definition, request, draft, shown, context, digest, now, external, sticky=sticky)
        record = replace(record, id=decision_id, selection_id=selection_id)
        if request.session_key is None or external is not None or settings.mode not in _CHOOSES:
            return Proposal(record), shown
        if session is not None and sticky:
            move = SessionMove(session, session)
        else:
            mixed = session is not None and is_kept
            move = SessionMove(session, StoredSession(served, mixed, now))
        return Proposal(record, move), shown


def request_hash(policy: str, request: DecideRequest) -> str:
    """Return what tells requests under one id apart."""
    text = canonical_json([policy, request.model_dump(mode="json", exclude={"decision_id"})])
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def new_decision_id() -> str:
    """Return an id that sorts by the time at which it was made (UUID version 7)."""
    number = (time.time_ns() // 1_000_000 << 80) | int.from_bytes(os.urandom(10), "big")
    number = number & ~(0xF << 76) | 0x7 << 76
    number = number & ~(0x3 << 62) | 0x2 << 62
    text = f"{number:032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def _external(definition: Definition, request: DecideRequest) -> str | None:
    """Return what is served whatever the policy says, None where it chooses.

    Raises
    ------
    InvalidInput
        An apprentice is not told what the caller serves, or a policy that chooses is.
    """
    mode, control = definition.settings.mode, definition.settings.control
    if mode == "shadow":
        return control
    if mode != "apprentice":
        if request.served is not None:
            message = (
                f"is not allowed: the policy is {mode} and chooses itself; report with /served afterwards"
            )
            raise refusal([FieldError("/served", message)])
        return None
    if request.served is not None:
        return known_variant(definition, "/served", request.served)
    if control is None:
        message = "is missing: the policy is an apprentice without a control, so say what you serve"
        raise refusal([FieldError("/served", message, "missing")])
    return control


def _record(
    definition: Definition,
    request: DecideRequest,
    draft: Draft,
    shown: Shown,
    context: Float64s,
    digest: str,
    now: datetime,
    external: str | None,
    *,
    sticky: bool,
) -> DecisionRecord:
    kind = draft.kind if external is None else PropensityKind.EXTERNAL
    return DecisionRecord(
        id="",
        policy_id=definition.id,
        policy_version=definition.record.version,
        feature_version=definition.features.version,
        decided_at=now,
        request_hash=digest,
        chosen=draft.chosen,
        served=draft.chosen if external is None else external,
        propensity=draft.propensity if external is None else None,
        propensity_kind=kind.value,
        hold_out=draft.hold_out and external is None,
        mode=definition.settings.mode,
        active=not request.defer_activation,
        seed=f"{draft.seed:016x}",
        eligible=list(draft.arms),
        probabilities=draft.probabilities.astype("<f8").tobytes(),
        features=grid_features(context).astype("<i8").tobytes(),
        session_key=request.session_key,
        subject_id=request.subject_id,
        costs=dict(draft.costs) or None,
        detail={
            "means": finite(np.asarray(draft.means).tolist()),
            "widths": finite(np.asarray(draft.widths).tolist()),
            "warnings": [one.model_dump() for one in draft.notices],
            **({"sticky": True} if sticky else {}),
            **({} if shown.prompt is None else {"prompt": dict(shown.prompt)}),
        },
    )
