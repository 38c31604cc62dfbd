"""Outcomes on the wire: metrics as they are declared, feedback as it comes in."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from kshot.schemas.base import ContentIn, JsonObject, Name, Notice, Page, Reply, Request, ShortText, UtcTime

Number = Annotated[float, Field(allow_inf_nan=False)]
TargetId = ShortText


class MetricSettings(Request):
    """What a metric is, and what its absence, its repetition and its lateness mean."""

    type: Literal["boolean", "float"] = "float"
    low: Number = Field(default=0.0, description="least value of a float; others are refused")
    high: Number = Field(default=1.0, description="largest value of a float")
    better: Literal["high", "low"] = "high"
    window_s: Annotated[float, Field(gt=0, le=366 * 86_400)] = Field(
        default=86_400.0, description="how long after its decision a value may come"
    )
    default: Number | None = Field(
        default=None,
        description="what a decision without any value counts as at the end of the window; default: nothing",
    )
    aggregate: Literal["first", "last", "sum", "max", "mean"] = Field(
        default="last", description="what several values of one decision come to; a sum is cut to the range"
    )
    late: Literal["log_only", "fold"] = Field(
        default="log_only", description="whether policies learn from values after the window"
    )

    @model_validator(mode="after")
    def _has_range(self) -> "MetricSettings":
        if self.low >= self.high:
            raise ValueError("wants low below high")
        if self.type == "boolean" and (self.low, self.high) != (0.0, 1.0):
            raise ValueError("is boolean, so it has neither low nor high")
        if self.default is not None and not self.low <= self.default <= self.high:
            raise ValueError("has a default outside low to high")
        return self


class MetricCreate(MetricSettings):
    """Body of ``POST /v1/metrics``; declaring the same again changes nothing."""

    name: Name


class MetricInfo(Reply):
    """A declared metric."""

    name: str
    type: str
    low: float
    high: float
    better: str
    window_s: float
    default: float | None
    aggregate: str
    late: str
    created_at: datetime


class MetricList(Page):
    """One page of metrics, by name."""

    data: list[MetricInfo]


class Feedback(Request):
    """Body of ``POST /v1/feedback``: how one decision or one selection went."""

    decision_id: TargetId | None = Field(default=None, description="give this or `selection_id`")
    selection_id: TargetId | None = None
    metric: Name | None = Field(
        default=None, description="default: the policy's own; of a selection `reward`, unless a demonstration"
    )
    value: bool | Number | None = None
    kind: Literal["reward", "correct", "retract"] = Field(
        default="reward",
        description="`correct` replaces every earlier value, `retract` takes them back and has no value",
    )
    demonstration: ContentIn | None = Field(
        default=None,
        description="the output that would have been right: with the selection's query it becomes a draft "
        "example of the pool",
    )
    idempotency_key: ShortText | None = Field(
        default=None,
        description="the same key again changes nothing; default: equal feedback on one target counts once",
    )
    of: ShortText | None = Field(
        default=None,
        description="key of the one value that is corrected or retracted; default: all of the metric",
    )
    source: ShortText | None = Field(default=None, description="who says so: a user, a judge, a job")
    weight: Annotated[float, Field(ge=0, le=8)] = Field(default=1.0, description="how much it is trusted")
    tags: JsonObject = {}
    occurred_at: UtcTime | None = None
    dry_run: bool = Field(default=False, description="only check")

    @model_validator(mode="after")
    def _is_whole(self) -> "Feedback":
        if (self.decision_id is None) == (self.selection_id is None):
            raise ValueError("wants exactly one of decision_id and selection_id")
        if self.kind == "retract":
            if self.value is not None or self.demonstration is not None:
                raise ValueError("retracts, so it has neither value nor demonstration")
        elif self.value is None and self.demonstration is None:
            raise ValueError("wants a value or a demonstration")
        if self.of is not None and self.kind == "reward":
            raise ValueError("has of, so its kind is correct or retract")
        if self.demonstration is not None and self.selection_id is None:
            raise ValueError("has a demonstration, so it wants the selection_id whose query it answers")
        return self


class FeedbackReply(Reply):
    """What became of a feedback."""

    feedback_id: str = Field(description="its place in the log; empty of a dry run")
    duplicate: bool = Field(default=False, description="known already, so nothing changed")
    folded: bool = Field(default=False, description="policies learn from it")
    parked: bool = Field(default=False, description="its selection is not known yet; it counts once it is")
    example_id: str | None = Field(default=None, description="the draft example that a demonstration became")
    warnings: list[Notice] = []


class FeedbackBatch(Request):
    """Body of ``POST /v1/feedback:batch``; a bad item stops no other."""

    items: Annotated[list[Any], Field(min_length=1, max_length=10_000)]


class RefusedFeedback(Reply):
    """An item that was refused."""

    index: int
    code: str
    detail: str


class FeedbackBatchReply(Reply):
    """One entry per item, in order: a reply or a refusal."""

    accepted: int
    duplicates: int
    refused: list[RefusedFeedback]
    data: list[FeedbackReply | None]


class ExampleUtility(Reply):
    """What an example's presence was worth, by the feedback on selections that showed it."""

    example_id: str
    shown: int = Field(description="selections with feedback that showed it")
    mean: float = Field(description="their mean reward, 0 to 1, higher is better")
    effect: float = Field(
        description="mean with it less mean without it, corrected for the other examples shown"
    )
    standard_error: float
    low: float = Field(description="of the 95 % interval of the effect")
    high: float
    quarantined: bool = Field(description="it hurts, by an interval that holds for all examples at once")


class UtilityList(Page):
    """One page of estimates, those that hurt most first."""

    data: list[ExampleUtility]
    selections: int = Field(description="selections with feedback that the estimates rest on")
    metric: str
