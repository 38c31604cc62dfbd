"""Decisions on the wire."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from kshot.schemas.base import ContentIn, JsonObject, Name, Notice, Reply, Request, ShortText, UtcTime, Vector
from kshot.schemas.selections import Message, MethodSpec


class DecideRequest(Request):
    """Body of ``POST /v1/policies/{policy}/decide``; all of it is optional."""

    inputs: ContentIn | None = Field(default=None, description="the query: what the decision depends on")
    vector: Vector | None = Field(default=None, description="the query's embedding, instead of computing it")
    features: dict[ShortText, Any] = Field(
        default={}, description="values of the request features that the policy declares"
    )
    eligible: Annotated[list[Name], Field(max_length=1000)] | None = Field(
        default=None, description="only these variants; default: all that are active"
    )
    exclude: Annotated[list[Name], Field(max_length=1000)] = []
    decision_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,100}$")] | None = Field(
        default=None, description="the caller's own id: the same again gives the same answer"
    )
    session_key: ShortText | None = Field(default=None, description="one session keeps one variant")
    subject_id: ShortText | None = Field(default=None, description="whose data this is, for deletion")
    cost_weight: Annotated[float, Field(ge=0, le=1000)] | None = Field(
        default=None, description="how much cost counts for this request; 0: quality alone"
    )
    budget_spent: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None, description="share of a budget that is spent: leaves out what is dear for its quality"
    )
    served: Name | None = Field(
        default=None, description="what the caller serves, where the policy is an apprentice"
    )
    defer_activation: bool = Field(
        default=False, description="count the decision only once `activate` says that it was shown"
    )
    variables: JsonObject = Field(default={}, description="for the variant's prompt template")
    render: bool = Field(default=True, description="put the variant's prompt together")


class RankedVariant(Reply):
    """A variant that could have been chosen."""

    variant: str
    probability: float
    mean: float = Field(description="expected reward, before costs")
    width: float | None = Field(description="how uncertain that is; null where nothing is known")


class DecisionReply(Reply):
    """What to use, and with which probability it was chosen."""

    decision_id: str
    policy: str
    policy_version: int
    variant: str = Field(description="what to serve")
    chosen: str = Field(description="what the policy would serve; differs only in shadow and apprentice mode")
    probability: float | None = Field(description="of `variant`, exact; null where the caller chose")
    probability_kind: str
    ranking: list[RankedVariant] = Field(description="every eligible variant, the most probable first")
    hold_out: bool = Field(description="decided evenly, as a yardstick")
    mode: str
    sticky: bool = Field(default=False, description="the session had it already")
    active: bool = True
    prompt: dict[str, Any] | None = Field(
        default=None, description="name and version of the registry's prompt"
    )
    messages: list[Message] | None = None
    selector: dict[str, Any] | None = None
    parameters: dict[str, Any] = {}
    outcome: float | None = Field(default=None, description="its reward so far, 0 to 1")
    status: str = Field(default="active", description="active, inactive or cancelled")
    decided_at: datetime
    warnings: list[Notice] = []


class ServedRequest(Request):
    """Body of ``POST /v1/decisions/{id}/served``: something else was shown."""

    variant: Name


class DecisionDeletion(Request):
    """Body of ``POST /v1/decisions:delete``."""

    subject_id: ShortText


class EvaluationTarget(Request):
    """What to estimate the reward of; without both, the policy's own algorithm."""

    variant: Name | None = Field(default=None, description="always this variant; give this or `algorithm`")
    algorithm: str | MethodSpec | None = Field(
        default=None,
        description="an algorithm as in a policy: it learns from the earlier half of the decisions and is "
        "estimated on the later half",
    )
    floor: Annotated[float, Field(ge=0, le=1)] = 0.0


class EvaluateRequest(Request):
    """Body of ``POST /v1/policies/{policy}/evaluate``."""

    targets: Annotated[list[EvaluationTarget], Field(max_length=100)] = Field(
        default=[], description="default: every active variant alone, and the policy as it is now"
    )
    since: UtcTime | None = None
    until: UtcTime | None = None
    estimator: Annotated[str, Field(max_length=50)] = Field(
        default="clipped_dr",
        description="clipped_dr, dr, ips, clipped_ips, snips, dm, sndr, switch or dros",
    )
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0


class Estimate(Reply):
    """What a target would have earned."""

    target: str
    estimator: str
    value: float | None = Field(description="null where the log does not support an estimate")
    low: float | None
    high: float | None
    effective_sample_size: float
    largest_weight: float
    mean_weight: float
    unsupported: float = Field(description="share of the target's choices that the log never made")
    refusal: str | None = Field(default=None, description="why there is no estimate")
    all_estimators: dict[str, float] = {}


class EvaluationReply(Reply):
    """Estimates from the log, beside what was really earned."""

    policy: str
    decisions: int = Field(description="logged decisions with an outcome and a propensity")
    without_propensity: int = Field(
        description="with an outcome, but not drawn: the caller's choice, kept by a session, or the guard's"
    )
    earned: float | None
    earned_low: float | None
    earned_high: float | None
    data: list[Estimate]


class ArmPeriod(Reply):
    """One variant in one period."""

    variant: str
    decisions: int
    share: float
    outcomes: int
    mean: float | None
    low: float | None
    high: float | None


class Period(Reply):
    """What happened between two times."""

    start: datetime
    end: datetime
    arms: list[ArmPeriod]


class ArmReport(Reply):
    """A variant since the policy began."""

    variant: str
    status: str
    decisions: int
    share: float
    outcomes: int
    feedback_rate: float | None
    mean: float | None
    low: float | None = Field(
        description="of an interval that holds at all times, however often it is looked at"
    )
    high: float | None
    cost: float | None


class PolicyReport(Reply):
    """Traffic and reward over time, and what is out of order."""

    policy: str
    arms: list[ArmReport]
    periods: list[Period]
    hold_out_mean: float | None
    policy_mean: float | None
    winner: str | None = Field(default=None, description="of a track-and-stop experiment that has stopped")
    alarms: list[Notice]
