"""What can go wrong with a request for embeddings or a ranking, and how each server that we stand in for says it."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

from ragstack.errors import RagstackError

Fault: TypeAlias = Literal[
    "malformed",
    "empty",
    "batch_too_large",
    "too_long",
    "unreadable",
    "unsupported",
    "unknown_model",
    "no_reranker",
    "backend",
    "overloaded",
    "timeout",
    "unavailable",
]


class ModelRequestError(RagstackError):
    """A request that the model server does not answer. ``param`` names the field at fault.

    ``retry_after_s`` is set where the same request may be answered later.
    """

    def __init__(
        self, fault: Fault, message: str, *, hint: str = "", param: str | None = None, retry_after_s: int | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.fault = fault
        self.param = param
        self.retry_after_s = retry_after_s


class OpenAIError(NamedTuple):
    """``type`` and ``code`` as OpenAI's clients know them."""

    status: int
    type: str
    code: str | None


class TeiError(NamedTuple):
    """``error_type`` as text-embeddings-inference spells it on the wire (``router/src/lib.rs``, ``ErrorType``)."""

    status: int
    error_type: str


OPENAI_ERRORS: dict[Fault, OpenAIError] = {
    "malformed": OpenAIError(400, "invalid_request_error", None),
    "empty": OpenAIError(400, "invalid_request_error", None),
    "batch_too_large": OpenAIError(400, "invalid_request_error", None),
    "too_long": OpenAIError(400, "invalid_request_error", "context_length_exceeded"),
    "unreadable": OpenAIError(400, "invalid_request_error", None),
    "unsupported": OpenAIError(400, "invalid_request_error", None),
    "unknown_model": OpenAIError(404, "invalid_request_error", "model_not_found"),
    "no_reranker": OpenAIError(404, "invalid_request_error", "model_not_found"),
    "backend": OpenAIError(500, "server_error", None),
    "overloaded": OpenAIError(429, "rate_limit_error", "rate_limit_exceeded"),
    "timeout": OpenAIError(504, "server_error", "timeout"),
    "unavailable": OpenAIError(503, "server_error", None),
}
"""OpenAI's and NIM's statuses."""

TEI_ERRORS: dict[Fault, TeiError] = {
    "malformed": TeiError(422, "Validation"),
    "empty": TeiError(400, "Empty"),
    "batch_too_large": TeiError(413, "Validation"),
    "too_long": TeiError(413, "Validation"),
    "unreadable": TeiError(422, "Tokenizer"),
    "unsupported": TeiError(424, "Backend"),
    "unknown_model": TeiError(424, "Backend"),
    "no_reranker": TeiError(424, "Backend"),
    "backend": TeiError(424, "Backend"),
    "overloaded": TeiError(429, "Overloaded"),
    "timeout": TeiError(429, "Overloaded"),
    "unavailable": TeiError(503, "Unhealthy"),
}
"""TEI's statuses. It knows no timeout: a request that waited too long is one too many."""
