"""Frozen records: what the store holds and the layers pass around.

Records know nothing of NumPy, HTTP or SQL. Times are timezone-aware UTC.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeAlias

from kshot.errors import InvalidInput

Content: TypeAlias = str | dict[str, Any]
"""Inputs or outputs: one text, or named fields."""

# `json.dumps` with these arguments builds an encoder per call, which costs more than encoding a short text.
_CANONICAL_ENCODE = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode


class Status(StrEnum):
    """Life of an example; only approved examples are selected unless a request's filter says otherwise."""

    DRAFT = "draft"
    APPROVED = "approved"
    RETIRED = "retired"


class JobState(StrEnum):
    """Life of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """True once the state never changes again."""
        return self in {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}


def canonical_json(value: Any) -> str:
    """Serialise with sorted keys and no spaces, so that equal values give equal text."""
    return _CANONICAL_ENCODE(value)


def content_hash(inputs: Content, outputs: Content | None) -> str:
    """Hash inputs and outputs; equal content has an equal hash under any id."""
    text = canonical_json([inputs, outputs])
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def input_hash(inputs: Content) -> str:
    """Hash the inputs alone: what a query is compared with when equal content is excluded."""
    text = canonical_json(inputs)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class NewExample:
    """An example as it is about to be written."""

    id: str
    inputs: Content
    outputs: Content | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    split: str | None = None
    status: Status = Status.APPROVED
    subject_id: str | None = None
    #: Rows that must not be shown to one another's queries (one dialogue, one customer).
    group: str | None = None
    #: The caller's own sentence vector, float32 little-endian bytes; pools with the external embedder only.
    vector: bytes | None = None

    def content_hash(self) -> str:
        """Hash of inputs and outputs."""
        return content_hash(self.inputs, self.outputs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Example(NewExample):
    """A stored example: one version of it, live from ``added_in`` until ``removed_in``."""

    #: Grows with every stored version, never used twice; row order is ``feature_seq`` order.
    seq: int
    #: The version whose vectors this one uses: its own, or an earlier one's with the same inputs.
    feature_seq: int
    added_in: int
    removed_in: int | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A named set of examples with one embedder, one embed template and one prompt template."""

    id: int
    name: str
    #: Validated by `kshot.schemas.pools.PoolSettings`; opaque to the store.
    settings: Mapping[str, Any]
    #: What computed the stored vectors; None until the first vector is stored.
    embedder_fingerprint: str | None
    dimension: int | None
    #: Grows by one with every committed change of the pool's examples.
    version: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """One stored answer of ``select``: enough to tell later what was shown, and why."""

    id: str
    pool_id: int
    pool_version: int
    created_at: datetime
    method: str
    #: Parameters, k, order, seed and filter, as validated.
    request: Mapping[str, Any]
    #: ``[{"id", "seq", "score", "gain", "part"}]`` in prompt order.
    demonstrations: list[dict[str, Any]]
    query: Content | None = None
    abstained: bool = False
    #: Cosine of the query to the nearest example that could have been chosen; None if there was none, or no
    #: vector to compare with.
    best_similarity: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CoverageGap:
    """A query, or several equal ones, whose nearest example was too far away."""

    #: None where the pool keeps no queries; then every selection is a gap of its own.
    query: Content | None
    #: How many selections had it.
    count: int
    #: The lowest of theirs.
    best_similarity: float
    first_at: datetime
    last_at: datetime
    #: One of them: the first by id.
    selection_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A piece of long work: who asked for what, how far it is, how it ended."""

    id: str
    kind: str
    pool_id: int | None
    params: Mapping[str, Any]
    state: JobState
    done: int
    total: int | None
    phase: str | None
    result: Mapping[str, Any] | None
    #: ``{"code", "detail"}`` once failed.
    error: Mapping[str, Any] | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanItem:
    """An example that a plan proposes to label."""

    #: 1 is the first to label.
    rank: int
    example_id: str
    #: Increase of the method's objective, in its own unit.
    gain: float
    cost: float | None = None
    stratum: str | None = None
    #: How far the label would be from a person's, where a model is to give it; 1 is next to one.
    layer: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRecord:
    """A likelihood that was computed once."""

    #: Hash of everything that the number depends on.
    key: bytes
    #: Of a completion the sum over its tokens, -inf where the model rules it out; of an answer the mean.
    nats: float
    tokens: int
    bytes: int
    characters: int
    boundary: str
    mode: str
    greedy: bool | None = None
    dropped: int = 0
    dropped_demonstrations: int = 0
    lossy: bool = False
    per_token: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRecord:
    """One recorded choice of a policy."""

    id: str
    policy_id: int
    policy_version: int
    #: Of the map from query to features; outcomes are only learnt by states of the same map.
    feature_version: str
    decided_at: datetime
    request_hash: str
    #: What the policy would serve, and what was served.
    chosen: str
    served: str
    #: Probability of ``served``; None where it is unknown.
    propensity: float | None
    propensity_kind: str
    hold_out: bool
    mode: str
    #: False until `activate`, where the caller asked for that.
    active: bool
    seed: str
    eligible: list[str]
    #: Little-endian float64, one per eligible variant.
    probabilities: bytes
    #: Little-endian int64, on the grid of `kshot.selectors.bandits.grid`.
    features: bytes
    session_key: str | None = None
    subject_id: str | None = None
    selection_id: str | None = None
    #: What was expected of each eligible variant to cost, where that counted.
    costs: Mapping[str, Any] | None = None
    #: What the answer said beside all this: means, widths, the prompt's version, warnings.
    detail: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFeedback:
    """An event of the feedback log as it is about to be appended."""

    #: ``decision`` or ``selection``.
    target_kind: str
    target_id: str
    policy_id: int | None
    metric: str
    #: With target and metric: what makes the event unique.
    idempotency_key: str
    #: reward, correct, retract, cancel, activate, expire, served
    kind: str
    value: float | None = None
    #: Of ``correct`` and ``retract``: the key of the one event that is meant; None: all of the metric.
    of: str | None = None
    #: Of ``served``; None: none of the policy's variants.
    variant: str | None = None
    weight: float = 1.0
    source: str | None = None
    tags: Mapping[str, Any] = field(default_factory=dict)
    occurred_at: datetime
    received_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackEvent(NewFeedback):
    """An event of the feedback log; ``seq`` is its place, and its place in time for every process."""

    seq: int


def require_text(value: object, pointer: str) -> str:
    """Return ``value`` if it is text that can be stored.

    Raises
    ------
    InvalidInput
        It is no string, or holds a lone surrogate or NUL, which no database keeps.
    """
    if not isinstance(value, str):
        raise InvalidInput(f"{pointer} is {type(value).__name__}, wanted text")
    if "\x00" in value:
        raise InvalidInput(f"{pointer} holds a NUL character")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidInput(f"{pointer} is not valid Unicode (lone surrogate at {error.start})") from None
    return value
