"""Who is calling, and what they may do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from fastapi import Request

from ragstack.filters import Filter

Scope: TypeAlias = Literal["query", "write", "admin"]
ALL_SCOPES: frozenset[Scope] = frozenset({"query", "write", "admin"})


@dataclass(frozen=True)
class Caller:
    """Who sent a request. ``filter`` is put beside that of every request and cannot be widened by one."""

    name: str
    scopes: frozenset[Scope]
    filter: Filter | None = None


ANONYMOUS = Caller("anonymous", ALL_SCOPES)


def caller_with(scope: Scope) -> Callable[[Request], Caller]:
    """A dependency: the caller of a request, who must have ``scope``."""

    def caller(request: Request) -> Caller:
        return ANONYMOUS

    return caller
