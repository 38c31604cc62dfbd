"""Policies: created, changed, and their variants added and taken out of service."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from kshot.errors import FieldError, InvalidInput, KshotError, PromptNotFound, Unavailable
from kshot.index.store import Store
from kshot.index.store.policies import NewVariant, StoredPolicy
from kshot.schemas.base import Notice
from kshot.schemas.policies import (
    PolicyCreate,
    PolicyInfo,
    PolicyList,
    PolicyPatch,
    PolicySettings,
    VariantCreate,
    VariantPatch,
)
from kshot.server.algorithms_schema import build_policy
from kshot.server.metrics import Metrics
from kshot.server.selectors_schema import build_selector
from kshot.server.services.learning.contexts import Contexts
from kshot.server.services.learning.definitions import FROZEN_AT, INHERITED, settings_of
from kshot.server.services.learning.inheriting import inherited
from kshot.server.services.learning.metrics import ensure_metric, rule_of
from kshot.server.services.learning.replies import policy_info, unopened_info
from kshot.server.services.learning.states import PolicyStates
from kshot.server.services.prompts import PromptService, compiled_prompt
from kshot.server.validation import refusal, validated

LEARNS_ANEW = ("algorithm", "context", "half_life_s")
"""Settings whose change makes another version, which learns from the log from its beginning."""
_DETERMINISTIC = frozenset({"fixed", "lin_ucb", "pak_ucb", "rff_ucb", "ucb1", "ucb_v"})


class PolicyService:
    """The routes' view of policies."""

    def __init__(
        self,
        store: Store,
        states: PolicyStates,
        contexts: Contexts,
        prompts: PromptService,
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._states = states
        self._contexts = contexts
        self._prompts = prompts
        self._metrics = metrics

    async def create(self, request: PolicyCreate) -> PolicyInfo:
        """Create a policy with its variants; its metric is declared as 0 to 1 if it is not yet."""
        for index, variant in enumerate(request.variants):
            await self._check_variant(variant, f"/variants/{index}")
            if variant.parent is not None:
                _check_parent(variant, [one.name for one in request.variants[:index]], f"/variants/{index}")
        return await asyncio.to_thread(self._create, request)

    async def list(self, cursor: str | None, limit: int) -> PolicyList:
        """Return one page of policies, by name."""
        return await asyncio.to_thread(self._list, cursor, limit)

    async def get(self, name: str) -> PolicyInfo:
        """Describe a policy as it stands."""
        return await asyncio.to_thread(self._get, name)

    async def patch(self, name: str, request: PolicyPatch) -> PolicyInfo:
        """Change settings; null takes a control, a fallback, a half-life or a metric of costs away."""
        return await asyncio.to_thread(self._patch, name, request)

    async def delete(self, name: str) -> None:
        """Delete a policy with its decisions and their feedback."""
        await asyncio.to_thread(self._delete, name)

    async def add_variant(self, name: str, request: VariantCreate) -> PolicyInfo:
        """Add a variant; an edit of another one starts near what that one has learnt."""
        await self._check_variant(request, "")
        return await asyncio.to_thread(self._add_variant, name, request)

    async def patch_variant(self, name: str, variant: str, request: VariantPatch) -> PolicyInfo:
        """Change a variant's status or expected cost; what it says never changes."""
        return await asyncio.to_thread(self._patch_variant, name, variant, request)

    def _create(self, request: PolicyCreate) -> PolicyInfo:
        settings = validated(PolicySettings, request.model_dump(mode="json", exclude={"name", "variants"}))
        self._check_settings(settings)
        ensure_metric(self._store, settings.metric)
        config = settings.model_dump(mode="json")
        if settings.mode == "frozen":
            config[FROZEN_AT] = 0
        record = self._store.create_policy(
            request.name, config, [_new_variant(variant) for variant in request.variants]
        )
        return self._served(record)

    def _list(self, cursor: str | None, limit: int) -> PolicyList:
        records = self._store.list_policies(after=cursor, limit=limit + 1)
        page = records[:limit]
        return PolicyList(
            data=[self._listed(record) for record in page],
            next_cursor=page[-1].name if len(records) > limit else None,
        )

    def _listed(self, record: StoredPolicy) -> PolicyInfo:
        try:
            return self._get(record.name)
        except Unavailable as error:
            # One that cannot be opened hides no other.
            return unopened_info(record, error.message)

    def _get(self, name: str) -> PolicyInfo:
        learner = self._states.get(name)
        if learner.definition.record.stamp != self._store.get_policy(name).stamp:
            learner = self._states.reopen(name)
        learner.catch_up()
        return policy_info(learner.learnt, _warnings(learner.definition.settings))

    def _patch(self, name: str, request: PolicyPatch) -> PolicyInfo:
        record = self._store.get_policy(name)
        before = settings_of(record)
        changed = {field: getattr(request, field) for field in request.model_fields_set}
        for field, value in changed.items():
            if value is None and field not in ("control", "fallback", "half_life_s", "cost_metric"):
                raise refusal([FieldError(f"/{field}", "received null, allowed a value", "type")])
        dumped = request.model_dump(mode="json")
        merged = {**before.model_dump(mode="json"), **{field: dumped[field] for field in changed}}
        settings = validated(PolicySettings, merged)
        for role in ("control", "fallback"):
            _check_role(role, getattr(settings, role), [variant.name for variant in record.variants])
        self._check_settings(settings)
        learns_anew = any(getattr(settings, field) != getattr(before, field) for field in LEARNS_ANEW)
        config = settings.model_dump(mode="json")
        if settings.mode == "frozen":
            present = record.config.get(FROZEN_AT)
            # What is in the log by now is learnt; what comes later is not.
            config[FROZEN_AT] = self._log_end(name) if present is None else present
        return self._served(
            self._store.update_policy(record.id, config, expected=record.stamp, learns_anew=learns_anew)
        )

    def _log_end(self, name: str) -> int:
        """Return how far the log goes; what was purged at its end counts as well where it is learnt."""
        return max(self._store.last_feedback_seq(), self._states.get(name).learnt.upto_seq)

    def _delete(self, name: str) -> None:
        record = self._store.get_policy(name)
        self._store.delete_policy(name)
        self._states.forget(record.id)
        self._metrics.forget_policy(name)

    def _add_variant(self, name: str, request: VariantCreate) -> PolicyInfo:
        learner = self._states.get(name)
        record = self._store.get_policy(name)
        extra: Mapping[str, Any] = {}
        if request.parent is not None:
            _check_parent(request, [variant.name for variant in record.variants], "")
            learner.catch_up()
            if request.prior is None:
                extra = {INHERITED: inherited(learner.learnt, request.parent)}
        return self._served(self._store.add_variant(record.id, _new_variant(request, extra)))

    def _patch_variant(self, name: str, variant: str, request: VariantPatch) -> PolicyInfo:
        record = self._store.get_policy(name)
        changes = {"cost": request.cost} if "cost" in request.model_fields_set else {}
        if "status" in request.model_fields_set and request.status is None:
            raise refusal([FieldError("/status", "received null, allowed a status", "type")])
        return self._served(
            self._store.update_variant(record.id, variant, status=request.status, changes=changes)
        )

    def _served(self, record: StoredPolicy) -> PolicyInfo:
        learner = self._states.install(record)
        return policy_info(learner.learnt, _warnings(learner.definition.settings))

    def _check_settings(self, settings: PolicySettings) -> None:
        policy = build_policy(settings.algorithm, half_life_s=settings.half_life_s)
        self._contexts.features_of(settings.context, contextual=policy.contextual)
        if settings.cost_metric is not None:
            rule = rule_of(self._store.get_metric(settings.cost_metric))
            if rule.low < 0 or settings.cost_metric == settings.metric:
                message = (
                    f"received {settings.cost_metric!r}, allowed another metric than `metric`, from 0 on"
                )
                raise refusal([FieldError("/cost_metric", message)])
        if settings.mode == "shadow" and settings.control is None:
            message = "is missing: a policy in shadow mode serves its control"
            raise refusal([FieldError("/control", message, "missing")])

    async def _check_variant(self, variant: VariantCreate, pointer: str) -> None:
        """Refuse a variant whose prompt is not there, or whose templates or method are not usable."""
        if variant.prompt is not None:
            try:
                await self._prompts.resolve(variant.prompt)
            except PromptNotFound as error:
                at = f"{pointer}/prompt"
                raise PromptNotFound(
                    f"{at}: {error.message}", errors=[FieldError(at, error.message, "choice")]
                ) from None
        if variant.template is not None:
            with_pointer(pointer, lambda: compiled_prompt(variant.model_dump(include={"template", "system"})))
        selector = variant.selector
        if selector is not None:
            method = selector.method
            params = {} if isinstance(method, str) else dict(method.model_extra or {})
            name = method if isinstance(method, str) else method.type
            with_pointer(f"{pointer}/selector", lambda: build_selector(name, params))


def with_pointer(prefix: str, check: Any) -> None:
    """Run a check whose refusals point into a part of the request, and let them point into the whole."""
    try:
        check()
    except InvalidInput as error:
        errors = [
            FieldError(prefix + one.pointer, one.message, one.code, one.line) for one in error.errors
        ] or [FieldError(prefix, error.message)]
        raise _same(error, errors) from None


def _same(error: KshotError, errors: Sequence[FieldError]) -> KshotError:
    return type(error)(error.message, errors=errors)


def _new_variant(request: VariantCreate, extra: Mapping[str, Any] | None = None) -> NewVariant:
    config = request.model_dump(mode="json", exclude={"name", "status"})
    return NewVariant(request.name, request.status, {**config, **(extra or {})})


def _check_role(role: str, name: str | None, names: Sequence[str]) -> None:
    if name is not None and name not in names:
        message = f"received {name!r}, allowed {', '.join(names)}"
        raise refusal([FieldError(f"/{role}", message, "choice")])


def _check_parent(variant: VariantCreate, names: Sequence[str], pointer: str) -> None:
    if variant.parent not in names:
        message = f"received {variant.parent!r}, allowed {', '.join(names) or 'none, as it is the first'}"
        raise refusal([FieldError(f"{pointer}/parent", message, "choice")])


def _warnings(settings: PolicySettings) -> list[Notice]:
    notices = []
    algorithm = settings.algorithm if isinstance(settings.algorithm, str) else settings.algorithm.type
    if algorithm in _DETERMINISTIC and not (settings.floor or settings.hold_out):
        message = f"{algorithm} serves one variant, and without floor and hold_out no other can be judged"
        notices.append(Notice(code="no_support", message=message))
    if settings.context.dimension and not build_policy(settings.algorithm).contextual:
        message = f"{algorithm} does not look at the context, so nothing is embedded"
        notices.append(Notice(code="context_unused", message=message))
    return notices
