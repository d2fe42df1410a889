"""What is tried again, how long the pauses are, and which error comes out."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from ragstack.client.exchange import Call, Failure, Outcome, Pause, Reply, exchange
from ragstack.errors import (
    FilterError,
    GenerationError,
    IndexNotFoundError,
    InputError,
    RagstackError,
    RemoteError,
    StoreUnavailableError,
)

CALL = Call("POST", "/v1/query", {"query": "?"})
ADDRESS = "http://127.0.0.1:8000"
REFUSED = Failure("ConnectError: refused", False, OSError("refused"))
SILENT = Failure("ReadTimeout", True, OSError("timed out"))
GOOD = Reply(200, {}, b"{}")


def told(status: int, type_: str = "", message: str = "it is full.", **headers: str) -> Reply:
    body = {"error": {"type": type_, "message": message, "hint": "Wait.", "param": None, "request_id": "r-1"}}
    return Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, json.dumps(body).encode())


def drive(outcomes: Sequence[Reply | Failure], max_retries: int = 2) -> tuple[Reply, list[float]]:
    """The result and the pauses; every outcome given must be used."""
    steps, pauses = exchange(CALL, ADDRESS, max_retries), []
    left, outcome = list(outcomes), None
    next_outcome: Outcome = outcome
    while True:
        try:
            step = steps.send(next_outcome)
        except StopIteration as end:
            assert not left
            return end.value, pauses
        if isinstance(step, Pause):
            pauses.append(step.seconds)
            next_outcome = None
        else:
            assert step is CALL
            next_outcome = left.pop(0)


@pytest.mark.parametrize(
    "fault", [REFUSED, told(429), told(503, "StoreUnavailableError"), Reply(502, {}, b"<html>"), Reply(504, {})]
)
def test_a_server_that_is_away_or_overloaded_is_asked_again(fault: Reply | Failure) -> None:
    reply, pauses = drive([fault, fault, GOOD])
    assert reply is GOOD
    assert len(pauses) == 2
    assert 0.1 < pauses[0] < 0.4 < 2 * pauses[1] < 2


def test_the_servers_own_pause_is_kept() -> None:
    assert drive([told(429, retry_after="3"), GOOD])[1] == [3.0]
    with pytest.raises(RemoteError):  # and not waited for when it is too long
        drive([told(429, retry_after="3600")])


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        (SILENT, RemoteError),
        (told(422, "InputError"), InputError),
        (told(422, "FilterError"), FilterError),
        (told(503, "IndexNotFoundError"), IndexNotFoundError),
        (told(401, "AuthenticationError"), RemoteError),
        (told(500, "InternalError"), RemoteError),
        (told(500, "PartialWriteError"), RemoteError),
        (told(422, "InvalidRequest"), InputError),
        (told(400, "invalid_request_error"), InputError),
        (told(502, "GenerationError"), GenerationError),
        (told(504, "QueryTimeout"), RemoteError),
        (Reply(404, {}, b"not found"), RemoteError),
        (Reply(307, {"location": "http://elsewhere/"}, b""), RemoteError),
    ],
)
def test_everything_else_is_an_error_at_once(outcome: Reply | Failure, kind: type[RagstackError]) -> None:
    with pytest.raises(kind) as caught:
        drive([outcome])
    assert type(caught.value) is kind
    assert ADDRESS in caught.value.message
    assert caught.value.hint


def test_the_last_attempts_error_is_told() -> None:
    with pytest.raises(StoreUnavailableError, match=r"it is full \(request r-1 to http://127\.0\.0\.1:8000\)\. Wait\."):
        drive([REFUSED, told(503, "StoreUnavailableError")], max_retries=1)
    with pytest.raises(RemoteError, match=r"cannot be reached \(3 attempts\)") as caught:
        drive([REFUSED, REFUSED, REFUSED])
    assert caught.value.__cause__ is REFUSED.cause
    with pytest.raises(RemoteError) as refused:
        drive([told(429)], max_retries=0)
    assert (refused.value.status, refused.value.request_id) == (429, "r-1")


@pytest.mark.parametrize("body", [b"", b"[]", b'{"error": 3}', b'{"error": {"message": 3}}', b"\xff", b"[" * 100_000])
def test_any_body_of_an_error_gives_an_error_of_the_family(body: bytes) -> None:
    with pytest.raises(RemoteError, match="status 500"):
        drive([Reply(500, {}, body)])
