"""Is the process alive, and can it answer."""

from __future__ import annotations

from typing import Literal

import anyio
import anyio.to_thread
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

from ragstack.api.security import sees_everything
from ragstack.api.state import AppState, State
from ragstack.errors import RagstackError

router = APIRouter(prefix="/v1/health", tags=["health"])
_CHECK_TIMEOUT_S = 5.0


class Live(BaseModel):
    """The process answers."""

    status: Literal["live"] = "live"


class Check(BaseModel):
    """One thing that answering needs. ``detail`` says what is wrong, or what was found."""

    name: str
    ok: bool
    detail: str


class Readiness(BaseModel):
    """Ready when every check is ok."""

    status: Literal["ready", "not_ready"]
    checks: list[Check]


@router.get("/live")
def live() -> Live:
    """The process answers."""
    return Live()


@router.get("/ready", response_model=Readiness, responses={503: {"model": Readiness, "description": "Not ready"}})
async def ready(request: Request, state: State) -> Response:
    """Can questions be answered: index, store, model and generator, each with what is wrong.

    Whoever watches the process may ask; details are for callers who may see the whole index.
    """
    checks: list[Check] = []
    with anyio.move_on_after(_CHECK_TIMEOUT_S) as scope:
        # No thread of the pool: that all are busy is no reason to be called dead.
        checks = await anyio.to_thread.run_sync(_checks, state, abandon_on_cancel=True)
    if scope.cancelled_caught:
        checks = [Check(name="time", ok=False, detail=f"the checks did not end within {_CHECK_TIMEOUT_S:g} s")]
    if state.shutdown.is_over:
        checks.append(Check(name="server", ok=False, detail="the server is shutting down"))
    is_ready = all(check.ok for check in checks)
    if not sees_everything(request):
        checks = [check.model_copy(update={"detail": ""}) for check in checks]
    body = Readiness(status="ready" if is_ready else "not_ready", checks=checks)
    return JSONResponse(body.model_dump(), status_code=200 if is_ready else 503)


def _checks(state: AppState) -> list[Check]:
    pipeline = state.pipeline
    checks = []
    try:
        health = pipeline.shared.store.health()
        checks.append(Check(name="store", ok=True, detail=f"{health.engine} {health.version}"))
    except RagstackError as error:
        checks.append(Check(name="store", ok=False, detail=error.message))
    try:
        with pipeline.engine.reading() as (store, collection):
            checks.append(Check(name="index", ok=True, detail=f"{store.count(collection)} chunks"))
    except RagstackError as error:
        checks.append(Check(name="index", ok=False, detail=error.message))
    try:
        checks.append(Check(name="embedder", ok=True, detail=pipeline.embedder.info.name))
    except RagstackError as error:
        checks.append(Check(name="embedder", ok=False, detail=error.message))
    return checks
