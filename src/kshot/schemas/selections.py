"""`select`, `search` and `render` on the wire."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from kshot.records import Content
from kshot.schemas.base import ContentIn, ExampleId, Notice, Reply, Request, Vector
from kshot.schemas.coverage import Coverage
from kshot.schemas.filters import Filter, check_size
from kshot.schemas.pools import OrderName, PackingName


def _small(value: Any) -> Any:
    check_size(value)
    return value


SizedFilter = Annotated[Filter, BeforeValidator(_small)]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]


class MethodSpec(Request):
    """A method with parameters: ``{"type": "mmr", "diversity": 0.2}``; see ``GET /v1/selectors``."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    type: Annotated[str, Field(min_length=1, max_length=100)]


class Exclude(Request):
    """Examples that must not be chosen."""

    ids: Annotated[list[ExampleId], Field(max_length=10_000)] = []
    content_hashes: Annotated[list[str], Field(max_length=10_000)] = []
    groups: Annotated[list[str], Field(max_length=10_000)] = []
    splits: Annotated[list[str], Field(max_length=100)] = []
    same_content: bool = Field(default=False, description="leave out examples whose inputs equal the query")


class RandomOrder(Request):
    """A shuffled prompt order with a seed of its own."""

    type: Literal["random"]
    seed: Seed = 0


class Stable(Request):
    """A core of the pool: the same for every query and first in the prompt, so that prefixes are cached."""

    k: Annotated[int, Field(ge=1, le=1000)]
    block_tokens: Annotated[int, Field(ge=1, le=65_536)] | None = Field(
        default=None,
        description="the engine caches prefixes in blocks of this many tokens: up to `k` demonstrations, as "
        "many as leave the fewest tokens beyond the last full block",
    )


class Sticky(Request):
    """One set for all queries of a cluster, so that prompts repeat and are cached whole."""

    clusters: Annotated[int, Field(ge=1, le=1000)] = 32


class Distinct(Request):
    """Which demonstrations would repeat one another."""

    content: bool = Field(default=True, description="never show equal inputs with equal outputs twice")
    similarity: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None, description="never show two examples whose cosine reaches this"
    )


class Adaptive(Request):
    """Fewer than k demonstrations where more are not worth their tokens."""

    min_gain_per_token: float = Field(
        description="stop at the first pick whose gain, in the method's own unit, is less per token"
    )
    min_k: Annotated[int, Field(ge=0, le=1000)] = 1


class Query(Request):
    """What is asked for: inputs as in the pool's examples, or the caller's own vector, or both."""

    inputs: ContentIn | None = None
    vector: Vector | None = None
    filter: SizedFilter | None = None
    # A default would be copied, lists and all, for every request.
    exclude: Exclude = Field(default_factory=Exclude)


class SelectRequest(Query):
    """Body of ``POST /v1/pools/{pool}/select``; everything but the query has a default."""

    k: Annotated[int, Field(ge=1, le=1000)] | None = Field(default=None, description="default: the pool's, 8")
    max_tokens: Annotated[int, Field(ge=1, le=10_000_000)] | None = Field(
        default=None, description="limit for all demonstrations together, separators included"
    )
    packing: PackingName | None = None
    method: str | MethodSpec | None = None
    min_score: Annotated[float, Field(ge=-1, le=1)] | None = Field(
        default=None, description="least cosine similarity to the query"
    )
    order: OrderName | RandomOrder | None = None
    stable: Stable | None = None
    sticky: Sticky | None = None
    distinct: Distinct = Field(default_factory=Distinct)
    adaptive: Adaptive | None = None
    exact: bool = Field(
        default=False, description="score every eligible example where the method would look at a shortlist"
    )
    deadline_ms: Annotated[float, Field(gt=0, le=600_000)] | None = Field(
        default=None,
        description="a method that would be late, going by its recent times, is replaced by a cheaper one",
    )
    seed: Seed = 0
    explain: bool = False
    durable: bool = Field(default=False, description="wait until the selection itself is on disk")


class RenderedTurn(Reply):
    """One demonstration through the pool's own prompt template."""

    input: str
    output: str
    text: str


class Demonstration(Reply):
    """One chosen example, at its place in the prompt."""

    id: str
    rank: int = Field(description="place in the prompt, from 0")
    part: Literal["stable", "dynamic"]
    inputs: Content
    outputs: Content | None
    metadata: dict[str, Any]
    score: float = Field(description="instance relevance by the method's own measure")
    gain: float = Field(description="increase of the method's objective when it was picked")
    similarity: float | None = Field(description="cosine to the query; null without vectors")
    tokens: int
    label: str | None = None
    rendered: RenderedTurn | None = Field(
        default=None, description="only where the pool has its own template"
    )


