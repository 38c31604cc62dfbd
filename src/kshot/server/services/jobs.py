"""Jobs: long work with progress, cancel, and resumption after a crash."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias, Unpack
from uuid import uuid4

from kshot.errors import Conflict, InvalidInput, KshotError, PoolNotFound
from kshot.index.store import Store
from kshot.index.store.jobs import JobChanges
from kshot.records import Job, JobState
from kshot.schemas.operations import JobInfo, JobList
from kshot.server.logs import get_logger
from kshot.server.services.indexing import Stopped
from kshot.server.services.progress import Progress
from kshot.server.services.registry import PoolRegistry

log = get_logger(__name__)


REEMBED = "reembed"
TUNE = "tune"
PLAN = "plan"
DIFFICULTY = "difficulty"
SWITCHING = "switching"
"""The phase in which a job can no longer be cancelled."""
_PAUSE_S = 5.0

Work: TypeAlias = Callable[[str, int, Mapping[str, Any], Progress], dict[str, Any]]
"""Does a job, given its id, its pool's number and its parameters; returns the job's result."""


@dataclass(frozen=True, slots=True)
class _Phase:
    """When the running job began its present phase."""

    job_id: str
    name: str
    started_s: float
    done: int

    def eta_s(self, done: int, total: int) -> float | None:
        """Return the seconds until the phase ends if it goes on as fast as so far; None if nobody knows."""
        fresh = done - self.done
        passed_s = time.monotonic() - self.started_s
        return None if fresh <= 0 else round(passed_s * max(total - done, 0) / fresh, 1)


class _Cancelled(Exception):
    """The store refuses the job's progress, since it was cancelled."""


class JobRunner:
    """Claims queued jobs one at a time and runs them in a thread of its own.

    A job that was cut short is done again: of ``reembed`` what is missing, as the segments on disk are its
    progress; of other kinds everything.
    """

    def __init__(self, store: Store, registry: PoolRegistry) -> None:
        self._store = store
        self._registry = registry
        self._kind_to_work: Mapping[str, Work] = {}
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._phase: _Phase | None = None
        self._thread = threading.Thread(target=self._run, name="kshot-jobs", daemon=True)

    def start(self, kind_to_work: Mapping[str, Work]) -> None:
        """Put interrupted jobs back into the queue, clean up after those that ended, and start the thread."""
        self._kind_to_work = kind_to_work
        for job in self._store.requeue_interrupted_jobs():
            log.info("job_resumed", job=job.id, kind=job.kind)
        for runtime in self._registry.all():
            if self.unfinished(runtime.record.id, REEMBED) is None:
                self._registry.remove_stale_files(runtime.record.id)
        self._thread.start()

    def close(self) -> None:
        """Stop at the next chunk; the job at hand is resumed by the next start."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def submit(self, kind: str, pool_id: int | None, params: dict[str, Any]) -> Job:
        """Queue a job."""
        now = datetime.now(UTC)
        job = self._store.add_job(
            Job(
                id=str(uuid4()),
                kind=kind,
                pool_id=pool_id,
                params=params,
                state=JobState.QUEUED,
                done=0,
                total=None,
                phase=None,
                result=None,
                error=None,
                created_at=now,
                updated_at=now,
            )
        )
        self._wake.set()
        return job

    def unfinished(self, pool_id: int, kind: str | None = None) -> Job | None:
        """Return a job of the pool, of a kind if one is given, that is queued or running, if there is one."""
        for state in (JobState.RUNNING, JobState.QUEUED):
            for job in self._store.list_jobs(pool_id=pool_id, kind=kind, state=state, limit=1):
                return job
        return None

    def eta_s(self, job: Job) -> float | None:
        """Return the seconds that a job's present phase may still take; None if that cannot be told."""
        phase = self._phase
        if phase is None or job.total is None or job.state is not JobState.RUNNING:
            return None
        if (phase.job_id, phase.name) != (job.id, job.phase):
            return None
        return phase.eta_s(job.done, job.total)

    def cancel_all(self, pool_id: int) -> None:
        """Cancel the jobs of a pool that is about to be deleted."""
        while (job := self.unfinished(pool_id)) is not None:
            with contextlib.suppress(Conflict):  # it ended in between
                self._store.update_job(job.id, state=JobState.CANCELLED)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                job = self._store.claim_job()
                if job is not None:
                    self._perform(job)
                    continue
            except Exception:
                # The store does not answer; jobs are as durable as it is.
                log.exception("jobs_paused")
                self._stopping.wait(_PAUSE_S)
                continue
            self._wake.wait()
            self._wake.clear()

    def _perform(self, job: Job) -> None:
        try:
            result = self._work(job)
        except Stopped:
            return
        except _Cancelled:
            log.info("job_cancelled", job=job.id, kind=job.kind)
            if job.pool_id is not None and job.kind == REEMBED:
                self._clean_up(job.pool_id)
        except KshotError as error:
            self._finish(job, state=JobState.FAILED, error={"code": error.code, "detail": error.message})
            if isinstance(error, PoolNotFound) and job.pool_id is not None:
                self._clean_up(job.pool_id)
        except Exception as error:
            log.exception("job_failed", job=job.id, kind=job.kind)
            detail = f"{type(error).__name__} while running the job; the server's log has the details"
            self._finish(job, state=JobState.FAILED, error={"code": "internal", "detail": detail})
        else:
            self._finish(job, state=JobState.SUCCEEDED, result=result)

    def _work(self, job: Job) -> dict[str, Any]:
        work = self._kind_to_work.get(job.kind)
        if work is None or job.pool_id is None:
            raise InvalidInput(f"a job of kind {job.kind!r} for pool {job.pool_id} cannot be run")

        def progress(done: int, total: int, phase: str) -> None:
            if self._stopping.is_set():
                raise Stopped
            if self._phase is None or (self._phase.job_id, self._phase.name) != (job.id, phase):
                self._phase = _Phase(job.id, phase, time.monotonic(), done)
            try:
                self._store.update_job(job.id, done=done, total=total, phase=phase)
            except Conflict:
                raise _Cancelled from None

        return work(job.id, job.pool_id, job.params, progress)

    def _finish(self, job: Job, **changes: Unpack[JobChanges]) -> None:
        with contextlib.suppress(Conflict):  # cancelled at the last moment
            self._store.update_job(job.id, **changes)

    def _clean_up(self, pool_id: int) -> None:
        """Delete the features of a cancelled job; all of them if the pool is gone, too."""
        try:
            self._store.get_pool_by_id(pool_id)
        except PoolNotFound:
            self._registry.remove_files(pool_id)
        else:
            self._registry.remove_stale_files(pool_id)


