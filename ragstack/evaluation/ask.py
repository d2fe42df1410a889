"""Puts questions to a pipeline and keeps what each stage of the query path made of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache

from ragstack.citations.chain import Chain, Place
from ragstack.citations.verify import Evidence, verify_chain
from ragstack.errors import InputError, InterruptedRunError
from ragstack.evaluation.dataset import DocumentSpan, Question
from ragstack.evaluation.target import Target
from ragstack.indexer.interruption import Interruption
from ragstack.reranking.base import RerankScore
from ragstack.retrieval.engine import QueryRequest
from ragstack.retrieval.evidence import open_evidence

STAGES = ("dense", "sparse", "fused", "reranked", "passages")
"""The stages whose orders are kept, first to last. ``reranked`` is the order before a refusal, ``passages`` after."""

_FILES_KEPT = 8


@dataclass(frozen=True)
class Asked:
    """One question with what came of it.

    ``orders`` has each stage's documents, best first, each once (by its best chunk). ``passages`` and ``cited`` are
    places in documents, in their order. ``relevance`` is the largest of any candidate. ``findings`` counts the outcomes
    of checking every place against archive and source (``citations/verify.py``). ``error`` says why there is no answer;
    ``with_answer`` whether one was asked for.
    """

    question: Question
    orders: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    refused: bool = False
    passages: tuple[DocumentSpan, ...] = ()
    cited: tuple[DocumentSpan, ...] = ()
    relevance: float = 0.0
    timings_s: Mapping[str, float] = field(default_factory=dict)
    findings: Mapping[str, int] = field(default_factory=dict)
    error: str = ""
    with_answer: bool = True


def ask_all(
    target: Target,
    *,
    with_answer: bool = True,
    on_asked: Callable[[int], None] = lambda count: None,
    interruption: Interruption | None = None,
) -> list[Asked]:
    """Ask every question of the target, one after the other. ``on_asked`` is told how many are done.

    A question that the engine refuses to take (empty, longer than the model reads) is kept with its error. Raises
    InterruptedRunError when ``interruption`` was asked, and what a query raises.
    """
    engine = target.pipeline.engine
    engine.warm_up()
    if target.questions:
        # The first query of a process pays for what others find ready; it is asked once for nobody.
        _ask(target, replace(target.questions[0], relevant={}), None, with_answer=False)
    asked = []
    with _evidence(target) as evidence:
        for number, question in enumerate(target.questions, 1):
            stop_if_asked(interruption, number - 1, len(target.questions))
            asked.append(_ask(target, question, evidence, with_answer=with_answer))
            on_asked(number)
    return asked


def stop_if_asked(interruption: Interruption | None, done: int, total: int) -> None:
    """Raise InterruptedRunError, between two questions, where somebody asked for a stop."""
    if interruption is not None and interruption.requested:
        raise InterruptedRunError(
            f"stopped after {done} of {total} questions.", hint="The index is kept: the next run asks at once."
        )


@contextmanager
def _evidence(target: Target) -> Iterator[Evidence]:
    with open_evidence(target.pipeline.state_dir) as evidence:
        yield replace(evidence, read=lru_cache(maxsize=_FILES_KEPT)(evidence.read))


def _ask(target: Target, question: Question, evidence: Evidence | None, *, with_answer: bool) -> Asked:
    ranked: list[RerankScore] = []
    request = QueryRequest(question.text, with_answer=with_answer, on_ranked=ranked.extend)
    try:
        chain = target.pipeline.engine.query(request)
    except InputError as error:
        return Asked(question, dict.fromkeys(STAGES, ()), error=str(error), with_answer=with_answer)
    answer = chain.answer
    return Asked(
        question,
        orders=stage_orders(chain, ranked, target.document_of),
        refused=not chain.passages,
        passages=tuple(_span(passage.place, target) for passage in chain.passages),
        cited=() if answer is None else tuple(_span(citation.place, target) for citation in answer.citations),
        relevance=max((score.relevance for score in ranked), default=0.0),
        timings_s=chain.timings_s,
        findings={} if evidence is None else Counter(finding.status for finding in verify_chain(chain, evidence)),
        error="" if answer is None or answer.error is None else answer.error.message,
        with_answer=with_answer,
    )


def stage_orders(
    chain: Chain, ranked: Sequence[RerankScore], document_of: Callable[[str], str]
) -> dict[str, tuple[str, ...]]:
    """Each stage's documents, best first, each once. A leg that was not asked has no order."""
    orders: dict[str, list[str]] = {}
    for leg in ("dense", "sparse"):
        if chain.query.mode in ("hybrid", leg):
            found = sorted((c.legs[leg].rank, c.source_id) for c in chain.candidates if leg in c.legs)
            orders[leg] = [source for _, source in found]
    orders["fused"] = [candidate.source_id for candidate in chain.candidates]
    source_of = {candidate.chunk_id: candidate.source_id for candidate in chain.candidates}
    orders["reranked"] = [source_of[score.chunk_id] for score in ranked]
    orders["passages"] = [passage.place.source_id for passage in chain.passages]
    return {stage: tuple(dict.fromkeys(map(document_of, order))) for stage, order in orders.items()}


def _span(place: Place, target: Target) -> DocumentSpan:
    return DocumentSpan(target.document_of(place.source_id), place.byte_start, place.byte_end)
