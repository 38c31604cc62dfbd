"""``method: auto``: a policy chooses which method chooses the demonstrations."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol
from uuid import uuid4

from pydantic import Field

from kshot.errors import FieldError
from kshot.schemas.base import Name, Request, ShortText
from kshot.schemas.decisions import DecideRequest, DecisionReply
from kshot.schemas.pools import PoolSettings
from kshot.schemas.selections import MethodSpec, SelectRequest
from kshot.server.services.runtime import PoolRuntime
from kshot.server.validation import refusal, validated

AUTO = "auto"


class AutoMethod(Request):
    """Parameters of ``method: auto``."""

    policy: Name = Field(description="the policy whose variants name a selector")
    session_key: ShortText | None = Field(default=None, description="one session keeps one method")
    subject_id: ShortText | None = Field(default=None, description="whose query this is, for deletion")
    features: dict[ShortText, Any] = Field(
        default={}, description="values of the request features that the policy declares"
    )


class Decides(Protocol):
    """Whoever asks policies."""

    async def decide(
        self, policy: str, request: DecideRequest, *, selection_id: str | None = None
    ) -> DecisionReply:
        """Choose a variant, and record that it was."""
        ...


class Chosen(NamedTuple):
    """What a policy made of a request."""

    request: SelectRequest
    selection_id: str
    decision: DecisionReply


def asked_of(settings: PoolSettings, request: SelectRequest) -> AutoMethod | None:
    """Return the parameters where a policy is to choose the method, the pool's defaults included; else None.

    Raises
    ------
    InvalidInput
        No policy is named, or a parameter is not allowed.
    """
    asked = settings.select.method if request.method is None else request.method
    name, given = (asked, {}) if isinstance(asked, str) else (asked.type, dict(asked.model_extra or {}))
    return checked({**settings.select.params.get(AUTO, {}), **given}) if name == AUTO else None


def checked(params: Mapping[str, Any]) -> AutoMethod:
    """Return parameters of ``auto``; `InvalidInput` names what is missing."""
    return validated(AutoMethod, dict(params), prefix="/method")


async def choose(decisions: Decides, runtime: PoolRuntime, request: SelectRequest) -> Chosen | None:
    """Ask the policy, where the request or its pool says that one chooses; None where none does.

    The variant says the method, and k where the request does not. The decision knows its selection, so that
    feedback on the selection is feedback on the decision.

    Raises
    ------
    PolicyNotFound
        There is no such policy.
    InvalidInput
        The variant names no selector, or the query does not fit the policy.
    """
    auto = asked_of(runtime.settings, request)
    if auto is None:
        return None
    selection_id = str(uuid4())
    decision = await decisions.decide(
        auto.policy,
        DecideRequest(
            inputs=request.inputs,
            vector=request.vector,
            session_key=auto.session_key,
            subject_id=auto.subject_id,
            features=auto.features,
            render=False,
        ),
        selection_id=selection_id,
    )
    selector = decision.selector
    if selector is None:
        message = f"policy {auto.policy!r} chose {decision.variant!r}, which names no selector"
        raise refusal([FieldError("/method/policy", message)])
    method = selector["method"]
    if method == AUTO or (isinstance(method, dict) and method.get("type") == AUTO):
        message = f"variant {decision.variant!r} of policy {auto.policy!r} asks a policy again"
        raise refusal([FieldError("/method/policy", message)])
    changes = {
        "method": method if isinstance(method, str) else MethodSpec.model_validate(method),
        "k": selector.get("k") if request.k is None else request.k,
    }
    return Chosen(request.model_copy(update=changes), selection_id, decision)
