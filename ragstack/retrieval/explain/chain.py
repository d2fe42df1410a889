"""Explains one query that was just answered: what it found, and what became of an expected passage."""

from __future__ import annotations

from ragstack.citations.chain import Chain
from ragstack.errors import IndexStateError
from ragstack.filters import Filter
from ragstack.retrieval.explain.explanation import (
    EXPLANATION_FORMAT,
    Advice,
    ExpectedLink,
    ExplainedChunk,
    Explanation,
    Outcome,
    QueryWord,
    Step,
)
from ragstack.retrieval.explain.locate import Files, locate
from ragstack.retrieval.explain.located import Located, Lost
from ragstack.retrieval.explain.session import Session
from ragstack.retrieval.explain.target import Expected
from ragstack.retrieval.explain.trace import Trace, trace
from ragstack.retrieval.explain.verdict import verdict
from ragstack.retrieval.explain.words import query_words

_WORDS_OF = 3
"""Chunks whose words are compared with the query's: each is embedded anew."""


def explain_chain(
    chain: Chain, expected: Expected | None, session: Session, request_filter: Filter | None, files: Files | None
) -> Explanation | None:
    """Go through the query of ``chain`` again, over the snapshot that it was answered from.

    None when the session's snapshot is another one: the index has changed since, and the query must be asked again.
    ``request_filter`` is what the asker put on the query; the session's own access filter held beside it. Without
    ``files`` nothing is told of files, folders and runs. Raises InputError for a line or range that is not there.
    """
    snapshot = session.snapshot
    if (chain.index.generation, chain.index.committed_seq) != (snapshot.generation, snapshot.committed_seq):
        return None
    limits: list[str] = []
    located = None if expected is None else locate(expected, session, files)
    if located is not None:
        limits += located.limits
    followed = trace(chain, located.chunk_ids if isinstance(located, Located) else (), session, request_filter, limits)
    words = _words(followed, session)
    best = followed.best
    link: ExpectedLink | None = None if located is None else located.link
    outcome: Outcome | None = None
    steps: tuple[Step, ...] = ()
    advice: tuple[Advice, ...] = ()
    summary = _found(chain)
    if isinstance(located, Lost):
        outcome, summary = located.outcome, located.detail
        stage = "chunk" if outcome == "no_chunk" else "source"
        steps = (Step.model_validate({"stage": stage, "outcome": "lost", "detail": located.detail}),)
        advice = (Advice(settings={}, detail=located.advice),) if located.advice else ()
    elif located is not None and best is not None:
        told = verdict(followed, best, session, words)
        source = Step(stage="source", outcome="passed", detail=located.detail)
        chunk = Step(stage="chunk", outcome="passed", detail=_chunk_detail(best, located.link))
        outcome, summary, advice = told.outcome, told.summary, told.advice
        steps = (source, chunk, *told.steps)
    return Explanation(
        format=EXPLANATION_FORMAT,
        chain=chain,
        expected=link,
        outcome=outcome,
        summary=summary,
        steps=steps,
        advice=advice,
        chunks=tuple(followed.chunks[i] for i in (*followed.expected, *followed.others)),
        words=tuple(words),
        limits=tuple(dict.fromkeys(limits)),
    )


def changes_too_often() -> IndexStateError:
    """The error for an index that was changed each time between a query and its explanation."""
    return IndexStateError(
        "the index was changed each time before the query could be explained.",
        hint="Ask again when indexing has ended.",
    )


def _words(followed: Trace, session: Session) -> list[QueryWord]:
    """The words beside the best expected chunk and the best found ones."""
    best = [*followed.expected[:1], *followed.others][:_WORDS_OF]
    session.records(best)
    return query_words(followed.chain.query.search_text, followed.leg_query, session, best)


def _chunk_detail(best: ExplainedChunk, link: ExpectedLink) -> str:
    told = (
        f"Chunk {best.chunk_id}, {best.source_id}, lines {best.line_start}-{best.line_end}, {best.token_count} tokens."
    )
    return told if link.chunk_count < 2 else f"{told} Of the {link.chunk_count} chunks this one came furthest."


def _found(chain: Chain) -> str:
    if not chain.candidates:
        return "No chunk was found."
    if not chain.passages:
        return f"{len(chain.candidates)} candidates were found; none is relevant enough for the corpus to answer."
    cited = 0 if chain.answer is None else len({citation.passage_rank for citation in chain.answer.citations})
    told = f"{len(chain.candidates)} candidates were found, {len(chain.passages)} passages made of the best"
    return f"{told}; the answer cites {cited} of them." if chain.answer is not None else f"{told}."
