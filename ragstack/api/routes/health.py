"""Is the process alive, and can it answer."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter(prefix="/v1/health", tags=["health"])


@router.get("/live")
def live() -> dict[str, str]:
    """The process answers."""
    return {"status": "live"}
