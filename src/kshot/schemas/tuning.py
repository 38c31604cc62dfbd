"""Tuning on the wire: what to compare, and what was found."""

from typing import Annotated, Any, Literal

from pydantic import Field

from kshot.schemas.base import Reply, Request
from kshot.schemas.selections import Seed


class TuneRequest(Request):
    """Body of ``POST /v1/pools/{pool}/tune``: everything has a default."""

    apply: bool = Field(
        default=False, description="change the pool's settings, where something better than them was found"
    )
    queries: Annotated[int, Field(ge=50, le=1000)] = Field(
        default=400, description="labelled examples that serve as queries, at most"
    )
    k: Annotated[int, Field(ge=1, le=50)] = Field(
        default=8, description="nearest examples whose labels are compared with the query's"
    )
    layers: Annotated[list[Annotated[int, Field(ge=0, le=100)]], Field(max_length=16)] | None = Field(
        default=None,
        description="token layers to compare with the present one; default: the embedder's own choice, the "
        "last and two in between; an empty list: none",
    )
    exclude_splits: Annotated[list[str], Field(max_length=100)] = Field(
        default=["test"],
        description="splits whose examples take no part, neither as queries nor as neighbours",
    )
    seed: Seed = 0


class Estimate(Reply):
    """A mean over queries with its interval."""

    mean: float
    low: float
    high: float


class TunedRelevance(Reply):
    """One way to be relevant, and how often it agrees with the labels."""

    token_layer: int | None
    weights: dict[str, float] = Field(description="of the fused relevance, by signal")
    agreement: Estimate = Field(
        description="share of a query's k nearest examples that carry its label; 95 % interval"
    )


class TuneStep(Reply):
    """One comparison: the best candidate against what was best before."""

    compares: Literal["weights", "token_layer"]
    best: TunedRelevance
    gain: Estimate = Field(
        description="agreement of what other queries chose, less that of what was best before; 99 % interval"
    )
    accepted: bool = Field(description="whether the whole interval of the gain is above 0")


class TuneResult(Reply):
    """The ``result`` of a job of kind ``tune``."""

    pool_version: int
    k: int
    queries: int = Field(description="examples that served as queries")
    rows: int = Field(description="examples that they chose from")
    labels: int
    before: TunedRelevance = Field(description="the pool's present settings")
    after: TunedRelevance | None = Field(
        description="what is better beyond noise, with the agreement of queries that had no say in choosing "
        "it; null: the present settings stay"
    )
    steps: list[TuneStep]
    compared: list[TunedRelevance] = Field(description="every candidate, the best agreement first")
    settings: dict[str, Any] = Field(description="settings to change, as `PATCH /v1/pools/{pool}` takes them")
    applied: bool = Field(
        description="whether they were changed; not before `job_id` is done, if there is one"
    )
    job_id: str | None = Field(description="the job that embeds the pool again with the other token layer")
