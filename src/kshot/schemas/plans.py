"""Annotation plans on the wire: what to label next, under a budget."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from kshot.records import Content, JobState
from kshot.schemas.base import Name, Notice, Page, Reply, Request, ShortText
from kshot.schemas.curves import BudgetCurve
from kshot.schemas.selections import MethodSpec, Seed, SizedFilter

MetadataField = Annotated[
    str,
    Field(
        pattern=r"^metadata\.[^\s]+$",
        max_length=256,
        description="a field of the examples' metadata, such as `metadata.cost`",
    ),
]
StratumField = Annotated[
    str,
    Field(
        pattern=r"^(split|group|subject_id|metadata\.[^\s]+)$",
        max_length=256,
        description="`split`, `group`, `subject_id` or `metadata.<name>`",
    ),
]
DEFAULT_PLANNER = "facility_location"


class Strata(Request):
    """Parts of the pool that each get a share of the budget."""

    field: StratumField
    shares: dict[ShortText, Annotated[float, Field(ge=0, allow_inf_nan=False)]] | None = Field(
        default=None,
        description="wanted proportions by value, in any unit; values that are not named get none. Default: "
        "in proportion to the unlabelled rows, at least one each",
    )


class PlanRequest(Request):
    """Body of ``POST /v1/plans``: a pool and a budget; everything else has a default."""

    pool: Name
    method: str | MethodSpec = Field(
        default=DEFAULT_PLANNER, description="name, or name with parameters; see `GET /v1/planners`"
    )
    budget: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        default=None, description="examples to label; give this or `max_cost`"
    )
    max_cost: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        default=None, description="what labelling may cost, in the unit of `cost_field`"
    )
    cost_field: MetadataField | None = Field(
        default=None, description="what it costs to label an example; a number >= 0"
    )
    default_cost: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = Field(
        default=None, description="of examples without a cost; default: they are an error"
    )
    filter: SizedFilter | None = Field(
        default=None, description="only examples that match take part, as candidates and as labelled ones"
    )
    exclude_splits: Annotated[list[ShortText], Field(max_length=100)] = Field(
        default=["test"], description="splits whose examples take no part"
    )
    strata: Strata | None = None
    examples: Annotated[list[Any], Field(max_length=10_000)] = Field(
        default=[],
        description="unlabelled examples to store first, as drafts; rows as in `POST .../examples`",
    )
    gaps: Annotated[int, Field(ge=0, le=10_000)] = Field(
        default=0,
        description="queries to which nothing came close, the worst first, to store as drafts before "
        "planning; see `GET /v1/pools/{pool}/gaps`",
    )
    confidence_field: MetadataField | None = Field(
        default=None, description="how sure a model is of its answer; for `vote_k`, `least_confidence`, ..."
    )
    confidence: Literal["scorer"] | None = Field(
        default=None,
        description="instead of `confidence_field`: `scorer` asks the server's language model about every "
        "unlabelled example, with labelled ones as demonstrations",
    )
    quality_field: MetadataField | None = Field(
        default=None, description="a number > 0: how good an example is; for `mig` and `dpp_diversity`"
    )
    tag_field: Annotated[str, Field(pattern=r"^(label|metadata\.[^\s]+)$", max_length=256)] | None = Field(
        default=None, description="a tag or a list of tags; for `mig`"
    )
    structures: Literal["ngrams", "dependencies", "ast_python", "ast_sql"] = Field(
        default="ngrams", description="what counts as a structure; for `structurally_diverse`"
    )
    curve: bool = Field(default=True, description="also say what each further label buys")
    seed: Seed = 0

    @model_validator(mode="after")
    def _has_one_budget(self) -> "PlanRequest":
        if (self.budget is None) == (self.max_cost is None):
            raise ValueError("wants exactly one of budget and max_cost")
        if self.max_cost is not None and self.cost_field is None:
            raise ValueError("has max_cost, so it wants cost_field as well")
        if self.confidence is not None and self.confidence_field is not None:
            raise ValueError("wants at most one of confidence and confidence_field")
        return self


class GraphInfo(Reply):
    """The neighbour graph that a plan was made on."""

    n_neighbors: int
    center: bool = Field(description="whether the mean of all rows was subtracted")
    exact: bool
    recall: float = Field(description="share of the true neighbours found; measured on a sample unless exact")


class ConfidenceInfo(Reply):
    """How confidences were asked for."""

    model: str
    fingerprint: str = Field(description="changes with everything that changes likelihoods")
    measure: Literal["best_label", "greedy_answer"] = Field(
        description="whose mean log-probability it is: the likeliest label's, or the model's own answer's"
    )
    labels: int | None = Field(description="labels that were compared; null for the model's own answer")
    demonstrations: int = Field(description="of each prompt, at most: the nearest labelled examples")


class StratumResult(Reply):
    """One stratum of a plan."""

    value: str | None
    unlabelled: int
    planned: int


class PlanResult(Reply):
    """What a plan proposes, apart from its items."""

    method: str
    parameters: dict[str, Any]
    pool_version: int
    labelled: int = Field(description="examples with outputs: they count as covered, and are never planned")
    unlabelled: int = Field(description="examples that could be planned, equal inputs counted once")
    planned: int
    cost: float | None = Field(description="of the planned examples; null without `cost_field`")
    strata: list[StratumResult] | None = None
    graph: GraphInfo | None = None
    confidence: ConfidenceInfo | None = Field(default=None, description="of plans that ask the scorer")
    diagnostics: dict[str, Any] = Field(default={}, description="facts that the method reports about itself")
    notices: list[Notice] = []
    curve: BudgetCurve | None = None


class PlanInfo(Reply):
    """A plan: what was asked for, how far it is, what it proposes."""

    id: str
    pool: str | None = Field(description="null once the pool is deleted")
    state: JobState
    phase: str | None
    done: int
    total: int | None
    eta_s: float | None = Field(default=None, description="until the end of the phase, if that can be told")
    request: dict[str, Any]
    result: PlanResult | None
    error: dict[str, Any] | None
    created_at: datetime
    updated_at: datetime


class PlanList(Page):
    """Plans, newest first."""

    data: list[PlanInfo]


class PlannedExample(Reply):
    """One example of a plan, at its place in the order, and what became of it since."""

    rank: int = Field(description="1 is the first to label")
    id: str
    gain: float = Field(description="increase of the method's objective, in its own unit")
    cost: float | None
    stratum: str | None
    layer: int | None = Field(
        default=None, description="for `auto_ideal`: 1 is reached by labelled examples, 2 by those of 1, ..."
    )
    state: Literal["unlabelled", "labelled", "retired", "deleted"]
    inputs: Content | None
    metadata: dict[str, Any]


class PlannedList(Page):
    """What a plan proposes, in order."""

    data: list[PlannedExample]


class PlannerInfo(Reply):
    """A planner: its name, what it does, its parameters."""

    name: str
    summary: str
    parameters: dict[str, Any] = Field(description="JSON schema of the parameters")
    needs: list[str] = Field(description="what the rows must come with")
    wants: list[str] = Field(description="what it uses where that is to be had")
    nested: bool = Field(description="whether the first M of a larger plan are the plan for M")


class PlannerList(Reply):
    """Every planner that this server knows."""

    data: list[PlannerInfo]
