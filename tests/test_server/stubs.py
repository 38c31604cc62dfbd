"""In-memory services: just enough behaviour to see what the HTTP shell does with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kshot.errors import (
    ExampleNotFound,
    IdempotencyConflict,
    JobNotFound,
    PlanNotFound,
    PoolExists,
    PoolNotFound,
)
from kshot.records import JobState
from kshot.schemas.annotations import AnnotationReply, AnnotationRequest
from kshot.schemas.difficulty import DifficultyRequest
from kshot.schemas.examples import (
    DeleteReply,
    DeleteRequest,
    ExampleIn,
    ExampleInfo,
    ExampleList,
    ExamplePatch,
    RejectedRow,
    UpsertReply,
)
from kshot.schemas.gaps import Gap, GapList
from kshot.schemas.operations import JobInfo, JobList, Readiness
from kshot.schemas.plans import PlanInfo, PlanList, PlannedExample, PlannedList, PlanRequest
from kshot.schemas.pools import PoolCreate, PoolInfo, PoolList, PoolPatch, PoolStats
from kshot.schemas.scoring import ScoreItem, ScoreReply, ScoreRequest, ScorerInfo
from kshot.schemas.selections import (
    BatchReply,
    BatchRequest,
    Hit,
    RenderReply,
    RenderRequest,
    SearchReply,
    SearchRequest,
    SelectionReply,
    SelectRequest,
    StoredSelection,
)
from kshot.schemas.tuning import TuneRequest
from kshot.server.validation import field_errors
from tests.test_server.stub_replies import NOW, example_info, job_info, plan_info, pool_info, selection_reply


class Failing:
    """What a test wants a service to raise instead of answering."""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.after_calls = 0
        self.calls: list[tuple[str, Any]] = []

    def called(self, name: str, arguments: Any = None) -> None:
        self.calls.append((name, arguments))
        if self.error is not None and len(self.calls) > self.after_calls:
            raise self.error


class StubPools(Failing):
    def __init__(self) -> None:
        super().__init__()
        self.names = {"tickets"}

    def require(self, name: str) -> None:
        if name not in self.names:
            raise PoolNotFound(f"no pool is named {name!r}")

    async def create(self, request: PoolCreate) -> PoolInfo:
        self.called("create", request)
        if request.name in self.names:
            raise PoolExists(f"pool {request.name!r} exists")
        self.names.add(request.name)
        return pool_info(request.name)

    async def list(self, cursor: str | None, limit: int) -> PoolList:
        self.called("list", (cursor, limit))
        return PoolList(data=[pool_info(name) for name in sorted(self.names)])

    async def get(self, name: str) -> PoolInfo:
        self.called("get", name)
        self.require(name)
        return pool_info(name)

    async def patch(self, name: str, request: PoolPatch) -> PoolInfo:
        self.called("patch", request)
        self.require(name)
        return pool_info(name)

    async def delete(self, name: str) -> None:
        self.called("delete", name)
        self.require(name)
        self.names.remove(name)

    async def stats(self, name: str, *, health: bool) -> PoolStats:
        self.called("stats", (name, health))
        self.require(name)
        return PoolStats(
            name=name,
            version=0,
            indexed_version=0,
            examples=0,
            pending=0,
            truncated=0,
            by_status={},
            by_split={},
            by_label={},
            dimension=None,
            token_vectors=0,
            segments=0,
            disk_bytes=0,
            vector_index="exact",
        )


class StubTuning(Failing):
    async def start(self, pool: str, request: TuneRequest) -> JobInfo:
        self.called("start", (pool, request))
        return job_info("j2", "tune", JobState.QUEUED)


class StubDifficulty(Failing):
    async def start(self, pool: str, request: DifficultyRequest) -> JobInfo:
        self.called("start", (pool, request))
        return job_info("j3", "difficulty", JobState.QUEUED)


@dataclass(frozen=True)
class Upserted:
    """One call of ``upsert``, as it arrived."""

    rows: list[tuple[int, Any]]
    rejected: list[RejectedRow]
    upto_line: int
    wait: str
    existing: str = "update"


class StubExamples(Failing):
    def __init__(self, pools: StubPools) -> None:
        super().__init__()
        self._pools = pools
        self.batches: list[Upserted] = []
        self.ids: list[str] = []

    async def upsert(
        self,
        pool: str,
        rows: Sequence[tuple[int, Any]],
        *,
        rejected: Sequence[RejectedRow],
        upto_line: int,
        wait: str,
        existing: str = "update",
    ) -> UpsertReply:
        self.called("upsert", pool)
        self._pools.require(pool)
        self.batches.append(Upserted(list(rows), list(rejected), upto_line, wait, existing))
        refused, ids = list(rejected), []
        for line, row in rows:
            try:
                ids.append(ExampleIn.model_validate(row).id or f"row-{line}")
            except ValueError as error:
                found = field_errors(error, ExampleIn, row)[0]  # type: ignore[arg-type]  # pydantic's is one
                refused.append(
                    RejectedRow(line=line, pointer=found.pointer, code=found.code, message=found.message)
                )
        self.ids += ids
        return UpsertReply(
            accepted=len(ids),
            created=len(ids),
            updated=0,
            unchanged=0,
            rejected=refused,
            ids=ids,
            version=len(self.batches),
            indexed=wait == "indexed",
            upto_line=upto_line,
        )

    async def list(self, pool: str, *, filter: Any, cursor: str | None, limit: int) -> ExampleList:  # noqa: A002
        self.called("list", {"filter": filter, "cursor": cursor, "limit": limit})
        return ExampleList(data=[example_info("a")], next_cursor="next")

    async def get(self, pool: str, example_id: str) -> ExampleInfo:
        self.called("get", example_id)
        if example_id == "absent":
            raise ExampleNotFound("no example 'absent'")
        return example_info(example_id)

    async def patch(self, pool: str, example_id: str, request: ExamplePatch) -> ExampleInfo:
        self.called("patch", request)
        return example_info(example_id)

    async def delete(self, pool: str, request: DeleteRequest) -> DeleteReply:
        self.called("delete", request)
        ids = [one for one in request.ids or () if one != "absent"]
        return DeleteReply(deleted=len(ids), ids=ids, version=2)


class StubAnnotations(Failing):
    async def annotate(self, pool: str, request: AnnotationRequest, wait: str) -> AnnotationReply:
        self.called("annotate", (pool, request, wait))
        n = len(request.answers)
        return AnnotationReply(approved=n, replaced=0, unchanged=0, version=2, indexed=wait == "indexed")


class StubSelections(Failing):
    def __init__(self, k: int = 2) -> None:
        super().__init__()
        self.reply = selection_reply(k)

    async def select(self, pool: str, request: SelectRequest) -> SelectionReply:
        self.called("select", request)
        return self.reply

    async def select_batch(self, pool: str, request: BatchRequest) -> BatchReply:
        self.called("select_batch", request)
        return BatchReply(results=[])

    async def search(self, pool: str, request: SearchRequest) -> SearchReply:
        self.called("search", request)
        hit = Hit(id="a", similarity=0.5, inputs="a", outputs=None, metadata={})
        return SearchReply(pool=pool, pool_version=1, hits=[hit], timing_ms={})

    async def render(self, pool: str, request: RenderRequest) -> RenderReply:
        self.called("render", request)
        return RenderReply(selection=self.reply, text="prompt", tokens=1, estimated=True)

    async def get(self, selection_id: str) -> StoredSelection:
        self.called("get", selection_id)
        return StoredSelection(
            selection_id=selection_id,
            pool="tickets",
            pool_version=1,
            created_at=NOW,
            method="fused",
            request={},
            demonstrations=[],
            query=None,
            abstained=False,
        )

    async def gaps(self, pool: str, *, below: float | None, cursor: str | None, limit: int) -> GapList:
        self.called("gaps", {"below": below, "cursor": cursor, "limit": limit})
        gap = Gap(query="a", count=2, best_similarity=0.25, first_at=NOW, last_at=NOW, selection_id="s1")
        return GapList(data=[gap], next_cursor="next", below=0.35)


class StubPlans(Failing):
    async def start(self, request: PlanRequest) -> PlanInfo:
        self.called("start", request)
        return plan_info("p1", JobState.QUEUED)

    async def list(self, pool: str | None, cursor: str | None, limit: int) -> PlanList:
        self.called("list", (pool, cursor, limit))
        return PlanList(data=[plan_info("p1", JobState.RUNNING)], next_cursor="p1")

    async def get(self, plan_id: str) -> PlanInfo:
        if plan_id == "absent":
            raise PlanNotFound("no plan 'absent'")
        return plan_info(plan_id, JobState.RUNNING)

    async def items(self, plan_id: str, cursor: str | None, limit: int) -> PlannedList:
        self.called("items", (plan_id, cursor, limit))
        item = PlannedExample(
            rank=1, id="a", gain=2.5, cost=None, stratum=None, state="unlabelled", inputs="x", metadata={}
        )
        return PlannedList(data=[item], next_cursor="1")

    async def export(self, plan_id: str, form: str, *, everything: bool) -> bytes:
        self.called("export", (plan_id, form, everything))
        return b"{}\n"

    async def cancel(self, plan_id: str) -> PlanInfo:
        return plan_info(plan_id, JobState.CANCELLED)


class StubScoring(Failing):
    async def score(self, request: ScoreRequest) -> ScoreReply:
        self.called("score", request)
        n = len(request.pairs or request.options or ())
        return ScoreReply(
            backend="stub",
            model="m",
            fingerprint="f",
            tolerance_nats=0.0,
            normalisation=request.normalisation,
            results=[ScoreItem(score=-1.0, sum_nats=-1.0)] * n,
            best=0,
        )

    async def info(self) -> ScorerInfo:
        self.called("info")
        return ScorerInfo(kind="none", state="none", detail="none is configured", required=False)


class StubJobs(Failing):
    def _info(self, job_id: str, state: JobState) -> JobInfo:
        if job_id == "absent":
            raise JobNotFound("no job 'absent'")
        return job_info(job_id, "reembed", state)

    async def list(self, pool: str | None, cursor: str | None, limit: int) -> JobList:
        self.called("list", (pool, cursor, limit))
        return JobList(data=[self._info("j1", JobState.RUNNING)])

    async def get(self, job_id: str) -> JobInfo:
        return self._info(job_id, JobState.RUNNING)

    async def cancel(self, job_id: str) -> JobInfo:
        return self._info(job_id, JobState.CANCELLED)


@dataclass(frozen=True)
class Stored:
    status_code: int
    response: Mapping[str, Any] | None


class StubIdempotency:
    """Keys in a dictionary; None stands for one that is in flight."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], tuple[str, Stored | None]] = {}

    def reserve_idempotency_key(self, scope: str, key: str, body_hash: str) -> Stored | None:
        if (scope, key) not in self.kept:
            self.kept[scope, key] = (body_hash, None)
            return None
        first_hash, stored = self.kept[scope, key]
        if first_hash != body_hash or stored is None:
            raise IdempotencyConflict("another body, or in flight")
        return stored

    def complete_idempotency_key(
        self, scope: str, key: str, status_code: int, response: Mapping[str, Any] | None
    ) -> None:
        body_hash, _ = self.kept[scope, key]
        self.kept[scope, key] = (body_hash, Stored(status_code, response))

    def release_idempotency_key(self, scope: str, key: str) -> None:
        del self.kept[scope, key]


