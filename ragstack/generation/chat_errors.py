"""Faults of a chat API as errors of ragstack: what happened, where, and what to check. Never a secret in them."""

from __future__ import annotations

import openai

from ragstack.config.generators import OpenAIGeneratorConfig
from ragstack.errors import GenerationError

_MAX_DETAIL = 200
# What the client raises when it reads something else than chunks of a chat completion.
_UNREADABLE = (ValueError, TypeError, LookupError, AttributeError)
_CHECK_REQUEST = (
    "Check generator.model, max_context_tokens, temperature, max_tokens_field, structured_output and extra_body."
)
_STATUS = {
    400: ("did not accept the request", _CHECK_REQUEST),
    401: ("refused the key", "Check generator.api_key."),
    402: ("wants to be paid", "Check the account that generator.api_key belongs to."),
    403: ("refused the key", "Check generator.api_key, and whether it may use this model."),
    404: (
        "does not know the path or the model",
        "Check generator.base_url (most APIs end in /v1) and generator.model.",
    ),
    408: ("gave up waiting", "Check the server's load; generator.max_retries is how often it is asked again."),
    413: ("found the request too large", "Lower generator.max_context_tokens or retrieval.top_n."),
    422: ("did not accept the request", _CHECK_REQUEST),
    429: ("has no room or no quota left", "Ask again later, or raise the quota; generator.max_retries may help."),
}


class ChatErrors:
    """Makes the errors of one model at one address."""

    def __init__(self, config: OpenAIGeneratorConfig) -> None:
        self._where = f"{config.model} at {config.base_url}"
        self._base_url = config.base_url
        self._secret = config.api_key.get_secret_value() if config.api_key is not None else ""

    def error(self, what: str, hint: str) -> GenerationError:
        """An error of this model."""
        return GenerationError(f"the language model {self._where} {what}.", hint=hint)

    def translated(self, error: Exception) -> GenerationError:
        """What an exception of the client, or of reading the answer, means to the user."""
        if isinstance(error, openai.APIStatusError):
            return self._status(error)
        if isinstance(error, openai.APITimeoutError):
            return self.too_slow("did not answer in time")
        # Before version 3 the client lets its HTTP library's own errors through in mid-stream.
        if isinstance(error, openai.APIConnectionError) or not isinstance(error, (openai.OpenAIError, *_UNREADABLE)):
            cause = error.__cause__ or error
            return self.error(
                f"cannot be reached, or the connection broke: {self._brief(str(cause) or type(cause).__name__)}",
                f"Check that the server runs and answers: curl {self._base_url.rstrip('/')}/models",
            )
        if isinstance(error, openai.APIError):
            return self.error(
                f"broke off with an error: {self._brief(error.message)}", "The server's log may say more; ask again."
            )
        return self.error(
            f"sent what is no stream of a chat completion ({type(error).__name__})",
            "Check generator.base_url: it must be an OpenAI-compatible API (most end in /v1), not a web page.",
        )

    def too_slow(self, what: str) -> GenerationError:
        """The model did not do something in its time."""
        return self.error(
            what, "Check the server's load, or raise generator.first_token_timeout_s, stall_timeout_s and timeout_s."
        )

    def _status(self, error: openai.APIStatusError) -> GenerationError:
        status = error.status_code
        otherwise = ("failed" if status >= 500 else "did not accept the request", "The server's log may say more.")
        what, hint = _STATUS.get(status, otherwise)
        body = error.body
        detail = body.get("message") if isinstance(body, dict) else body
        said = f": {self._brief(detail)}" if isinstance(detail, str) and detail.strip() else ""
        return self.error(f"{what} (status {status}){said}", hint)

    def _brief(self, text: str) -> str:
        """One line of at most 200 characters; a key that the server repeats is masked."""
        if self._secret:
            text = text.replace(self._secret, "**********")
        text = " ".join(text.split()).rstrip(".")
        return text if len(text) <= _MAX_DETAIL else text[:_MAX_DETAIL] + "…"
