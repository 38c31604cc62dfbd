"""Plans for the routes: ask for one, follow it, read it."""

import asyncio
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Literal

from kshot.errors import (
    Conflict,
    DimensionMismatch,
    FieldError,
    InvalidInput,
    JobNotFound,
    PlanNotFound,
)
from kshot.index.store import Store
from kshot.labelling import Task, tasks_file
from kshot.records import Example, Job, PlanItem, Status, content_hash
from kshot.schemas.gaps import Gap
from kshot.schemas.plans import PlanInfo, PlanList, PlannedExample, PlannedList, PlanRequest, PlanResult
from kshot.server.services.acceptance import new_example
from kshot.server.services.examples import ExampleService
from kshot.server.services.gaps import iterate_gaps
from kshot.server.services.jobs import PLAN, JobRunner, JobService
from kshot.server.services.planning.gathering import task_of
from kshot.server.services.planning.work import planner_of
from kshot.server.services.registry import PoolRegistry
from kshot.server.services.runtime import PoolRuntime
from kshot.server.services.scoring.service import ScoringService
from kshot.server.validation import refusal

MOST_CHOICES = 500
"""Labels that an annotator is given to choose from."""
_PAGE = 500
GAP_SOURCE = "coverage_gap"
"""``metadata.source`` of an example that was a query to which nothing came close."""


class PlanService:
    """The routes' view of plans. A plan is a job; what it proposes is kept beside it."""

    def __init__(
        self,
        store: Store,
        registry: PoolRegistry,
        runner: JobRunner,
        jobs: JobService,
        examples: ExampleService,
        scoring: ScoringService,
    ) -> None:
        self._store = store
        self._registry = registry
        self._runner = runner
        self._jobs = jobs
        self._examples = examples
        self._scoring = scoring

    async def start(self, request: PlanRequest) -> PlanInfo:
        """Store the examples that come with a request and queue a job that plans."""
        runtime = self._registry.get(request.pool)
        runtime.check_embedder()
        planner_of(request)
        if request.confidence is not None:
            self._scoring.require()
        rows = await asyncio.to_thread(self._rows, runtime, request)
        if rows:
            await self._examples.upsert(
                request.pool,
                list(enumerate(rows, start=1)),
                rejected=(),
                upto_line=len(rows),
                wait="none",
                # A query or text that comes again must not take the outputs of the example that it became.
                existing="keep",
            )
        return await asyncio.to_thread(self._start, runtime, request)

    async def list(self, pool: str | None, cursor: str | None, limit: int) -> PlanList:
        """Return a page of plans, newest first."""
        return await asyncio.to_thread(self._list, pool, cursor, limit)

    async def get(self, plan_id: str) -> PlanInfo:
        """Return one plan."""
        return await asyncio.to_thread(lambda: self._info(self._plan(plan_id)))

    async def items(self, plan_id: str, cursor: str | None, limit: int) -> PlannedList:
        """Return a page of what a plan proposes; the cursor is the last rank seen."""
        return await asyncio.to_thread(self._items, plan_id, cursor, limit)

    async def export(self, plan_id: str, form: str, *, everything: bool) -> bytes:
        """Write what a plan proposes as a labelling tool imports it.

        Parameters
        ----------
        plan_id : str
        form : str
            A name of `kshot.labelling.FORMATS`.
        everything : bool
            Also what is labelled or retired since.
        """
        return await asyncio.to_thread(self._export, plan_id, form, everything)

    async def cancel(self, plan_id: str) -> PlanInfo:
        """Stop a plan that is not made yet; any other stays as it is."""
        await asyncio.to_thread(self._plan, plan_id)
        await self._jobs.cancel(plan_id)
        return await self.get(plan_id)

    def _rows(self, runtime: PoolRuntime, request: PlanRequest) -> Sequence[Any]:
        """Return the examples to store, all of which can be stored.

        Raises
        ------
        InvalidInput, DimensionMismatch
            One of them cannot; nothing was stored.
        """
        errors: list[FieldError] = []
        for place, value in enumerate(request.examples):
            try:
                new_example(runtime, value)
            except (InvalidInput, DimensionMismatch) as error:
                errors.extend(
                    FieldError(f"/examples/{place}{one.pointer}", one.message, one.code)
                    for one in error.errors
                )
        if errors:
            raise refusal(errors[:100])
        return [*request.examples, *self._gaps(runtime, request.gaps)]

    def _gaps(self, runtime: PoolRuntime, most: int) -> Sequence[Any]:
        if not most:
            return []
        if runtime.settings.embedder.type == "external":
            message = (
                "received a number above 0, allowed 0: queries of a pool with external vectors have none"
            )
            raise refusal([FieldError("/gaps", message)])
        found = (_gap_row(gap) for gap in iterate_gaps(self._store, runtime))
        return list(islice((row for row in found if row is not None), most))

    def _start(self, runtime: PoolRuntime, request: PlanRequest) -> PlanInfo:
        record = self._store.get_pool_by_id(runtime.record.id)
        snapshot = runtime.index.snapshot
        if snapshot.version >= record.version:
            # Refused at once rather than by a job that fails.
            task_of(snapshot, request, planner_of(request)[2])
        params = {
            "request": request.model_dump(mode="json", by_alias=True, exclude={"examples"}),
            "version": record.version,
        }
        return self._info(self._runner.submit(PLAN, record.id, params))

    def _list(self, pool: str | None, cursor: str | None, limit: int) -> PlanList:
        pool_id = None if pool is None else self._store.get_pool(pool).id
        if cursor is not None:
            self._plan(cursor)
        jobs = self._store.list_jobs(pool_id=pool_id, kind=PLAN, after=cursor, limit=limit + 1)
        id_to_name = self._id_to_name()
        page = [self._told(job, id_to_name) for job in jobs[:limit]]
        return PlanList(data=page, next_cursor=page[-1].id if len(jobs) > limit else None)

    def _items(self, plan_id: str, cursor: str | None, limit: int) -> PlannedList:
        job = self.finished(plan_id)
        after = _rank(cursor)
        found = self._store.list_plan_items(plan_id, after=after, limit=limit + 1)
        page = found[:limit]
        id_to_example: Mapping[str, Example] = {}
        if job.pool_id is not None:
            id_to_example = self._store.get_examples_by_id(job.pool_id, [item.example_id for item in page])
        return PlannedList(
            data=[_planned(item, id_to_example.get(item.example_id)) for item in page],
            next_cursor=str(page[-1].rank) if len(found) > limit else None,
        )

    def _export(self, plan_id: str, form: str, everything: bool) -> bytes:  # noqa: FBT001  (in a thread)
        job = self.finished(plan_id)
        info = self._info(job)
        tasks: list[Task] = []
        cursor: str | None = None
        while True:
            page = self._items(plan_id, cursor, _PAGE)
            tasks += [
                _task(item, info)
                for item in page.data
                if item.state == "unlabelled" or (everything and item.state != "deleted")
            ]
            cursor = page.next_cursor
            if cursor is None:
                return tasks_file(form, tasks, labels=self._labels(info.pool))

    def _labels(self, pool: str | None) -> Sequence[str]:
        """Return the pool's labels, the most frequent first; none if there are too many to choose from."""
        runtime = None if pool is None else self._registry.find(pool)
        if runtime is None:
            return []
        snapshot = runtime.index.snapshot
        column = snapshot.field_to_column.get("label")
        labels = [] if column is None else list(column.counts(snapshot.live))
        return labels if len(labels) <= MOST_CHOICES else []

    def finished(self, plan_id: str) -> Job:
        """Return a plan that is made.

        Raises
        ------
        PlanNotFound
            No plan has that id.
        Conflict
            It is not made yet, or never will be.
        """
        job = self._plan(plan_id)
        if job.result is None:
            raise Conflict(f"plan {plan_id!r} is {job.state}; it proposes something once it has succeeded")
        return job

    def _plan(self, plan_id: str) -> Job:
        try:
            job = self._store.get_job(plan_id)
        except JobNotFound:
            job = None
        if job is None or job.kind != PLAN:
            raise PlanNotFound(f"no plan has the id {plan_id!r}")
        return job

    def _info(self, job: Job) -> PlanInfo:
        return self._told(job, self._id_to_name())

    def _id_to_name(self) -> Mapping[int, str]:
        return {record.id: record.name for record in self._store.list_pools()}

    def _told(self, job: Job, id_to_name: Mapping[int, str]) -> PlanInfo:
        return PlanInfo(
            id=job.id,
            pool=None if job.pool_id is None else id_to_name.get(job.pool_id),
            state=job.state,
            phase=job.phase,
            done=job.done,
            total=job.total,
            eta_s=self._runner.eta_s(job),
            request=dict(job.params["request"]),
            result=None if job.result is None else PlanResult.model_validate(job.result),
            error=None if job.error is None else dict(job.error),
            created_at=job.created_at,
            updated_at=job.updated_at,
        )