class JobService:
    """The routes' view of jobs."""

    def __init__(self, store: Store, runner: JobRunner) -> None:
        self._store = store
        self._runner = runner

    async def list(self, pool: str | None, cursor: str | None, limit: int) -> JobList:
        """Return a page of jobs, newest first."""
        return await asyncio.to_thread(self._list, pool, cursor, limit)

    async def get(self, job_id: str) -> JobInfo:
        """Return one job."""
        return await asyncio.to_thread(lambda: self._info(self._store.get_job(job_id)))

    async def cancel(self, job_id: str) -> JobInfo:
        """Cancel a job; one that has ended, or is about to, stays as it is."""
        return await asyncio.to_thread(self._cancel, job_id)

    def _list(self, pool: str | None, cursor: str | None, limit: int) -> JobList:
        pool_id = None if pool is None else self._store.get_pool(pool).id
        jobs = self._store.list_jobs(pool_id=pool_id, after=cursor, limit=limit + 1)
        id_to_name = {record.id: record.name for record in self._store.list_pools()}
        page = [to_info(job, id_to_name, self._runner.eta_s(job)) for job in jobs[:limit]]
        return JobList(data=page, next_cursor=page[-1].id if len(jobs) > limit else None)

    def _info(self, job: Job) -> JobInfo:
        id_to_name = {record.id: record.name for record in self._store.list_pools()}
        return to_info(job, id_to_name, self._runner.eta_s(job))

    def _cancel(self, job_id: str) -> JobInfo:
        job = self._store.get_job(job_id)
        is_switching = job.state is JobState.RUNNING and job.phase == SWITCHING
        if not (job.state.is_final or is_switching):
            with contextlib.suppress(Conflict):  # it ended in between
                self._store.update_job(job_id, state=JobState.CANCELLED)
        return self._info(self._store.get_job(job_id))


def to_info(job: Job, id_to_name: Mapping[int, str], eta_s: float | None = None) -> JobInfo:
    """Describe a job on the wire; a pool that is gone has no name any more."""
    return JobInfo(
        id=job.id,
        kind=job.kind,
        pool=None if job.pool_id is None else id_to_name.get(job.pool_id),
        state=job.state,
        done=job.done,
        total=job.total,
        phase=job.phase,
        eta_s=eta_s,
        result=None if job.result is None else dict(job.result),
        error=None if job.error is None else dict(job.error),
        created_at=job.created_at,
        updated_at=job.updated_at,
    )
