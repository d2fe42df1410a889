"""The application: routes, errors and what they share."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio.to_thread
from anyio import CapacityLimiter
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from ragstack.api.errors import error_response
from ragstack.api.metrics import Metrics
from ragstack.api.model_server import serving_models
from ragstack.api.observing import ObservingMiddleware
from ragstack.api.routes import embeddings, health, metrics, ranking, tei
from ragstack.api.state import AppState
from ragstack.api.tracing import open_tracing
from ragstack.errors import RagstackError
from ragstack.pipeline import Pipeline
from ragstack.version import __version__


# Newer FastAPI writes spans and logs of its own, with paths, bodies and messages in them; ours have ids alone.
# Older ones keep the argument among their extras.
_NO_TELEMETRY: dict[str, bool] = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}


def create_app(pipeline: Pipeline) -> FastAPI:
    """The application that serves ``pipeline``; it closes the pipeline when it shuts down."""
    config = pipeline.config.server
    measured, tracing = Metrics(), open_tracing(os.environ)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            async with serving_models(pipeline, measured, tracing) as models:
                limiter = CapacityLimiter(config.threads)
                app.state.ragstack = AppState(pipeline, config, limiter, measured, tracing, models)
                yield
        finally:
            await anyio.to_thread.run_sync(pipeline.close)
            await anyio.to_thread.run_sync(tracing.close)

    app = FastAPI(title="ragstack", version=__version__, lifespan=lifespan, telemetry=_NO_TELEMETRY)  # type: ignore[arg-type]

    @app.exception_handler(RagstackError)
    async def on_error(request: Request, error: RagstackError) -> JSONResponse:
        request.state.error_type = type(error).__name__
        return error_response(request, error)

    app.include_router(health.router)
    app.include_router(embeddings.router)
    app.include_router(ranking.router)
    app.include_router(tei.router)
    app.include_router(metrics.router)
    app.add_middleware(ObservingMiddleware, metrics=measured, tracing=tracing)
    return app
