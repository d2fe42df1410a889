"""Is the process alive, and can it answer."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

from ragstack.api.schemas import ReadinessBody, ReadinessCheck
from ragstack.api.security import sees_everything
from ragstack.api.state import State

router = APIRouter(prefix="/v1/health", tags=["health"])


class Live(BaseModel):
    """The process answers."""

    status: Literal["live"] = "live"


@router.get("/live")
def live() -> Live:
    """The process answers."""
    return Live()


@router.get(
    "/ready", response_model=ReadinessBody, responses={503: {"model": ReadinessBody, "description": "Not ready"}}
)
async def ready(request: Request, state: State) -> Response:
    """Can questions be answered: index, store, model and generator, each with what is wrong.

    Whoever watches the process may ask; details are for callers who may see the whole index.
    """
    checks = list(await state.readiness.checks())
    if state.shutdown.is_over:
        checks.append(ReadinessCheck(name="server", ok=False, detail="the server is shutting down"))
    is_ready = all(check.ok for check in checks)
    if not sees_everything(request):
        checks = [check.model_copy(update={"detail": ""}) for check in checks]
    body = ReadinessBody(status="ready" if is_ready else "not_ready", checks=checks)
    return JSONResponse(body.model_dump(), status_code=200 if is_ready else 503)
