"""Jobs: long work that survives the process that does it."""

from collections.abc import Mapping
from typing import Any, TypedDict, Unpack

from sqlalchemy import ColumnElement, Connection, Row, and_, select, update

from kshot.errors import Conflict, InvalidInput, JobNotFound
from kshot.index.store.engine import Transactions
from kshot.index.store.pools import lock_pool
from kshot.index.store.schema import jobs
from kshot.index.store.scope import visible
from kshot.records import Job, JobState

_COLUMNS = tuple(column for column in jobs.c if column is not jobs.c.number)
_FIELDS = tuple(column.name for column in _COLUMNS)
_FINAL = tuple(state for state in JobState if state.is_final)


class JobChanges(TypedDict, total=False):
    """What `JobTable.update_job` may change."""

    state: JobState
    done: int
    total: int | None
    phase: str | None
    result: Mapping[str, Any] | None
    error: Mapping[str, Any] | None


class JobTable(Transactions):
    """Reads and writes jobs."""

    def add_job(self, job: Job) -> Job:
        """Store a new job and return it.

        Raises
        ------
        Conflict
            A job of that id exists.
        PoolNotFound
            The job's pool does not exist.
        """
        row = {name: getattr(job, name) for name in _FIELDS}
        with self._write() as connection:
            if job.pool_id is not None:
                lock_pool(connection, job.pool_id)
            insert = self._database.insert_if_absent(jobs).values(row).returning(*_COLUMNS)
            added = connection.execute(insert).one_or_none()
        if added is None:
            raise Conflict(f"a job with id {job.id!r} exists already")
        return _to_job(added)

    def get_job(self, job_id: str) -> Job:
        """Return a job; `JobNotFound` if there is none of that id."""
        with self._read() as connection:
            return _find(connection, job_id)

    def list_jobs(
        self,
        *,
        pool_id: int | None = None,
        kind: str | None = None,
        state: JobState | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[Job]:
        """Return a page of jobs, the youngest first.

        Parameters
        ----------
        pool_id, kind, state
            Only jobs with that value.
        after : str
            The last job id of the page before.
        limit : int
            Jobs wanted, at least 1.

        Raises
        ------
        InvalidInput
            ``limit`` is below 1.
        JobNotFound
            ``after`` names no job.
        """
        if limit < 1:
            raise InvalidInput(f"limit is {limit}, wanted at least 1")
        statement = select(*_COLUMNS).where(visible(jobs)).order_by(jobs.c.number.desc()).limit(limit)
        if pool_id is not None:
            statement = statement.where(jobs.c.pool_id == pool_id)
        if kind is not None:
            statement = statement.where(jobs.c.kind == kind)
        if state is not None:
            statement = statement.where(jobs.c.state == state)
        with self._read() as connection:
            if after is not None:
                number = connection.scalar(select(jobs.c.number).where(_named(after)))
                if number is None:
                    raise JobNotFound(f"no job has the id {after!r}")
                statement = statement.where(jobs.c.number < number)
            return [_to_job(row) for row in connection.execute(statement)]

    def update_job(self, job_id: str, **changes: Unpack[JobChanges]) -> Job:
        """Change a job that is not finished and return it.

        Raises
        ------
        Conflict
            The job has ended, so it never changes again: a worker that reports progress of a cancelled job
            learns of it here.
        JobNotFound
            No job has that id.
        """
        with self._write() as connection:
            statement = update(jobs).where(_named(job_id), jobs.c.state.not_in(_FINAL)).returning(*_COLUMNS)
            row = connection.execute(statement.values(**changes, updated_at=self._clock())).one_or_none()
            if row is None:
                raise Conflict(f"job {job_id!r} has ended: it is {_find(connection, job_id).state}")
            return _to_job(row)

    def claim_job(self) -> Job | None:
        """Set the oldest queued job running and return it, or None; no job is given to two callers."""
        oldest = select(jobs.c.number).where(jobs.c.state == JobState.QUEUED, visible(jobs))
        oldest = oldest.order_by(jobs.c.number).limit(1).with_for_update(skip_locked=True)
        with self._write() as connection:
            number = connection.scalar(oldest)
            if number is None:
                return None
            statement = update(jobs).where(jobs.c.number == number).returning(*_COLUMNS)
            values = {"state": JobState.RUNNING, "updated_at": self._clock()}
            return _to_job(connection.execute(statement.values(values)).one())

    def requeue_interrupted_jobs(self) -> list[Job]:
        """Queue the running jobs again and return them, the oldest first.

        For the process that runs jobs, at its start, when whatever is still marked running was cut short.
        """
        statement = update(jobs).where(jobs.c.state == JobState.RUNNING, visible(jobs))
        with self._write() as connection:
            rows = connection.execute(
                statement.values(state=JobState.QUEUED, updated_at=self._clock()).returning(
                    jobs.c.number, *_COLUMNS
                )
            ).all()
        return [_to_job(row[1:]) for row in sorted(rows, key=lambda row: int(row[0]))]


def _named(job_id: str) -> ColumnElement[bool]:
    return and_(jobs.c.id == job_id, visible(jobs))


def _find(connection: Connection, job_id: str) -> Job:
    row = connection.execute(select(*_COLUMNS).where(_named(job_id))).one_or_none()
    if row is None:
        raise JobNotFound(f"no job has the id {job_id!r}")
    return _to_job(row)


def _to_job(row: Row[Any] | tuple[Any, ...]) -> Job:
    values = dict(zip(_FIELDS, row, strict=True))
    return Job(**values | {"state": JobState(values["state"])})
