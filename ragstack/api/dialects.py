"""Routes that answer errors as another server does: in OpenAI's shape, which NIM shares, or in TEI's.

A route class turns ModelRequestError and a body that does not fit the schema into such an answer; every other error
goes on to the application's own handlers, which show it in the shape that the route sets.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import ClientDisconnect

from ragstack.api.errors import ErrorBody, ErrorDetail, request_id_of
from ragstack.api.model_errors import OPENAI_ERRORS, TEI_ERRORS, ModelRequestError
from ragstack.api.observing import CLIENT_LEFT
from ragstack.api.openai_errors import openai_error_response
from ragstack.api.state import AppState

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class TeiErrorBody(BaseModel):
    """The body of TEI's errors."""

    error: str
    error_type: str


class DialectRoute(APIRoute, ABC):
    """A route that speaks one dialect, and stops working when the client leaves or the server's time is over."""

    @staticmethod
    @abstractmethod
    def render(detail: ErrorDetail, status: int) -> Response:
        """Errors that the application answers, in the dialect's shape."""

    @abstractmethod
    def answer(self, request: Request, error: ModelRequestError) -> Response:
        """The dialect's body and status."""

    def get_route_handler(self) -> Handler:
        """FastAPI's handler inside ours."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            request.state.render_error = self.render
            try:
                return await while_connected(request, handler)
            except RequestValidationError as error:
                return self.refused(request, _malformed(error))
            except ModelRequestError as error:
                return self.refused(request, error)

        return handle

    def refused(self, request: Request, error: ModelRequestError) -> Response:
        """The answer that tells of ``error``."""
        request.state.error_type = error.fault
        response = self.answer(request, error)
        if error.retry_after_s is not None:
            response.headers["Retry-After"] = str(error.retry_after_s)
        return response


class OpenAIModelRoute(DialectRoute):
    """Errors as OpenAI's clients, and NVIDIA's, read them."""

    invalid_status = 400
    render = staticmethod(openai_error_response)

    def answer(self, request: Request, error: ModelRequestError) -> Response:
        """The body of :mod:`ragstack.api.errors` with OpenAI's ``type`` and ``code``."""
        status, kind, code = OPENAI_ERRORS[error.fault]
        detail = ErrorDetail(
            type=kind,
            message=error.message,
            hint=error.hint,
            param=error.param,
            code=code,
            request_id=request_id_of(request),
        )
        return JSONResponse(ErrorBody(error=detail).model_dump(), status_code=status)


class TeiRoute(DialectRoute):
    """Errors as TEI's clients read them."""

    @staticmethod
    def render(detail: ErrorDetail, status: int) -> Response:
        """What TEI has no name for keeps ours as its ``error_type``."""
        body = TeiErrorBody(error=f"{detail.message} {detail.hint}".rstrip(), error_type=detail.type)
        return JSONResponse(body.model_dump(), status_code=status)

    def answer(self, request: Request, error: ModelRequestError) -> Response:
        """``{"error": ..., "error_type": ...}``."""
        status, error_type = TEI_ERRORS[error.fault]
        return JSONResponse(TeiErrorBody(error=str(error), error_type=error_type).model_dump(), status_code=status)


async def while_connected(request: Request, handler: Handler) -> Response:
    """Run a handler; cancel it when the client goes away, and answer nobody.

    Raises what the handler raises, and ModelRequestError (unavailable) when the server's time is over.
    """
    state: AppState = request.app.state.ragstack
    try:
        await request.body()  # kept by the request; what comes afterwards can only be the disconnection
    except ClientDisconnect:
        return Response(status_code=CLIENT_LEFT)
    response: Response | None = None
    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:

        async def watch() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass
            tasks.cancel_scope.cancel()

        def stop() -> None:
            nonlocal failure
            failure = ModelRequestError("unavailable", "The server is shutting down.", retry_after_s=1)
            tasks.cancel_scope.cancel()

        tasks.start_soon(watch)
        with state.shutdown.listening(stop):
            try:
                response = await handler(request)
            except Exception as error:  # raised below, outside the group, which would wrap it
                failure = error
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return response or Response(status_code=CLIENT_LEFT)


def _malformed(error: RequestValidationError) -> ModelRequestError:
    """Tells of the first mistake. The field alone is named: below it are the branches of a union, not what was sent."""
    first = error.errors()[0]
    field = first["loc"][1] if len(first["loc"]) > 1 and isinstance(first["loc"][1], str) else None
    if first["type"] == "json_invalid":
        return ModelRequestError("malformed", f"The body is not JSON: {first['ctx']['error']}.")
    return ModelRequestError("malformed", f"`{field}`: {first['msg']}" if field else str(first["msg"]), param=field)
