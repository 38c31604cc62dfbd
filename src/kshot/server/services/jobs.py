"""Jobs: long work with progress, cancel, and resumption after a crash."""

import asyncio
import contextlib
import shutil
import threading
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Unpack
from uuid import uuid4

from kshot.errors import Conflict, KshotError, PoolNotFound
from kshot.index.store import Store
from kshot.index.store.jobs import JobChanges
from kshot.records import Job, JobState, Pool
from kshot.schemas.operations import JobInfo, JobList
from kshot.server.logs import get_logger
from kshot.server.services.indexing import Indexer
from kshot.server.services.runtime import PoolRegistry, PoolRuntime

log = get_logger(__name__)


class _Stopping(Exception):
    """The process is shutting down; the job goes on after the next start."""


class JobRunner:
    """Claims queued jobs one at a time and runs them in a thread of its own.

    ``reembed`` builds a pool's features under new settings in a folder beside the live one, then swaps both at
    once. Its progress is the segments on disk: a restarted job embeds only what is missing.
    """

    def __init__(self, store: Store, registry: PoolRegistry, indexer: Indexer) -> None:
        self._store = store
        self._registry = registry
        self.indexer = indexer
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kshot-jobs", daemon=True)

    def start(self) -> None:
        """Put interrupted jobs back into the queue and start the thread."""
        for job in self._store.requeue_interrupted_jobs():
            log.info("job_resumed", job=job.id, kind=job.kind)
        self._wake.set()
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

    def _run(self) -> None:
        while not self._stopping.is_set():
            job = self._store.claim_job()
            if job is None:
                self._wake.wait()
                self._wake.clear()
                continue
            self._perform(job)

    def _perform(self, job: Job) -> None:
        try:
            if job.kind != "reembed":
                raise KshotError(f"no job kind is named {job.kind!r}")
            result = self._reembed(job)
        except _Stopping:
            return
        except Conflict:
            # The store refuses progress of a job that was cancelled.
            log.info("job_cancelled", job=job.id, kind=job.kind)
        except KshotError as error:
            self._finish(job, state=JobState.FAILED, error={"code": error.code, "detail": error.message})
        except Exception as error:
            log.exception("job_failed", job=job.id, kind=job.kind)
            detail = f"{type(error).__name__} while running the job; the server's log has the details"
            self._finish(job, state=JobState.FAILED, error={"code": "internal", "detail": detail})
        else:
            self._finish(job, state=JobState.SUCCEEDED, result=result)

    def _finish(self, job: Job, **changes: Unpack[JobChanges]) -> None:
        with contextlib.suppress(Conflict):  # cancelled at the last moment
            self._store.update_job(job.id, **changes)

    def _reembed(self, job: Job) -> dict[str, Any]:
        if job.pool_id is None:
            raise PoolNotFound("the job names no pool")
        record = self._store.get_pool_by_id(job.pool_id)
        old = self._registry.get(record.name)
        changed = replace(record, settings=job.params["settings"], embedder_fingerprint=None, dimension=None)
        if self._registry.folder_of(changed) == old.folder:
            # Other words for the same features, such as another path to the same model.
            old.reconfigure(self._swap(changed, old))
            return {"examples": old.index.snapshot.examples, "embedder_fingerprint": old.embedder.fingerprint}
        new = self._registry.build(changed)

        def progress(done: int, total: int) -> None:
            if self._stopping.is_set():
                raise _Stopping
            self._store.update_job(job.id, done=done, total=total, phase="embedding")

        while True:
            changes = self._store.read_changes(record.id, new.index.snapshot.version)
            self.indexer.embed_missing(new, new.index, changes, progress)
            is_last = changes.version == new.index.snapshot.version
            new.index.publish(changes)
            if is_last:
                break
        progress(new.index.snapshot.examples, new.index.snapshot.examples)
        new.record = self._swap(changed, new)
        self._registry.install(new)
        self.indexer.notify(new)
        # Requests that hold the old runtime keep its mapped files.
        shutil.rmtree(old.folder, ignore_errors=True)
        return {"examples": new.index.snapshot.examples, "embedder_fingerprint": new.embedder.fingerprint}

    def _swap(self, changed: Pool, runtime: PoolRuntime) -> Pool:
        self._store.update_pool_settings(changed.name, changed.settings)
        return self._store.set_pool_embedder(
            changed.id, runtime.embedder.fingerprint, runtime.embedder.dimension
        )


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
        """Cancel a job; one that has ended stays as it is."""
        return await asyncio.to_thread(self._cancel, job_id)

    def _list(self, pool: str | None, cursor: str | None, limit: int) -> JobList:
        pool_id = None if pool is None else self._store.get_pool(pool).id
        jobs = self._store.list_jobs(pool_id=pool_id, after=cursor, limit=limit + 1)
        id_to_name = {record.id: record.name for record in self._store.list_pools()}
        page = [_to_info(job, id_to_name) for job in jobs[:limit]]
        return JobList(data=page, next_cursor=page[-1].id if len(jobs) > limit else None)

    def _info(self, job: Job) -> JobInfo:
        return _to_info(job, {record.id: record.name for record in self._store.list_pools()})

    def _cancel(self, job_id: str) -> JobInfo:
        job = self._store.get_job(job_id)
        if not job.state.is_final:
            with contextlib.suppress(Conflict):  # it ended in between
                self._store.update_job(job_id, state=JobState.CANCELLED)
        return self._info(self._store.get_job(job_id))


def _to_info(job: Job, id_to_name: Mapping[int, str]) -> JobInfo:
    return JobInfo(
        id=job.id,
        kind=job.kind,
        pool=None if job.pool_id is None else id_to_name.get(job.pool_id),
        state=job.state,
        done=job.done,
        total=job.total,
        phase=job.phase,
        result=None if job.result is None else dict(job.result),
        error=None if job.error is None else dict(job.error),
        created_at=job.created_at,
        updated_at=job.updated_at,
    )
