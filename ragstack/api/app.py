"""The application: routes, errors and what they share."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

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
from ragstack.api.metrics import Metrics
from ragstack.api.model_server import serving_models
from ragstack.api.observing import ObservingMiddleware
from ragstack.api.openapi import install_openapi
from ragstack.api.readiness import Readiness
from ragstack.api.redaction import keys_kept_out_of_logs
from ragstack.api.request_ids import RequestIds
from ragstack.api.routes import (
    chat,
    citations,
    documents,
    embeddings,
    explain,
    health,
    jobs,
    metrics,
    models,
    page,
    query,
    ranking,
    tei,
)
from ragstack.api.security import CallerCheck
from ragstack.api.shutdown import Shutdown
from ragstack.api.state import AppState
from ragstack.api.tracing import open_tracing
from ragstack.api.uploads import UploadFolder
from ragstack.ledger.issued_citations import IssuedCitations
from ragstack.pipeline import Pipeline
from ragstack.version import __version__

# Newer FastAPI writes spans and logs of its own, with paths, bodies and messages in them; ours have ids alone.
# Older ones keep the argument among their extras.
_NO_TELEMETRY: Any = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}


def require_startable(pipeline: Pipeline) -> None:
    """Raise what would stop the application's start: there it would be a traceback in the server's log.

    IndexFormatError or StoreError for files of the server that are damaged or cannot be written, InputError for a
    folder of uploads where nothing is indexed.
    """
    ChainAudit.open(pipeline.config, pipeline.state_dir)
    UploadFolder.open(pipeline.config, pipeline.state_dir)
    with IssuedCitations(pipeline.state_dir):
        pass


def create_app(pipeline: Pipeline, *, local_token: str | None = None) -> FastAPI:
    """The application that serves ``pipeline``; it closes the pipeline when it shuts down.

    ``local_token`` is the credential of commands on this machine (:mod:`ragstack.api.discovery`); None takes none.
    """
    config = pipeline.config.server
    measured, tracing = Metrics(), open_tracing(os.environ)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        shutdown, runner = Shutdown(), JobRunner(config.jobs.max_queued, config.jobs.keep)
        try:
            audit = ChainAudit.open(pipeline.config, pipeline.state_dir)
            uploads = UploadFolder.open(pipeline.config, pipeline.state_dir)
            with keys_kept_out_of_logs(), IssuedCitations(pipeline.state_dir) as issued:
                async with (
                    anyio.create_task_group() as background,
                    serving_models(pipeline, measured, tracing) as served,
                ):
                    app.state.ragstack = AppState(
                        pipeline,
                        config,
                        CapacityLimiter(config.threads),
                        CapacityLimiter(config.threads),
                        background,
                        shutdown,
                        issued,
                        started_at=time.time(),
                        jobs=runner,
                        documents=DocumentJobs(pipeline, uploads, runner),
                        audit=audit,
                        readiness=Readiness(pipeline, background),
                        metrics=measured,
                        tracing=tracing,
                        models=served,
                    )
                    try:
                        yield
                    finally:
                        shutdown.end_requests()
        finally:
            await anyio.to_thread.run_sync(runner.close)
            await anyio.to_thread.run_sync(pipeline.close)
            await anyio.to_thread.run_sync(tracing.close)

    app = FastAPI(
        title="ragstack", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None, telemetry=_NO_TELEMETRY
    )
    install_error_handlers(app)
    routers = [
        module.router
        for module in (
            query,
            explain,
            chat,
            citations,
            documents,
            jobs,
            models,
            embeddings,
            ranking,
            tei,
            health,
            metrics,
            page,
        )
    ]
    for router in routers:
        app.include_router(router)
    install_openapi(app, routers)
    callers = CallerCheck(KeyFile(pipeline.state_dir))
    if local_token is not None:
        callers.accept_local_token(local_token)
    install_guard(app, config, callers)
    app.add_middleware(RequestIds)
    app.add_middleware(ObservingMiddleware, metrics=measured, tracing=tracing)
    app.add_middleware(SecurityHeaders)  # outermost: whatever is answered carries them
    return app