class Usage(Reply):
    """What the set costs."""

    tokens: int
    estimated: bool = Field(description="true when no tokenizer is set and lengths are characters / 3.5")
    eligible: int = Field(description="rows left by filter, exclusions, min_score and equal content")
    candidates: int = Field(description="rows that the method scored")
    prefix_tokens: int = Field(default=0, description="of the system text and the stable part together")
    cacheable_tokens: int = Field(
        default=0,
        description="those of them in full blocks of `stable.block_tokens`; all, where that is not set",
    )


class SetStatistics(Reply):
    """How the chosen demonstrations relate to one another."""

    mean_pairwise: float | None = Field(description="mean cosine between two of them")
    labels: dict[str, int]


class GainStep(Reply):
    """What one more demonstration would add, in pick order."""

    id: str
    gain: float
    tokens: int
    gain_per_token: float
    kept: bool


class Rejected(Reply):
    """A candidate that came close."""

    id: str
    score: float
    reason: str


class Explanation(Reply):
    """Why these: the method's own facts, and the runners-up."""

    method: str
    params: dict[str, Any]
    diagnostics: dict[str, Any]
    filter_matched: int | None
    excluded: int
    rejected: list[Rejected]
    coverage: Coverage | None = Field(
        default=None, description="null without demonstrations or token vectors"
    )


class Frame(Reply):
    """The parts of the prompt around the demonstrations; only where the pool has its own template."""

    system: str | None
    separator: str
    query_input: str | None
    query_text: str | None


class SelectionReply(Reply):
    """The best set for one query, in prompt order."""

    selection_id: str
    pool: str
    pool_version: int
    method: str
    demonstrations: list[Demonstration]
    usage: Usage
    set: SetStatistics
    prefix_hash: str | None = Field(description="of the stable part as rendered; null without one")
    timing_ms: dict[str, float]
    exactness: Literal["exact", "certified", "approximate"] = Field(
        default="exact",
        description="exact: every eligible row was scored; certified: the rows left out are proven to change "
        "nothing; approximate: one of them may have been better",
    )
    degraded: bool = False
    abstained: bool = False
    warnings: list[Notice] = []
    curve: list[GainStep] = Field(default=[], description="only with `adaptive`")
    cluster: str | None = Field(
        default=None, description="id of the example at the heart of the query's cluster; only with `sticky`"
    )
    frame: Frame | None = None
    explain: Explanation | None = None
    decision_id: str | None = Field(default=None, description="of the policy that chose; only with `auto`")
    variant: str | None = Field(default=None, description="what the policy chose; only with `auto`")


class BatchRequest(Request):
    """Body of ``select:batch``: one `select` body per query; a bad query fails alone."""

    queries: Annotated[list[Any], Field(min_length=1, max_length=1000)]


class BatchItem(Reply):
    """One answer of a batch: a selection, or the problem that kept it from one."""

    selection: SelectionReply | None = None
    error: dict[str, Any] | None = None


class BatchReply(Reply):
    """Answers in the order of the queries."""

    results: list[BatchItem]


class SearchRequest(Query):
    """Body of ``search``: the plain nearest neighbours."""

    k: Annotated[int, Field(ge=1, le=1000)] = 10


class Hit(Reply):
    """One neighbour."""

    id: str
    similarity: float
    inputs: Content
    outputs: Content | None
    metadata: dict[str, Any]
    label: str | None = None


class SearchReply(Reply):
    """Neighbours, nearest first."""

    pool: str
    pool_version: int
    hits: list[Hit]
    timing_ms: dict[str, float]
    warnings: list[Notice] = []


class RenderRequest(SelectRequest):
    """Body of ``render``: a selection put into a prompt."""

    format: Literal["messages", "anthropic", "text"] = "messages"
    style: Literal["turns", "inline"] = Field(
        default="turns", description="demonstrations as user/assistant turns, or inside one user message"
    )


class Message(Reply):
    """One chat message."""

    role: Literal["system", "user", "assistant"]
    content: str


class RenderReply(Reply):
    """A prompt ready to be sent, and the selection it was made from."""

    selection: SelectionReply
    messages: list[Message] | None = None
    system: str | None = Field(default=None, description="apart from the messages in the anthropic format")
    text: str | None = None
    tokens: int
    estimated: bool


class StoredDemonstration(Reply):
    """A demonstration as it was recorded."""

    id: str
    seq: int
    score: float
    gain: float
    part: Literal["stable", "dynamic"]


class StoredSelection(Reply):
    """A recorded selection."""

    selection_id: str
    pool: str
    pool_version: int
    created_at: datetime
    method: str
    request: dict[str, Any]
    demonstrations: list[StoredDemonstration]
    query: Content | None
    abstained: bool
    best_similarity: float | None = Field(
        default=None, description="cosine of the query to the nearest example that could be chosen"
    )


class SelectorInfo(Reply):
    """A method: its name, what it does, its parameters."""

    name: str
    summary: str
    parameters: dict[str, Any] = Field(description="JSON schema of the parameters")
    needs: list[str]


class SelectorList(Reply):
    """Every method that this server knows."""

    data: list[SelectorInfo]
