"""The application: routes, errors and what they share."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.to_thread
from anyio import CapacityLimiter
from fastapi import FastAPI

from ragstack.api.audit import ChainAudit
from ragstack.api.document_jobs import DocumentJobs
from ragstack.api.errors import install_error_handlers
from ragstack.api.guard import SecurityHeaders, install_guard
from ragstack.api.jobs import JobRunner
from ragstack.api.keys import KeyFile
from ragstack.api.openapi import install_openapi
from ragstack.api.redaction import keys_kept_out_of_logs
from ragstack.api.request_ids import RequestIds
from ragstack.api.routes import chat, citations, documents, health, jobs, models, page, query
from ragstack.api.security import CallerCheck
from ragstack.api.shutdown import Shutdown
from ragstack.api.state import AppState
from ragstack.api.uploads import UploadFolder
from ragstack.ledger.issued_citations import IssuedCitations
from ragstack.pipeline import Pipeline
from ragstack.version import __version__


def create_app(pipeline: Pipeline, *, local_token: str | None = None) -> FastAPI:
    """The application that serves ``pipeline``; it closes the pipeline when it shuts down.

    ``local_token`` is the credential of commands on this machine (:mod:`ragstack.api.discovery`); None takes none.
    """
    config = pipeline.config.server

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        shutdown, runner = Shutdown(), JobRunner(config.jobs.max_queued, config.jobs.keep)
        try:
            audit = ChainAudit.open(pipeline.config, pipeline.state_dir)
            uploads = UploadFolder.open(pipeline.config, pipeline.state_dir)
            with keys_kept_out_of_logs(), IssuedCitations(pipeline.state_dir) as issued:
                async with anyio.create_task_group() as background:
                    app.state.ragstack = AppState(
                        pipeline,
                        config,
                        CapacityLimiter(config.threads),
                        background,
                        shutdown,
                        issued,
                        started_at=time.time(),
                        jobs=runner,
                        documents=DocumentJobs(pipeline, uploads, runner),
                        audit=audit,
                    )
                    try:
                        yield
                    finally:
                        shutdown.end_requests()
        finally:
            await anyio.to_thread.run_sync(runner.close)
            await anyio.to_thread.run_sync(pipeline.close)

    app = FastAPI(title="ragstack", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    install_error_handlers(app)
    routers = [module.router for module in (query, chat, citations, documents, jobs, models, health, page)]
    for router in routers:
        app.include_router(router)
    install_openapi(app, routers)
    callers = CallerCheck(KeyFile(pipeline.state_dir))
    if local_token is not None:
        callers.accept_local_token(local_token)
    install_guard(app, config, callers)
    app.add_middleware(RequestIds)
    app.add_middleware(SecurityHeaders)  # outermost: whatever is answered carries them
    return app
