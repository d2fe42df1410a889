"""Faults of a model behind an HTTP API as errors: what happened, where, and what to check. Never a secret in them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

import httpx
from pydantic import SecretStr

from ragstack.errors import RagstackError

_MAX_DETAIL = 200
_PASSING = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses after which the same request may be answered."""

_TOO_MUCH = frozenset({413, 422})
"""Statuses after which a part of the texts may be answered: servers say so of too many, and of one that is too long."""
_SAYS_TOO_MUCH = re.compile(
    r"too (?:many|much|large|long|big)|batch|maximum|max(?:_|\b)|at most|exceed|limit|token|length|larger than|size",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class RemoteRole:
    """The part of a pipeline that a server plays, as messages name it.

    ``key`` is the block of the config, ``name`` the server in a sentence, ``error`` the class of its faults, ``item``
    what it is sent many of. ``check_texts`` says what to do about a request that was not accepted, ``lighten`` how to
    ask for less.
    """

    key: str
    name: str
    error: type[RagstackError]
    item: str
    check_texts: str
    lighten: str

    @property
    def check_url(self) -> str:
        """What to do about an answer of another shape than the API's."""
        return f"Check {self.key}.base_url, path and api: the three must name one server's API."


@dataclass(frozen=True)
class HttpReply:
    """A response whose body was read. Names of ``headers`` are in lower case."""

    status: int
    content: bytes
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def is_success(self) -> bool:
        """Whether the status is one of 200 to 299."""
        return 200 <= self.status < 300

    @property
    def detail(self) -> str:
        """What the server says of its fault, in whichever of the usual shapes; empty for a web page."""
        text = self.content.decode("utf-8", "replace")
        try:
            found: Any = json.loads(text)
        except (ValueError, RecursionError):
            return "" if text.lstrip().startswith("<") else text
        for key in ("error", "message", "detail"):
            if isinstance(found, dict) and found.get(key):
                found = found[key]
        return found if isinstance(found, str) else json.dumps(found)


class HttpErrors:
    """Makes the errors of one server. ``model`` and ``url`` are named in each; ``secret`` is masked in all."""

    def __init__(self, role: RemoteRole, model: str | None, url: str, secret: SecretStr | None) -> None:
        self.role = role
        self._where = f"{model} at {url}" if model is not None else f"at {url}"
        self._secret = secret.get_secret_value() if secret is not None else ""
        key = role.key
        self._statuses = {
            400: ("did not accept the request", role.check_texts),
            401: ("refused the key", f"Check {key}.api_key."),
            402: ("wants to be paid", f"Check the account that {key}.api_key belongs to."),
            403: ("refused the key", f"Check {key}.api_key, and whether it may use this model."),
            404: ("does not know the path or the model", f"{role.check_url} And {key}.model."),
            405: ("does not take the request at this path", role.check_url),
            408: ("gave up waiting", "Check the server's load."),
            413: (f"found a {role.item} too long", role.check_texts),
            422: ("did not accept the request", role.check_texts),
            424: (
                f"failed, or its model is no {role.name}",
                "Check which model the server runs; its log may say more.",
            ),
            429: ("has no room or no quota left", f"Ask again later, raise the quota, or raise {key}.max_retries."),
        }

    def error(self, what: str, hint: str) -> RagstackError:
        """An error of this server."""
        return self.role.error(f"the {self.role.name} {self._where} {what}.", hint=hint)

    def of_status(self, reply: HttpReply, about: str = "") -> RagstackError:
        """What a status that is no success means to the user; ``about``: the one text of the request."""
        what, hint = self._statuses.get(reply.status, ("failed", "The server's log may say more."))
        if reply.status < 400:
            what, hint = "answered with a redirection", self.role.check_url
        told = ": ".join(each for each in (f"status {reply.status}", about, self.brief(reply.detail)) if each)
        return self.error(f"{what} ({told})", hint)

    def of_transport(self, error: httpx.RequestError | httpx.InvalidURL) -> RagstackError:
        """What a connection that failed means to the user."""
        detail = self.brief(str(error)) or type(error).__name__
        return self.error(
            f"cannot be reached, or the connection broke: {detail}",
            f"Check that the server runs, and that {self.role.key}.base_url is where.",
        )

    def too_slow(self, timeout_s: float, last: RagstackError | None) -> RagstackError:
        """The time is over; ``last`` is the fault of the latest attempt, if there was one."""
        after = f"; the last attempt: {last.message}" if last is not None else ""
        return self.error(
            f"did not answer within {timeout_s:g} s{after.rstrip('.')}",
            f"Check the server's load, {self.role.lighten}, or raise {self.role.key}.timeout_s.",
        )

    def too_large(self, max_bytes: int) -> RagstackError:
        """An answer longer than any that was asked for."""
        return self.error(f"answered with more than {max_bytes / 1e6:.0f} MB", self.role.check_url)

    def no_json(self) -> RagstackError:
        """An answer that is something else."""
        return self.error("answered with what is no JSON", self.role.check_url)

    def brief(self, text: str) -> str:
        """One line of at most 200 characters; a key that the server repeats is masked."""
        if self._secret:
            text = text.replace(self._secret, "**********")
        text = " ".join("".join(char if char.isprintable() else " " for char in text[:10_000]).split()).rstrip(".")
        return text if len(text) <= _MAX_DETAIL else text[:_MAX_DETAIL] + "…"


def is_passing(status: int) -> bool:
    """True for a status after which the same request may be answered."""
    return status in _PASSING


def may_be_too_much(reply: HttpReply) -> bool:
    """True for an answer after which half of the texts may be answered."""
    return reply.status in _TOO_MUCH or (reply.status == 400 and bool(_SAYS_TOO_MUCH.search(reply.detail)))
