"""What is done with every chain that the server answers, whichever route asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ragstack.api.audit import audit_chain
from ragstack.api.checking import CheckedAnswer
from ragstack.api.observing import observe_answer
from ragstack.api.security import Caller
from ragstack.api.state import AppState
from ragstack.citations.chain import Chain, Citation
from ragstack.ledger.issued_citations import IssuedCitation
from ragstack.retrieval.explanation import Explanation


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
    chunks = {passage.rank: passage.chunk_ids[0] for passage in chain.passages}
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
            chunks[citation.passage_rank],
        )