@dataclass
class StubServices:
    pools: StubPools = field(default_factory=StubPools)
    tuning: StubTuning = field(default_factory=StubTuning)
    difficulty: StubDifficulty = field(default_factory=StubDifficulty)
    annotations: StubAnnotations = field(default_factory=StubAnnotations)
    selections: StubSelections = field(default_factory=StubSelections)
    plans: StubPlans = field(default_factory=StubPlans)
    scoring: StubScoring = field(default_factory=StubScoring)
    jobs: StubJobs = field(default_factory=StubJobs)
    prompts: Any = None
    policies: Any = None
    reports: Any = None
    evaluations: Any = None
    decisions: Any = None
    metrics: Any = None
    feedback: Any = None
    idempotency: StubIdempotency = field(default_factory=StubIdempotency)
    examples: StubExamples = field(init=False)
    events: list[str] = field(default_factory=list)
    start_error: Exception | None = None
    is_ready: bool = True

    def __post_init__(self) -> None:
        self.examples = StubExamples(self.pools)

    async def start(self) -> None:
        self.events.append("start")
        if self.start_error is not None:
            raise self.start_error

    async def close(self) -> None:
        self.events.append("close")

    async def readiness(self) -> Readiness:
        return Readiness(ready=self.is_ready, checks={"store": "ok" if self.is_ready else "locked"})
