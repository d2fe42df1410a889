"""The application: routes, errors and what they share."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.to_thread
from anyio import CapacityLimiter
from fastapi import FastAPI

from ragstack.api.errors import install_error_handlers
from ragstack.api.openapi import install_openapi
from ragstack.api.request_ids import RequestIds
from ragstack.api.routes import chat, citations, health, models, query
from ragstack.api.shutdown import Shutdown
from ragstack.api.state import AppState
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
        shutdown = Shutdown()
        try:
            with IssuedCitations(pipeline.state_dir) as issued:
                async with anyio.create_task_group() as background:
                    threads = CapacityLimiter(config.threads)
                    app.state.ragstack = AppState(
                        pipeline, config, threads, background, shutdown, issued, started_at=time.time()
                    )
                    try:
                        yield
                    finally:
                        shutdown.end_requests()
        finally:
            await anyio.to_thread.run_sync(pipeline.close)

    app = FastAPI(title="ragstack", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    install_error_handlers(app)
    routers = [module.router for module in (query, chat, citations, models, health)]
    for router in routers:
        app.include_router(router)
    install_openapi(app, routers)
    app.add_middleware(RequestIds)
    return app
