"""Jobs: long work, how far it is, and how to stop it."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from kshot.errors import JobNotFound, PoolNotFound
from kshot.schemas.operations import JobInfo, JobList
from kshot.server.bodies import reply
from kshot.server.openapi import contract
from kshot.server.routes.common import PageParameters, services

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


class JobParameters(PageParameters):
    """Query parameters of a listing of jobs."""

    pool: str | None = Field(default=None, max_length=100, description="only this pool's jobs")


@router.get("", response_model=JobList, **contract(problems=(PoolNotFound,)))
async def list_jobs(request: Request, parameters: Annotated[JobParameters, Query()]) -> Response:
    """List jobs, newest first."""
    page = await services(request).jobs.list(parameters.pool, parameters.cursor, parameters.limit)
    return reply(page)


@router.get("/{job_id}", response_model=JobInfo, **contract(problems=(JobNotFound,)))
async def get_job(job_id: str, request: Request) -> Response:
    """Tell how far a job is, or how it ended."""
    return reply(await services(request).jobs.get(job_id))


@router.delete("/{job_id}", response_model=JobInfo, **contract(problems=(JobNotFound,)))
async def cancel_job(job_id: str, request: Request) -> Response:
    """Ask a job to stop; it does so at its next safe point."""
    return reply(await services(request).jobs.cancel(job_id))
