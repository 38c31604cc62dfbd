"""Pools: what one remembers about its embedder, its templates and its defaults."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from kshot.schemas.base import Name, Page, Reply, Request, Text
from kshot.schemas.health import PoolHealth


class MiniLm(Request):
    """all-MiniLM-L6-v2 from a package (``kshot[embedded]``): 384 dimensions, sentence and token vectors."""

    type: Literal["minilm"] = "minilm"


class SentenceTransformers(Request):
    """Any sentence-transformers model that lies on this machine, by folder or cached name."""

    type: Literal["sentence-transformers"]
    model: Annotated[str, Field(min_length=1, max_length=1024)]


class OpenAiCompatible(Request):
    """An OpenAI-compatible ``/embeddings`` endpoint; sentence vectors only."""

    type: Literal["openai"]
    model: Annotated[str, Field(min_length=1, max_length=256)]
    base_url: Annotated[str, StringConstraints(pattern=r"^https?://[^\s]+$", max_length=1024)]
    dimensions: Annotated[int, Field(ge=1, le=8192)] | None = None
    api_key_env: (
        Annotated[str, StringConstraints(pattern=r"^KSHOT_EMBEDDER_KEY(_[A-Z0-9_]+)?$", max_length=100)]
        | None
    ) = Field(
        default=None,
        description="name of the server's environment variable that holds the key: KSHOT_EMBEDDER_KEY or "
        "KSHOT_EMBEDDER_KEY_<NAME>, so that a pool cannot send any other secret of the server away",
    )


class External(Request):
    """The caller's own vectors: ``vector`` on every example and on ``select``."""

    type: Literal["external"]
    dimension: Annotated[int, Field(ge=1, le=8192)]


class Hashing(Request):
    """Hashed words and character trigrams: no model, instant, lexical. For tests and first steps."""

    type: Literal["hashing"]


EmbedderSpec = Annotated[
    MiniLm | SentenceTransformers | OpenAiCompatible | External | Hashing, Field(discriminator="type")
]


class PromptTemplate(Request):
    """How a prompt is put together; every text is a sandboxed Jinja2 template.

    ``input`` and ``output`` see ``inputs``, ``outputs`` and ``metadata`` of one example and give the user and
    assistant turns; a query is an example without outputs and metadata. ``demonstration`` sees the same and
    ``input`` and ``output`` as rendered before, ``query`` sees ``inputs`` and ``input``: these two give the
    inline form. ``system`` sees ``labels`` (the pool's labels) and ``pool`` (its name). Templates have
    conditions, one level of loops and the usual filters, but no assignments, macros or includes.
    """

    system: Text | None = None
    input: Text | None = Field(default=None, description="default: the text, or 'name: value' lines")
    output: Text | None = Field(default=None, description="default: the text, or 'name: value' lines")
    demonstration: Text = "Input: {{ input }}\nOutput: {{ output }}"
    query: Text = "Input: {{ input }}\nOutput:"
    separator: Annotated[str, Field(max_length=1000)] = "\n\n"


OrderName = Literal[
    "nearest_last", "nearest_first", "label_interleaved", "random", "easy_to_hard", "as_selected", "mdl"
]
PackingName = Literal["prefix_stop", "prefix_skip", "rank_prefix", "drop_farthest", "knapsack"]
MethodParams = dict[str, dict[str, Any]]


class SelectDefaults(Request):
    """What ``select`` does when the request is silent."""

    method: Annotated[str, Field(max_length=100)] = "fused"
    k: Annotated[int, Field(ge=1, le=1000)] = 8
    order: OrderName = "nearest_last"
    packing: PackingName = "prefix_stop"
    gap_below: Annotated[float, Field(ge=-1, le=1)] = Field(
        default=0.35,
        description="a query whose nearest example has a lower cosine is a coverage gap; -1 finds none. The "
        "default suits MiniLM, other embedders have scales of their own",
    )
    params: MethodParams = Field(
        default={},
        description='per method, such as {"fused": {"similarity": 1.0, "bsr": 1.0, "bm25": 0.0}}',
    )


class PoolSettings(Request):
    """Everything about a pool that is chosen rather than measured."""

    embedder: EmbedderSpec = MiniLm()
    embed_template: Text | None = Field(
        default=None, description="Jinja2 over `inputs`: the text to embed; default: the text or its fields"
    )
    token_layer: Annotated[int, Field(ge=0, le=100)] | None = Field(
        default=None,
        description="encoder layer whose token vectors are kept; default: the embedder's own choice",
    )
    prompt: PromptTemplate = PromptTemplate()
    tokenizer: Annotated[str, Field(max_length=1024)] | None = Field(
        default=None,
        description="a Hugging Face tokenizer folder or file, or 'tiktoken:NAME'; default: an estimate",
    )
    label_field: (
        Annotated[str, Field(pattern=r"^(outputs|(outputs|metadata)\.[^\s]+)$", max_length=256)] | None
    ) = Field(
        default=None,
        description="where labels stand: `outputs`, `outputs.<name>` or `metadata.<name>`; default: `outputs`"
        " if it is text with at most 500 distinct values",
    )
    difficulty_field: (
        Annotated[
            str,
            Field(pattern=r"^(output_length|answer_nll|answer_perplexity|metadata\.[^\s]+)$", max_length=256),
        ]
        | None
    ) = Field(
        default=None,
        description="number by which `easy_to_hard` sorts and `cds` makes levels: `metadata.<name>`; "
        "`output_length`, the characters of the outputs; `answer_nll` or `answer_perplexity`, what the "
        "scorer said of them in a job of kind `difficulty`; default: the length of the demonstration, and "
        "for `cds` of its inputs",
    )
    select: SelectDefaults = SelectDefaults()
    store_queries: Literal["full", "none"] = "full"
    retention_days: Annotated[int, Field(ge=1, le=3650)] = 30


class PoolCreate(Request):
    """Body of ``POST /v1/pools``."""

    name: Name
    settings: PoolSettings = PoolSettings()


class PoolPatch(Request):
    """Body of ``PATCH /v1/pools/{pool}``: the settings to change, each one replaced as a whole.

    Changing ``embedder``, ``embed_template`` or ``token_layer`` of a pool that holds examples starts a job
    that embeds them again.
    """

    settings: dict[str, Any]


class PoolInfo(Reply):
    """A pool as the server knows it."""

    name: str
    settings: PoolSettings
    embedder_fingerprint: str | None
    dimension: int | None
    version: int
    examples: int
    indexed_version: int
    created_at: datetime
    updated_at: datetime
    job_id: str | None = Field(default=None, description="the job that a change of settings started")


class PoolList(Page):
    """Pools in alphabetical order."""

    data: list[PoolInfo]


class PoolStats(Reply):
    """Counts and sizes of one pool."""

    name: str
    version: int
    indexed_version: int
    examples: int
    pending: int
    truncated: int = Field(description="examples longer than the embedder's window")
    by_status: dict[str, int]
    by_split: dict[str, int]
    by_label: dict[str, int] = Field(description="the 500 most frequent labels")
    dimension: int | None
    token_vectors: int
    segments: int
    disk_bytes: int
    vector_index: str
    selections: int = Field(default=0, description="recorded and within `retention_days`")
    gaps: int = Field(default=0, description="those of them below `select.gap_below`")
    health: PoolHealth | None = Field(default=None, description="only where asked for, `?health=true`")
