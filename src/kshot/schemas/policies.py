"""Policies on the wire: which variants there are, how one is chosen, what is learnt."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from kshot.schemas.base import JsonObject, Name, NonBlankText, Notice, Page, Reply, Request, ShortText, Text
from kshot.schemas.feedback import Number
from kshot.schemas.pools import EmbedderSpec
from kshot.schemas.prompts import PromptReference
from kshot.schemas.selections import MethodSpec, Seed

Share = Annotated[float, Field(ge=0, le=1)]
DEFAULT_ALGORITHM = "square_cb"
Mode = Literal["online", "apprentice", "shadow", "frozen"]
VariantStatus = Literal["draft", "candidate", "active", "paused", "retired"]


class SelectorConfig(Request):
    """Demonstrations as a variant: which method chooses them, and how many."""

    method: str | MethodSpec
    k: Annotated[int, Field(ge=1, le=1000)] | None = None


class Prior(Request):
    """What is believed of a variant before its first outcome."""

    reward: Share = 0.5
    events: Annotated[float, Field(ge=0, le=10_000)] = Field(
        default=0.0, description="how many outcomes the belief is worth"
    )


class VariantCreate(Request):
    """One thing that a policy may choose; its content never changes."""

    name: Name
    prompt: PromptReference | None = Field(default=None, description="a prompt of the registry")
    template: NonBlankText | None = Field(
        default=None, description="instead of `prompt`: a template of its own"
    )
    system: Text | None = Field(default=None, description="a template of the system prompt; with `template`")
    selector: SelectorConfig | None = Field(
        default=None, description="how demonstrations are chosen; what `method: auto` chooses among"
    )
    parameters: JsonObject = Field(default={}, description="anything of the caller's, such as a model's name")
    status: VariantStatus = "active"
    cost: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = Field(
        default=None, description="expected cost of one use, until costs are reported; in the caller's unit"
    )
    prior: Prior | None = Field(default=None, description="default: the parent's, or none")
    parent: Name | None = Field(
        default=None,
        description="the variant that this one is an edit of: it starts near what that one learnt",
    )

    @model_validator(mode="after")
    def _is_one_form(self) -> "VariantCreate":
        if self.prompt is not None and self.template is not None:
            raise ValueError("wants at most one of prompt and template")
        if self.system is not None and self.template is None:
            raise ValueError("has system, so it wants template as well")
        return self


class VariantPatch(Request):
    """Body of ``PATCH /v1/policies/{policy}/variants/{variant}``: its life, never its content."""

    status: VariantStatus | None = None
    cost: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None


class NumberFeature(Request):
    """A number of the request, scaled to -1 to 1; beyond the range it is cut."""

    type: Literal["number"]
    name: Name
    low: Number
    high: Number

    @model_validator(mode="after")
    def _has_range(self) -> "NumberFeature":
        if self.low >= self.high:
            raise ValueError("wants low below high")
        return self


class CategoryFeature(Request):
    """A word of the request, one feature per value; others count as none of them."""

    type: Literal["category"]
    name: Name
    values: Annotated[list[ShortText], Field(min_length=1, max_length=50)]


RequestFeature = Annotated[NumberFeature | CategoryFeature, Field(discriminator="type")]


class ContextSettings(Request):
    """What a decision looks at: the query's embedding, projected, and features of the request.

    The embedder and embed template are those of ``pool`` where one is named.
    """

    pool: Name | None = None
    embedder: EmbedderSpec | None = Field(default=None, description="default: the pool's, else MiniLM")
    dimension: Annotated[int, Field(ge=0, le=64)] = Field(
        default=32, description="features that the embedding is projected to; 0: the embedding is not used"
    )
    seed: Seed = Field(default=0, description="of the projection")
    features: Annotated[list[RequestFeature], Field(max_length=16)] = []

    @model_validator(mode="after")
    def _has_one_source(self) -> "ContextSettings":
        if self.pool is not None and self.embedder is not None:
            raise ValueError("wants at most one of pool and embedder")
        names = [feature.name for feature in self.features]
        if len(set(names)) < len(names):
            raise ValueError("names a feature twice")
        return self


class PolicySettings(Request):
    """Everything about a policy but its name and its variants."""

    algorithm: str | MethodSpec = Field(
        default=DEFAULT_ALGORITHM, description="name, or name with parameters; see `GET /v1/algorithms`"
    )
    metric: Name = Field(
        default="reward", description="what it learns from; declared as 0 to 1 if it is not yet"
    )
    context: ContextSettings = ContextSettings()
    mode: Mode = Field(
        default="online",
        description="`online` chooses and learns; `apprentice` learns from what the caller serves; `shadow` "
        "serves `control` and learns from it; `frozen` chooses and does not learn",
    )
    floor: Share = Field(default=0.02, description="share spread evenly, whatever the algorithm says")
    hold_out: Share = Field(
        default=0.02, description="share decided evenly and marked, as a lasting yardstick"
    )
    nursery: Annotated[float, Field(ge=0, le=0.5)] = Field(
        default=0.2, description="largest share kept for variants with fewer than `nursery_events` outcomes"
    )
    nursery_events: Annotated[int, Field(ge=0, le=100_000)] = 10
    control: Name | None = Field(
        default=None, description="the variant to fall back to where it is shown to do better than the policy"
    )
    fallback: Name | None = Field(
        default=None, description="served where no variant may be; default: such a request is refused"
    )
    half_life_s: Annotated[float, Field(gt=0, le=10 * 366 * 86_400)] | None = Field(
        default=None, description="after how long an outcome counts half; default: outcomes count for ever"
    )
    cost_reference: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        default=1.0, description="the cost that `cost_weight` 1 sets against a whole unit of reward"
    )
    cost_metric: Name | None = Field(
        default=None,
        description="a declared metric whose values are what decisions cost: their mean is then what a "
        "variant is expected to cost",
    )
    cost_weight: Annotated[float, Field(ge=0, le=1000)] = Field(
        default=0.0, description="how much cost counts where the request does not say; 0: not at all"
    )
    session_ttl_s: Annotated[float, Field(gt=0, le=366 * 86_400)] = Field(
        default=86_400.0, description="for how long a session keeps its variant"
    )
    retention_days: Annotated[int, Field(ge=1, le=3650)] = Field(
        default=90, description="how long decisions are kept; what was learnt from them stays"
    )


class PolicyCreate(PolicySettings):
    """Body of ``POST /v1/policies``."""

    name: Name
    variants: Annotated[list[VariantCreate], Field(min_length=1, max_length=1000)]

    @model_validator(mode="after")
    def _names_are_distinct(self) -> "PolicyCreate":
        names = [variant.name for variant in self.variants]
        if len(set(names)) < len(names):
            raise ValueError("names a variant twice")
        for role in ("control", "fallback"):
            if getattr(self, role) is not None and getattr(self, role) not in names:
                raise ValueError(f"has {role} {getattr(self, role)!r}, which is none of its variants")
        return self


class PolicyPatch(Request):
    """Body of ``PATCH /v1/policies/{policy}``; another algorithm or context learns anew from the log."""

    algorithm: str | MethodSpec | None = None
    context: ContextSettings | None = None
    mode: Mode | None = None
    floor: Share | None = None
    hold_out: Share | None = None
    nursery: Annotated[float, Field(ge=0, le=0.5)] | None = None
    nursery_events: Annotated[int, Field(ge=0, le=100_000)] | None = None
    control: Name | None = None
    fallback: Name | None = None
    half_life_s: Annotated[float, Field(gt=0, le=10 * 366 * 86_400)] | None = None
    cost_metric: Name | None = None
    cost_reference: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    cost_weight: Annotated[float, Field(ge=0, le=1000)] | None = None
    session_ttl_s: Annotated[float, Field(gt=0, le=366 * 86_400)] | None = None
    retention_days: Annotated[int, Field(ge=1, le=3650)] | None = None


class VariantInfo(Reply):
    """A variant and what was seen of it."""

    name: str
    status: str
    prompt: dict[str, Any] | None = None
    template: str | None = None
    system: str | None = None
    selector: dict[str, Any] | None = None
    parameters: dict[str, Any]
    parent: str | None = None
    cost: float | None = Field(
        default=None, description="expected, by what was reported, else as it was declared"
    )
    outcomes: int
    mean: float | None = Field(
        description="mean reward, 0 to 1, higher is better; null before the first outcome"
    )
    created_at: datetime


class PolicyInfo(Reply):
    """A policy as it stands."""

    name: str
    version: int
    settings: dict[str, Any]
    variants: list[VariantInfo]
    outcomes: int = Field(description="outcomes that its state holds")
    upto_seq: int = Field(description="how far in the feedback log its state is")
    checksum: str = Field(description="equal states have equal checksums, in every process")
    created_at: datetime
    updated_at: datetime
    warnings: list[Notice] = []


class PolicyList(Page):
    """One page of policies, by name."""

    data: list[PolicyInfo]


class AlgorithmInfo(Reply):
    """One algorithm: its name, what it does, its parameters."""

    name: str
    description: str
    contextual: bool
    parameters: dict[str, Any] = Field(description="a JSON schema per parameter")


class AlgorithmList(Reply):
    """Every algorithm that a policy may use."""

    data: list[AlgorithmInfo]
