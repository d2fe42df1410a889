"""What every route works with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, TypeAlias

from anyio import CapacityLimiter
from anyio.abc import TaskGroup
from fastapi import Depends, Request

from ragstack.api.audit import ChainAudit
from ragstack.api.document_jobs import DocumentJobs
from ragstack.api.jobs import JobRunner
from ragstack.api.metrics import Metrics
from ragstack.api.model_server import ModelServer
from ragstack.api.readiness import Readiness
from ragstack.api.shutdown import Shutdown
from ragstack.api.tracing import Tracing
from ragstack.config.models import ServerConfig
from ragstack.ledger.issued_citations import IssuedCitations
from ragstack.pipeline import Pipeline


@dataclass(frozen=True)
class AppState:
    """One served pipeline. ``queries`` bounds how many questions are worked on at a time.

    ``threads`` does the same for shorter calls: a citation can be opened while every query waits for a language model.
    ``background`` holds what outlives its request for a moment: threads that have not noticed yet that nobody waits
    for them. ``started_at`` is in seconds since the epoch.
    """

    pipeline: Pipeline
    config: ServerConfig
    queries: CapacityLimiter
    threads: CapacityLimiter
    background: TaskGroup
    shutdown: Shutdown
    issued: IssuedCitations
    started_at: float
    jobs: JobRunner
    documents: DocumentJobs
    audit: ChainAudit | None
    readiness: Readiness
    metrics: Metrics
    tracing: Tracing
    models: ModelServer


async def state_of(request: Request) -> AppState:
    """The state of the application that serves this request. Async, for a sync dependency takes a trip to a thread."""
    state: AppState = request.app.state.ragstack
    return state


State: TypeAlias = Annotated[AppState, Depends(state_of)]
