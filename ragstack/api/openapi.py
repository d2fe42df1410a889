"""The OpenAPI document: what FastAPI derives from the routes, less what is not true of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute

from ragstack.api.errors import errors

_DESCRIPTION = (
    "Answers from a corpus, each with citations that name bytes of one version of one file. Every response carries"
    " `x-request-id`; every error has the shape of `ErrorBody`."
)
_FASTAPIS_OWN = ("HTTPValidationError", "ValidationError")


def install_openapi(app: FastAPI, routers: Sequence[APIRouter]) -> None:
    """Correct what FastAPI says of invalid requests: it documents a shape and a status of its own."""
    derive = app.openapi
    app.description = _DESCRIPTION

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = derive()
            for router in routers:
                for route in router.routes:
                    if isinstance(route, APIRoute):
                        _correct(schema, route)
            for name in _FASTAPIS_OWN:
                schema.get("components", {}).get("schemas", {}).pop(name, None)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _correct(schema: dict[str, Any], route: APIRoute) -> None:
    for method in route.methods or ():
        operation = schema["paths"].get(route.path_format, {}).get(method.lower())
        invalid = {} if operation is None else operation["responses"].get("422", {})
        if operation is not None and _FASTAPIS_OWN[0] in str(invalid):
            status = getattr(route, "invalid_status", 422)
            del operation["responses"]["422"]
            example = errors(status)[status]["content"]["application/json"]["example"]
            operation["responses"].setdefault(
                str(status),
                {
                    "description": "Bad Request" if status == 400 else "Unprocessable Entity",
                    "content": {
                        "application/json": {
                            "schema": {"$ref": "#/components/schemas/ErrorBody"},
                            "example": example,
                        }
                    },
                },
            )
