"""Jobs: what is queued, running and done; starting and stopping them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field

from ragstack.api.document_jobs import owner_of
from ragstack.api.errors import errors
from ragstack.api.jobs import Job
from ragstack.api.security import AdminCaller, Caller, WriteCaller
from ragstack.api.state import State

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


class JobProgressBody(BaseModel):
    """How far a job is. Tokens are the embedder's; ``tokens_per_s`` is over the embedding so far."""

    files_done: int
    files_total: int
    bytes_done: int
    bytes_total: int
    chunks: int
    tokens: int
    tokens_per_s: float
    notes: list[str]


class JobErrorBody(BaseModel):
    """Why a job failed."""

    type: str
    message: str
    hint: str


class JobBody(BaseModel):
    """One job. ``report`` is there when it is done, ``error`` when it failed."""

    job_id: str
    kind: Literal["index", "upload", "delete"]
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    cancel_requested: bool
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    progress: JobProgressBody
    report: dict[str, Any] | None
    error: JobErrorBody | None


class JobList(BaseModel):
    """The jobs that are remembered, newest first."""

    jobs: list[JobBody]


class JobStarted(BaseModel):
    """A job was put into the queue."""

    job_id: str


class IndexJobRequest(BaseModel):
    """Bring the index in line with paths on the server's machine; without any, with everything indexed before."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"kind": "index", "paths": ["/srv/docs"]}]}
    )

    kind: Literal["index"]
    paths: list[Annotated[str, Field(min_length=1)]] = Field(default=[], max_length=10_000)
    prune: bool = False
    rebuild: bool = False


class DeleteJobRequest(BaseModel):
    """Erase sources by id, path or folder, as `ragstack rm` does; files are not touched."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["delete"]
    sources: list[Annotated[str, Field(min_length=1)]] = Field(min_length=1, max_length=10_000)


JobId = Annotated[str, Path(description="As the request that began the job returned it.", max_length=64)]


@router.get("", response_model=JobList, responses=errors(401, 403, 429))
async def list_jobs(state: State, caller: WriteCaller) -> dict[str, Any]:
    """The caller's own jobs; all jobs for the scope admin. A server that restarts has forgotten them."""
    return {"jobs": [job.to_json() for job in state.jobs.jobs(_whose(caller))]}


@router.post("", status_code=202, response_model=JobStarted, responses=errors(401, 403, 413, 422, 429))
async def start_job(
    request: Annotated[IndexJobRequest | DeleteJobRequest, Field(discriminator="kind")],
    state: State,
    caller: AdminCaller,
) -> dict[str, str]:
    """Index or erase paths of the server's machine; needs the scope admin."""
    if isinstance(request, IndexJobRequest):
        job = state.documents.index(caller, request.paths, prune=request.prune, rebuild=request.rebuild)
    else:
        job = state.documents.erase_sources(caller, request.sources)
    return {"job_id": job.job_id}


@router.get("/{job_id}", response_model=JobBody, responses=errors(401, 403, 404, 422, 429))
async def get_job(job_id: JobId, state: State, caller: WriteCaller) -> dict[str, Any]:
    """State, progress and outcome of a job."""
    return state.jobs.get(job_id, _whose(caller)).to_json()


@router.delete("/{job_id}", response_model=JobBody, responses=errors(401, 403, 404, 409, 422, 429))
async def cancel_job(job_id: JobId, state: State, caller: WriteCaller) -> dict[str, Any]:
    """Stop a job: one that waits at once, one that runs at its next consistent point. An ended one stays as it is."""
    job: Job = state.jobs.cancel(job_id, _whose(caller))
    return job.to_json()


def _whose(caller: Caller) -> str | None:
    """None for who may see every job."""
    return None if caller.may("admin") else owner_of(caller)
