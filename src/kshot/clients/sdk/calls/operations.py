"""Calls about jobs and about the server itself."""

from kshot.clients.sdk.calls.base import Call, Pages, listing, path_of, reader
from kshot.schemas.operations import JobInfo, JobList, Readiness, Version


def get_job(job_id: str) -> Call[JobInfo]:
    """Return how far a job is; `JobNotFound` if there is none of that id."""
    return Call(method="GET", path=path_of("jobs", job_id), read=reader(JobInfo))


def list_jobs(pool: str | None = None) -> Pages[JobInfo]:
    """Iterate over jobs, newest first, fetching pages as they are needed.

    Parameters
    ----------
    pool : str, optional
        Only the jobs of this pool.

    Raises
    ------
    PoolNotFound
        On the first step of the iteration.
    """
    return listing(JobList, path_of("jobs"), pool=pool)


def cancel_job(job_id: str) -> Call[JobInfo]:
    """Ask a job to stop; one that ended already stays as it is.

    Raises
    ------
    JobNotFound
    """
    return Call(method="DELETE", path=path_of("jobs", job_id), read=reader(JobInfo))


def version() -> Call[Version]:
    """Return the versions of server and Python, and the methods there are."""
    return Call(method="GET", path="/version", read=reader(Version))


def ready() -> Call[Readiness]:
    """Say whether the server can do its work; a server that is not ready is an answer, not an error."""
    return Call(method="GET", path="/readyz", accepts=frozenset({503}), read=reader(Readiness))
