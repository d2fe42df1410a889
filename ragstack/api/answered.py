"""What is done with every chain that the server answers, whichever route asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ragstack.api.audit import audit_chain
from ragstack.api.checking import CheckedAnswer
from ragstack.api.observing import observe_answer
from ragstack.api.security import Caller
from ragstack.api.state import AppState
from ragstack.citations.chain import Chain, Citation, PassageLink
from ragstack.ledger.issued_citations import IssuedCitation
from ragstack.retrieval.explain.explanation import Explanation


def answered(state: AppState, caller: Caller, answer: CheckedAnswer, request_id: str) -> None:
    """A chain is about to be sent. Called once a query, in the query's thread and the request's context."""
    observe_answer(state, answer)
    audit_chain(state.audit, caller, answer.chain, request_id)
    if answer.chain.answer is not None:
        state.issued.add(issued(answer.chain, answer.chain.answer.citations))


def explained(state: AppState, caller: Caller, explanation: Explanation, request_id: str) -> None:
    """An explanation is about to be sent: it shows passages beside those of its chain, which was recorded already."""
    if state.audit is not None:
        state.audit.record_explanation(caller, explanation, request_id)


def broken_off(state: AppState, caller: Caller, chain: Chain, request_id: str) -> None:
    """An answer ended before its chain, because the client left or something failed: parts of it may have been sent.

    ``chain`` has its passages. Called in the query's thread.
    """
    audit_chain(state.audit, caller, chain, request_id, is_whole=False)


def issued(chain: Chain, citations: Iterable[Citation]) -> Iterator[IssuedCitation]:
    """Where citations of a chain lead, in the form that is remembered."""
    passages = {passage.rank: passage for passage in chain.passages}
    for citation in citations:
        place = citation.place
        yield IssuedCitation(
            citation.citation_id,
            place.source_id,
            place.source_version,
            place.parser,
            place.record,
            place.byte_start,
            place.byte_end,
            _chunk_of(chain, passages[citation.passage_rank], place.byte_start),
        )


def _chunk_of(chain: Chain, passage: PassageLink, byte_start: int) -> str:
    """The chunk of a passage that a byte lies in: its headings are those of what is cited there."""
    hits = [candidate for candidate in chain.candidates if candidate.chunk_id in passage.chunk_ids]
    ranges = [(hit.chunk_id, hit.byte_start, hit.byte_end) for hit in hits]
    ranges += [(each.chunk_id, each.byte_start, each.byte_end) for each in passage.added]
    for chunk_id, start, end in ranges:
        if start <= byte_start < end:
            return chunk_id
    return passage.chunk_ids[0]
