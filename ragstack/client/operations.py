"""What a ragstack server can be asked, as exchanges without I/O."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import numpy as np

from ragstack.citations.chain import Chain, Place
from ragstack.citations.verify import Finding, Status
from ragstack.client.exchange import Call, Exchange, exchange
from ragstack.client.replies import (
    OpenedCitation,
    Ranking,
    read_chain,
    read_citation,
    read_embeddings,
    read_explanation,
    read_rankings,
)
from ragstack.embedding.base import InputType
from ragstack.errors import InputError, RemoteError
from ragstack.filters import Filter, as_filter, filter_to_json
from ragstack.generation.base import Turn
from ragstack.retrieval.explain.explanation import Explanation
from ragstack.retrieval.result import QueryResult
from ragstack.types import Float32Array

# A server takes bodies of a megabyte by default; JSON may double a text's bytes.
_MAX_TEXTS, _MAX_TEXT_BYTES = 256, 256 * 1024

FilterLike = Filter | Mapping[str, Any]


class Operations:
    """The exchanges with the server at ``address``, each tried ``1 + max_retries`` times."""

    def __init__(self, address: str, max_retries: int) -> None:
        self._address = address
        self._max_retries = max_retries

    def query(
        self, text: str, filter: FilterLike | None, top_n: int | None, history: Sequence[Turn]
    ) -> Exchange[QueryResult]:
        """See :meth:`ragstack.client.Client.query`."""
        body = {**_question(text, filter, top_n), "history": _turns(history)}
        reply = yield from self._exchange(Call("POST", "/v1/query", body))
        return QueryResult(read_chain(reply, self._address))

    def retrieve(self, text: str, filter: FilterLike | None, top_n: int | None) -> Exchange[QueryResult]:
        """See :meth:`ragstack.client.Client.retrieve`."""
        reply = yield from self._exchange(Call("POST", "/v1/retrieve", _question(text, filter, top_n)))
        return QueryResult(read_chain(reply, self._address))

    def explain(
        self,
        text: str,
        expected: str | None,
        filter: FilterLike | None,
        top_n: int | None,
        with_answer: bool,
        history: Sequence[Turn],
    ) -> Exchange[Explanation]:
        """See :meth:`ragstack.client.Client.explain`."""
        body = {**_question(text, filter, top_n), "answer": with_answer, "history": _turns(history)}
        body |= {} if expected is None else {"expected": expected}
        reply = yield from self._exchange(Call("POST", "/v1/explain", body))
        return read_explanation(reply, self._address)

    def open_stream(
        self, text: str, filter: FilterLike | None, top_n: int | None, history: Sequence[Turn]
    ) -> Exchange[None]:
        """The beginning of a streamed answer: when it has returned, events follow."""
        body = {**_question(text, filter, top_n), "history": _turns(history), "stream": True}
        yield from exchange(Call("POST", "/v1/query", body, streamed=True), self._address, self._max_retries)

    def embed(
        self, texts: Sequence[str], input_type: InputType, model: str | None, truncate: str
    ) -> Exchange[Float32Array]:
        """See :meth:`ragstack.client.Client.embed`."""
        if not texts:
            raise InputError("there are no texts to embed.", hint="Pass one text or more.")
        rows = []
        for part in _batches(texts):
            body = {"input": part, "input_type": input_type, "truncate": truncate, "encoding_format": "base64"}
            body |= {} if model is None else {"model": model}
            reply = yield from self._exchange(Call("POST", "/v1/embeddings", body))
            rows.append(read_embeddings(reply, len(part), self._address))
        return np.concatenate(rows)

    def rank(self, query: str, passages: Sequence[str], model: str | None, truncate: str) -> Exchange[list[Ranking]]:
        """See :meth:`ragstack.client.Client.rank`."""
        if not passages:
            raise InputError("there are no passages to rank.", hint="Pass one passage or more.")
        texts = [{"text": text} for text in passages]
        body: dict[str, Any] = {"query": {"text": query}, "passages": texts, "truncate": truncate}
        body |= {} if model is None else {"model": model}
        reply = yield from self._exchange(Call("POST", "/v1/ranking", body))
        return read_rankings(reply, len(passages), self._address)

    def citation(self, citation_id: str) -> Exchange[OpenedCitation]:
        """See :meth:`ragstack.client.Client.citation`."""
        if not citation_id.strip(". "):
            raise InputError(f"{citation_id!r} is no citation id.", hint="Ids are in an answer's citations.")
        reply = yield from self._exchange(Call("GET", f"/v1/citations/{quote(citation_id, safe='')}"))
        return read_citation(reply, self._address)

    def verify(self, chain: Chain) -> Exchange[list[Finding]]:
        """See :meth:`ragstack.client.Client.verify`."""
        findings = []
        if chain.computed_digest() != chain.digest:
            detail = "its digest does not match its content: it was edited after it was written"
            findings.append(Finding("chain", "wrong", detail))
        for number, citation in enumerate(chain.answer.citations if chain.answer else (), 1):
            status: Status
            try:
                opened = yield from self.citation(citation.citation_id)
                status, detail = opened.status, opened.detail
                if _bytes_named(opened.place) != _bytes_named(citation.place):
                    status, detail = "wrong", "the server has another text under this id"
            except RemoteError as error:
                if error.status not in (404, 410):
                    raise
                status, detail = "unverifiable", error.message
            findings.append(Finding(f"citation {number}", status, detail))
        return findings

    def _exchange(self, call: Call) -> Exchange[bytes]:
        reply = yield from exchange(call, self._address, self._max_retries)
        return reply.body


def _bytes_named(place: Place) -> tuple[object, ...]:
    return place.source_version, place.parser, place.record, place.byte_start, place.byte_end, place.text


def _question(text: str, filter: FilterLike | None, top_n: int | None) -> dict[str, Any]:
    body: dict[str, Any] = {"query": text}
    tree = as_filter(filter)
    if tree is not None:
        body["filter"] = filter_to_json(tree)
    if top_n is not None:
        body["top_n"] = top_n
    return body


def _turns(history: Sequence[Turn]) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.text} for turn in history]


def _batches(texts: Sequence[str]) -> Iterator[list[str]]:
    part: list[str] = []
    size = 0
    for text in texts:
        length = len(json.dumps(text, ensure_ascii=False).encode("utf-8", "surrogatepass"))
        if part and (len(part) == _MAX_TEXTS or size + length > _MAX_TEXT_BYTES):
            yield part
            part, size = [], 0
        part.append(text)
        size += length
    yield part
