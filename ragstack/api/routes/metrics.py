"""Metrics for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Response
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from ragstack.api.errors import errors
from ragstack.api.security import QueryCaller
from ragstack.api.state import State

router = APIRouter(tags=["operation"])


@router.get(
    "/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}, **errors(401, 403, 429)}
)
@router.get("/v1/metrics", response_class=Response, include_in_schema=False)
def metrics(state: State, caller: QueryCaller) -> Response:
    """What docs/observability.md lists, in Prometheus' text format. NIM has it at ``/v1/metrics``."""
    return Response(state.metrics.exposition(), media_type=CONTENT_TYPE_LATEST)
