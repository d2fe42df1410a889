"""What every route works with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, TypeAlias

from anyio import CapacityLimiter
from fastapi import Depends, Request

from ragstack.api.metrics import Metrics
from ragstack.api.model_server import ModelServer
from ragstack.api.tracing import Tracing
from ragstack.config.models import ServerConfig
from ragstack.pipeline import Pipeline


@dataclass(frozen=True)
class AppState:
    """One served pipeline. ``threads`` bounds how many calls into it run at a time."""

    pipeline: Pipeline
    config: ServerConfig
    threads: CapacityLimiter
    metrics: Metrics
    tracing: Tracing
    models: ModelServer


def state_of(request: Request) -> AppState:
    """The state of the application that serves this request."""
    state: AppState = request.app.state.ragstack
    return state


State: TypeAlias = Annotated[AppState, Depends(state_of)]
