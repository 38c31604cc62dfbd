"""What the HTTP shell asks of the services behind it; tests fill the same protocols with small stubs."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from kshot.schemas.annotations import AnnotationReply, AnnotationRequest
from kshot.schemas.base import Existing, Wait
from kshot.schemas.difficulty import DifficultyRequest
from kshot.schemas.examples import (
    DeleteReply,
    DeleteRequest,
    ExampleInfo,
    ExampleList,
    ExamplePatch,
    RejectedRow,
    UpsertReply,
)
from kshot.schemas.filters import Filter
from kshot.schemas.gaps import GapList
from kshot.schemas.operations import JobInfo, JobList, Readiness
from kshot.schemas.plans import PlanInfo, PlanList, PlannedList, PlanRequest
from kshot.schemas.pools import PoolCreate, PoolInfo, PoolList, PoolPatch, PoolStats
from kshot.schemas.scoring import ScoreReply, ScoreRequest, ScorerInfo
from kshot.schemas.selections import (
    BatchReply,
    BatchRequest,
    RenderReply,
    RenderRequest,
    SearchReply,
    SearchRequest,
    SelectionReply,
    SelectRequest,
    StoredSelection,
)
from kshot.schemas.tuning import TuneRequest
from kshot.server.learning_ports import (
    DecisionService,
    EvaluationService,
    FeedbackService,
    MetricService,
    PolicyService,
    PromptService,
    ReportService,
)


class PoolService(Protocol):
    """Creates, changes and describes pools."""

    async def create(self, request: PoolCreate) -> PoolInfo:
        """Create a pool; `PoolExists` if the name is taken."""
        ...

    async def list(self, cursor: str | None, limit: int) -> PoolList:
        """Return one page of pools."""
        ...

    async def get(self, name: str) -> PoolInfo:
        """Describe a pool; `PoolNotFound` if there is none."""
        ...

    async def patch(self, name: str, request: PoolPatch) -> PoolInfo:
        """Change settings; the reply names the job, if one was started."""
        ...

    async def delete(self, name: str) -> None:
        """Remove a pool with everything in it."""
        ...

    async def stats(self, name: str, *, health: bool) -> PoolStats:
        """Count what a pool holds; ``health`` also looks for what may be wrong with it."""
        ...


class TuningService(Protocol):
    """Looks for better settings."""

    async def start(self, pool: str, request: TuneRequest) -> JobInfo:
        """Start a job that chooses a pool's token layer and weights by its labelled examples."""
        ...


class DifficultyService(Protocol):
    """Finds out how hard examples are."""

    async def start(self, pool: str, request: DifficultyRequest) -> JobInfo:
        """Start a job that scores a pool's answers; `ScorerUnavailable` without a scorer."""
        ...


class ExampleService(Protocol):
    """Writes and reads the examples of a pool."""

    async def upsert(
        self,
        pool: str,
        rows: Sequence[tuple[int, Any]],
        *,
        rejected: Sequence[RejectedRow],
        upto_line: int,
        wait: Wait,
        existing: Existing = "update",
    ) -> UpsertReply:
        """Store a batch durably.

        Parameters
        ----------
        pool : str
            The pool's name.
        rows : sequence of (int, any)
            Line number, counted from 1, and parsed JSON of unknown shape; a bad row stops no other.
        rejected : sequence of RejectedRow
            Lines that were no JSON; they are passed on into the reply.
        upto_line : int
            Every line up to here is in this batch or an earlier one.
        wait : {"none", "indexed"}
            ``indexed`` returns once every row of the pool's present version can be selected.
        existing : {"update", "keep"}
            What becomes of examples whose ids are stored already.
        """
        ...

    async def list(
        self,
        pool: str,
        *,
        filter: Filter | None,  # noqa: A002  (the word of the HTTP interface)
        cursor: str | None,
        limit: int,
    ) -> ExampleList:
        """Return one page of examples in the order of ingestion."""
        ...

    async def get(self, pool: str, example_id: str) -> ExampleInfo:
        """Return one example; `ExampleNotFound` if there is none."""
        ...

    async def patch(self, pool: str, example_id: str, request: ExamplePatch) -> ExampleInfo:
        """Change the fields in ``request.model_fields_set``; an explicit null clears one."""
        ...

    async def delete(self, pool: str, request: DeleteRequest) -> DeleteReply:
        """Remove examples and wipe their texts; unknown ids are not an error."""
        ...


class AnnotationService(Protocol):
    """Takes the answers of annotators."""

    async def annotate(self, pool: str, request: AnnotationRequest, wait: Wait) -> AnnotationReply:
        """Write answers as outputs of the examples; a bad answer stops no other."""
        ...


