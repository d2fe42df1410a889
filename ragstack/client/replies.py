"""What a server's answers say. Pure."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from ragstack.citations.chain import Chain, Citation, Place, SentenceLink
from ragstack.citations.verify import Status
from ragstack.client.sse import ServerEvent
from ragstack.errors import InputError, RagstackError, RemoteError
from ragstack.retrieval.events import Answered, PassagesFound, QueryEvent, SentenceWritten
from ragstack.retrieval.explain.explanation import Explanation
from ragstack.types import Float32Array

_MISTAKES = (400, 413, 422)
"""Statuses of requests that cannot be answered whoever asks, and whenever."""

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class CheckedSentence(SentenceWritten):
    """A sentence whose citations the server checked before it sent them: a status for each, in their order."""

    statuses: tuple[Status, ...]


@dataclass(frozen=True, slots=True)
class Ranking:
    """One passage of a ranking: its position in the request, and its score (larger is better)."""

    index: int
    logit: float


class _Read(BaseModel):
    """Answers may gain fields; those that are known have their types."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class CitationContext(_Read):
    """Text around a citation; the byte range, in the canonical text, is that of all three parts."""

    before: str
    text: str
    after: str
    byte_start: int
    byte_end: int


class OpenedCitation(_Read):
    """A citation that the server has read and checked again. ``source_base64``: the raw bytes, where it gives them."""

    citation_id: str
    place: Place
    status: Status
    detail: str
    context: CitationContext
    source_base64: str | None = None


class _Checked(_Read):
    citation: Citation
    status: Status


class _Sentence(_Read):
    sentence: SentenceLink
    citations: list[_Checked]
    delta: str


class _WithChain(_Read):
    chain: Chain


class _Embedding(_Read):
    index: int
    embedding: str | list[float]


class _Embeddings(_Read):
    data: list[_Embedding]


class _Ranking(_Read):
    index: int
    logit: float


class _Rankings(_Read):
    rankings: list[_Ranking]


def read_chain(body: bytes, address: str) -> Chain:
    """The chain in an answer. Raises RemoteError for anything else."""
    return _read(Chain, body, address)


def read_explanation(body: bytes, address: str) -> Explanation:
    """The explanation in an answer. Raises RemoteError for anything else."""
    return _read(Explanation, body, address)


def read_citation(body: bytes, address: str) -> OpenedCitation:
    """An opened citation."""
    return _read(OpenedCitation, body, address)


def read_embeddings(body: bytes, count: int, address: str) -> Float32Array:
    """The vectors of ``count`` texts in their order, ``(count, dim) float32``."""
    data = _read(_Embeddings, body, address).data
    _require_each_once([item.index for item in data], count, address)
    try:
        rows = [_vector(item.embedding) for item in sorted(data, key=lambda item: item.index)]
        return np.stack(rows) if rows else np.empty((0, 0), dtype=np.float32)
    except (ValueError, binascii.Error) as error:
        raise _not_understood(address, f"its vectors cannot be read ({error})") from error


def read_rankings(body: bytes, count: int, address: str) -> list[Ranking]:
    """The ranking of ``count`` passages, best first."""
    rankings = _read(_Rankings, body, address).rankings
    _require_each_once([item.index for item in rankings], count, address)
    return [Ranking(item.index, item.logit) for item in rankings]


def read_event(event: ServerEvent, address: str) -> QueryEvent | None:
    """One event of a streamed answer; None for a kind that is not known. Raises the error that an event tells of."""
    data = event.data.encode("utf-8", "surrogatepass")
    if event.event == "error":
        raise error_of(200, {}, data, address)
    if event.event == "passages":
        return PassagesFound(_read(_WithChain, data, address).chain)
    if event.event == "done":
        return Answered(_read(_WithChain, data, address).chain)
    if event.event == "sentence":
        read = _read(_Sentence, data, address)
        citations = tuple(checked.citation for checked in read.citations)
        return CheckedSentence(read.sentence, citations, read.delta, tuple(c.status for c in read.citations))
    return None


def tells_of_an_error(body: bytes) -> bool:
    """Whether a body is a ragstack server's own, and not that of a proxy before it."""
    return bool(_told_error(body).get("message"))


def error_of(status: int, headers: Mapping[str, str], body: bytes, address: str) -> RagstackError:
    """The error that an answer tells of: in the class of the family that it names, InputError or RemoteError else."""
    told = _told_error(body)
    request_id = told.get("request_id") or headers.get("x-request-id", "")
    asked = f" (request {request_id} to {address})" if request_id else f" ({address})"
    message, hint = told.get("message", ""), told.get("hint", "")
    if not message:
        elsewhere = f" It points to {headers['location']}." if "location" in headers else ""
        return RemoteError(
            f"{address} answered with status {status} and no error that is understood.{elsewhere}",
            hint="Check that the address is that of a ragstack server, without /v1.",
            status=status,
            request_id=request_id,
        )
    kind = _plain_errors().get(told.get("type", ""))
    if kind is None and status in _MISTAKES:
        kind = InputError
    if kind is not None:
        return kind(message.rstrip(".") + asked + ".", hint=hint)
    return RemoteError(message.rstrip(".") + asked + ".", hint=hint, status=status, request_id=request_id)


def _told_error(body: bytes) -> dict[str, str]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    error = value.get("error") if isinstance(value, dict) else None
    if not isinstance(error, dict):
        return {}
    return {key: text for key, text in error.items() if isinstance(text, str)}


def _plain_errors() -> dict[str, type[RagstackError]]:
    """The classes of the family that are made of a message and a hint alone, by name."""
    found: dict[str, type[RagstackError]] = {}
    pending: list[type[RagstackError]] = [RagstackError]
    while pending:
        kind = pending.pop()
        if kind.__module__ == RagstackError.__module__ and kind.__init__ is RagstackError.__init__:
            found[kind.__name__] = kind
        pending += kind.__subclasses__()
    return found


def _read(model: type[M], body: bytes, address: str) -> M:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise _not_understood(address, f"{place or 'it'}: {first['msg']}") from error


def _vector(embedding: str | list[float]) -> Float32Array:
    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding, validate=True), dtype="<f4").astype(np.float32)
    return np.asarray(embedding, dtype=np.float32)


def _require_each_once(indices: list[int], count: int, address: str) -> None:
    if sorted(indices) != list(range(count)):
        raise _not_understood(address, f"{count} texts were sent, and it answers for {len(indices)}")


def _not_understood(address: str, reason: str) -> RemoteError:
    return RemoteError(
        f"the answer of {address} is not understood: {reason}.",
        hint="Check that the address is that of a ragstack server of this version.",
    )
