"""The application: routes, errors and what they share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

import anyio.to_thread
from anyio import CapacityLimiter
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from ragstack.api.audit import ChainAudit
from ragstack.api.document_jobs import DocumentJobs
from ragstack.api.errors import error_response
from ragstack.api.guard import install_guard
from ragstack.api.jobs import JobRunner
from ragstack.api.keys import KeyFile
from ragstack.api.redaction import keys_kept_out_of_logs
from ragstack.api.routes import documents, health
from ragstack.api.routes import jobs as jobs_routes
from ragstack.api.security import CallerCheck
from ragstack.api.state import AppState
from ragstack.api.uploads import UploadFolder
from ragstack.errors import RagstackError
from ragstack.pipeline import Pipeline
from ragstack.version import __version__


def create_app(pipeline: Pipeline, callers: CallerCheck | None = None) -> FastAPI:
    """The application that serves ``pipeline``; it closes the pipeline when it shuts down.

    ``callers`` is given where a caller without a key of the key file is to be let in.
    """
    config = pipeline.config.server

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with ExitStack() as stack:
            stack.enter_context(keys_kept_out_of_logs())
            stack.callback(pipeline.close)
            audit = ChainAudit.open(pipeline.config, pipeline.state_dir)
            folder = UploadFolder.open(pipeline.config, pipeline.state_dir)
            jobs = JobRunner(config.jobs.max_queued, config.jobs.keep)
            stack.callback(jobs.close)
            threads = CapacityLimiter(config.threads)
            app.state.ragstack = AppState(pipeline, config, threads, jobs, DocumentJobs(pipeline, folder, jobs), audit)
            closing = stack.pop_all()
        try:
            yield
        finally:
            await anyio.to_thread.run_sync(closing.close)

    # FastAPI's own pages of documentation load scripts from other sites.
    app = FastAPI(title="ragstack", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)

    @app.exception_handler(RagstackError)
    async def on_error(request: Request, error: RagstackError) -> JSONResponse:
        return error_response(request, error)

    app.include_router(health.router)
    app.include_router(documents.router)
    app.include_router(jobs_routes.router)
    install_guard(app, config, callers or CallerCheck(KeyFile(pipeline.state_dir)))
    return app