class SelectionService(Protocol):
    """Chooses demonstrations."""

    async def select(self, pool: str, request: SelectRequest) -> SelectionReply:
        """Return the best set for one query."""
        ...

    async def select_batch(self, pool: str, request: BatchRequest) -> BatchReply:
        """Answer many queries; a bad one fails alone."""
        ...

    async def search(self, pool: str, request: SearchRequest) -> SearchReply:
        """Return the plain nearest neighbours."""
        ...

    async def render(self, pool: str, request: RenderRequest) -> RenderReply:
        """Select, and put the result into a prompt."""
        ...

    async def get(self, selection_id: str) -> StoredSelection:
        """Return a recorded selection; `SelectionNotFound` if there is none."""
        ...

    async def gaps(self, pool: str, *, below: float | None, cursor: str | None, limit: int) -> GapList:
        """Return one page of the queries to which nothing came close, the worst first.

        Parameters
        ----------
        pool : str
        below : float or None
            Cosine below which a selection is a gap; None for the pool's own setting.
        cursor, limit
            As for every listing.
        """
        ...


class PlanService(Protocol):
    """Says what to label next."""

    async def start(self, request: PlanRequest) -> PlanInfo:
        """Start a job that plans."""
        ...

    async def list(self, pool: str | None, cursor: str | None, limit: int) -> PlanList:
        """Return one page of plans, newest first."""
        ...

    async def get(self, plan_id: str) -> PlanInfo:
        """Describe a plan; `PlanNotFound` if there is none."""
        ...

    async def items(self, plan_id: str, cursor: str | None, limit: int) -> PlannedList:
        """Return one page of what a plan proposes, in order; `Conflict` before it is made."""
        ...

    async def export(self, plan_id: str, form: str, *, everything: bool) -> bytes:
        """Write what a plan proposes as a labelling tool imports it; `Conflict` before it is made."""
        ...

    async def cancel(self, plan_id: str) -> PlanInfo:
        """Ask a plan to stop; a finished one is returned as it is."""
        ...


class ScoringService(Protocol):
    """Gives likelihoods."""

    async def score(self, request: ScoreRequest) -> ScoreReply:
        """Score completions; `ScorerUnavailable` without a scorer that can be trusted."""
        ...

    async def info(self) -> ScorerInfo:
        """Say which scorer is configured and what it can do."""
        ...


class JobService(Protocol):
    """Looks after long work."""

    async def list(self, pool: str | None, cursor: str | None, limit: int) -> JobList:
        """Return one page of jobs, newest first."""
        ...

    async def get(self, job_id: str) -> JobInfo:
        """Describe a job; `JobNotFound` if there is none."""
        ...

    async def cancel(self, job_id: str) -> JobInfo:
        """Ask a job to stop; a finished one is returned as it is."""
        ...


class StoredReply(Protocol):
    """The answer that the first request with an idempotency key got."""

    @property
    def status_code(self) -> int:
        """Its HTTP status."""
        ...

    @property
    def response(self) -> Mapping[str, Any] | None:
        """Its JSON body."""
        ...


class IdempotencyKeys(Protocol):
    """Remembers which request a key stands for, and its answer; blocks, as `kshot.index.store.Store` does."""

    def reserve_idempotency_key(self, scope: str, key: str, body_hash: str) -> StoredReply | None:
        """Claim a key, or return the answer it has; `IdempotencyConflict` otherwise."""
        ...

    def complete_idempotency_key(
        self, scope: str, key: str, status_code: int, response: Mapping[str, Any] | None
    ) -> None:
        """Keep the answer."""
        ...

    def release_idempotency_key(self, scope: str, key: str) -> None:
        """Give up a key whose request failed."""
        ...


class Services(Protocol):
    """All services, started and closed together by the app's lifespan."""

    @property
    def pools(self) -> PoolService:
        """Pools."""
        ...

    @property
    def tuning(self) -> TuningService:
        """Tuning."""
        ...

    @property
    def difficulty(self) -> DifficultyService:
        """Difficulty."""
        ...

    @property
    def plans(self) -> PlanService:
        """Plans."""
        ...

    @property
    def examples(self) -> ExampleService:
        """Examples."""
        ...

    @property
    def annotations(self) -> AnnotationService:
        """Annotations."""
        ...

    @property
    def selections(self) -> SelectionService:
        """Selections."""
        ...

    @property
    def scoring(self) -> ScoringService:
        """Scoring."""
        ...

    @property
    def prompts(self) -> PromptService:
        """Prompts."""
        ...

    @property
    def metrics(self) -> MetricService:
        """Metrics."""
        ...

    @property
    def reports(self) -> ReportService:
        """Reports on policies."""
        ...

    @property
    def evaluations(self) -> EvaluationService:
        """What other policies would have earned."""
        ...

    @property
    def policies(self) -> PolicyService:
        """Policies."""
        ...

    @property
    def decisions(self) -> DecisionService:
        """Decisions."""
        ...

    @property
    def feedback(self) -> FeedbackService:
        """Feedback."""
        ...

    @property
    def jobs(self) -> JobService:
        """Jobs."""
        ...

    @property
    def idempotency(self) -> IdempotencyKeys:
        """Idempotency keys."""
        ...

    async def start(self) -> None:
        """Open what is needed and start background work; called once, before the first request."""
        ...

    async def close(self) -> None:
        """Finish background work and flush what was acknowledged; called once, after the last request."""
        ...

    async def readiness(self) -> Readiness:
        """Check everything a request depends on."""
        ...
