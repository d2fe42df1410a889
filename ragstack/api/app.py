"""The application: routes, errors and what they share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio.to_thread
from anyio import CapacityLimiter
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from ragstack.api.errors import error_response
from ragstack.api.routes import health
from ragstack.api.state import AppState
from ragstack.errors import RagstackError
from ragstack.pipeline import Pipeline
from ragstack.version import __version__


def create_app(pipeline: Pipeline) -> FastAPI:
    """The application that serves ``pipeline``; it closes the pipeline when it shuts down."""
    config = pipeline.config.server

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.ragstack = AppState(pipeline, config, CapacityLimiter(config.threads))
        try:
            yield
        finally:
            await anyio.to_thread.run_sync(pipeline.close)

    app = FastAPI(title="ragstack", version=__version__, lifespan=lifespan)

    @app.exception_handler(RagstackError)
    async def on_error(request: Request, error: RagstackError) -> JSONResponse:
        return error_response(request, error)

    app.include_router(health.router)
    return app