def _gap_row(gap: Gap) -> dict[str, Any] | None:
    """Return a query as a draft; None where the pool keeps no queries."""
    if gap.query is None:
        return None
    return {
        "id": f"gap-{content_hash(gap.query, None)}",
        "inputs": gap.query,
        "metadata": {
            "source": GAP_SOURCE,
            "queries": gap.count,
            "best_similarity": round(gap.best_similarity, 6),
        },
    }


def _task(item: PlannedExample, plan: PlanInfo) -> Task:
    assert item.inputs is not None
    return Task(
        id=item.id,
        inputs=item.inputs,
        metadata=item.metadata,
        rank=item.rank,
        gain=item.gain,
        plan_id=plan.id,
        pool=plan.pool,
    )


def _planned(item: PlanItem, example: Example | None) -> PlannedExample:
    state: Literal["unlabelled", "labelled", "retired", "deleted"]
    if example is None:
        state = "deleted"
    elif example.status is Status.RETIRED:
        state = "retired"
    else:
        state = "unlabelled" if example.outputs is None else "labelled"
    return PlannedExample(
        rank=item.rank,
        id=item.example_id,
        gain=item.gain,
        cost=item.cost,
        stratum=item.stratum,
        layer=item.layer,
        state=state,
        inputs=None if example is None else example.inputs,
        metadata={} if example is None else dict(example.metadata),
    )


def _rank(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 10):
        message = f"received {cursor[:40]!r}, allowed a `next_cursor` of this server"
        raise refusal([FieldError("/cursor", message)])
    return int(cursor)
