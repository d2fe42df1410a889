"""Faults of a remote reranker as errors: what happened, where, and what to check. Never a secret in them."""

from __future__ import annotations

import json
from typing import Any

import httpx

from ragstack.config.rerankers import RemoteRerankerConfig
from ragstack.errors import RerankingError

_MAX_DETAIL = 200
CHECK_URL = "Check reranker.base_url, path and api: the three must name one server's reranking API."
_CHECK_TEXTS = (
    "Check reranker.model and extra_body. If passages are too long: set truncate to END where the API knows it, or"
    " lower chunker.max_tokens."
)
_STATUS = {
    400: ("did not accept the request", _CHECK_TEXTS),
    401: ("refused the key", "Check reranker.api_key."),
    402: ("wants to be paid", "Check the account that reranker.api_key belongs to."),
    403: ("refused the key", "Check reranker.api_key, and whether it may use this model."),
    404: ("does not know the path or the model", f"{CHECK_URL} And reranker.model."),
    405: ("does not take the request at this path", CHECK_URL),
    408: ("gave up waiting", "Check the server's load."),
    413: ("found a passage too long", _CHECK_TEXTS),
    422: ("did not accept the request", _CHECK_TEXTS),
    424: ("failed, or its model is no reranker", "Check which model the server runs; its log may say more."),
    429: ("has no room or no quota left", "Ask again later, raise the quota, or raise reranker.max_retries."),
}
_PASSING = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses after which the same request may be answered."""

_TOO_MUCH = frozenset({413, 422})
"""Statuses after which half of the passages may be answered: servers say so of too many, too."""


class RemoteRerankerErrors:
    """Makes the errors of one server."""

    def __init__(self, config: RemoteRerankerConfig, url: str) -> None:
        name = f"{config.model} at {url}" if config.model is not None else f"at {url}"
        self._where = name
        self._secret = config.api_key.get_secret_value() if config.api_key is not None else ""

    def error(self, what: str, hint: str) -> RerankingError:
        """An error of this server."""
        return RerankingError(f"the reranker {self._where} {what}.", hint=hint)

    def of_status(self, response: httpx.Response, about: str = "") -> RerankingError:
        """What a status that is no success means to the user; ``about``: the one passage of the request."""
        status = response.status_code
        what, hint = _STATUS.get(status, ("failed", "The server's log may say more."))
        if status < 400:
            what, hint = "answered with a redirection", CHECK_URL
        detail = self._brief(_detail(response))
        told = ": ".join(each for each in (f"status {status}", about, detail) if each)
        return self.error(f"{what} ({told})", hint)

    def of_transport(self, error: httpx.RequestError | httpx.InvalidURL) -> RerankingError:
        """What a connection that failed means to the user."""
        detail = self._brief(str(error) or type(error).__name__)
        return self.error(
            f"cannot be reached, or the connection broke: {detail}",
            "Check that the server runs, and that reranker.base_url is where.",
        )

    def too_slow(self, timeout_s: float, last: RerankingError | None) -> RerankingError:
        """The time is over; ``last`` is the fault of the latest attempt, if there was one."""
        after = f"; the last attempt: {last.message}" if last is not None else ""
        return self.error(
            f"did not answer within {timeout_s:g} s{after.rstrip('.')}",
            "Check the server's load, lower retrieval.rerank_k, or raise reranker.timeout_s.",
        )

    def _brief(self, text: str) -> str:
        """One line of at most 200 characters; a key that the server repeats is masked."""
        if self._secret:
            text = text.replace(self._secret, "**********")
        text = " ".join(text.split()).rstrip(".")
        return text if len(text) <= _MAX_DETAIL else text[:_MAX_DETAIL] + "…"


def is_passing(status: int) -> bool:
    """True for a status after which the same request may be answered."""
    return status in _PASSING


def may_be_too_much(status: int) -> bool:
    """True for a status after which half of the passages may be answered."""
    return status in _TOO_MUCH


def _detail(response: httpx.Response) -> str:
    """What the server says of its fault, in whichever of the usual shapes."""
    try:
        found: Any = response.json()
    except (ValueError, RecursionError):
        return response.text if not response.text.lstrip().startswith("<") else ""
    for key in ("error", "message", "detail"):
        if isinstance(found, dict) and key in found:
            found = found[key]
    return found if isinstance(found, str) else json.dumps(found)
