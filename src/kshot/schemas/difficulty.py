"""Difficulty on the wire: what the scorer says of a pool's answers."""

from typing import Any, Literal

from pydantic import Field

from kshot.schemas.base import Reply, Request

Measure = Literal["answer_nll", "answer_perplexity"]


class DifficultyRequest(Request):
    """Body of ``POST /v1/pools/{pool}/difficulty``: everything has a default."""

    apply: bool = Field(default=False, description="make `measure` the pool's `difficulty_field` at the end")
    measure: Measure = Field(
        default="answer_nll",
        description="`answer_nll`: minus the log-probability of the answer given the question, in nats; "
        "`answer_perplexity`: the exponential of that per token. Both are computed, this one is described",
    )


class Spread(Reply):
    """How a number is distributed over the examples."""

    least: float
    median: float
    largest: float


class DifficultyResult(Reply):
    """The ``result`` of a job of kind ``difficulty``."""

    pool_version: int
    model: str
    fingerprint: str
    examples: int = Field(description="live examples with outputs")
    scored: int = Field(description="those that were asked about by this job")
    kept: int = Field(description="those that were known already, by this model and prompt")
    failed: int = Field(description="those without a number: they count as the median")
    failure: str | None = Field(description="why the first of them has none")
    measure: Measure
    difficulty: Spread
    settings: dict[str, Any] = Field(
        description="settings that make use of it, as `PATCH /v1/pools/{pool}` takes them; empty if they hold"
    )
    applied: bool
