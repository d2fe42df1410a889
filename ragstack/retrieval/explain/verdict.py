"""From figures to sentences: where an expected chunk was lost, and what would have kept it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ragstack.retrieval.context import ContextBuilder
from ragstack.retrieval.explain.explanation import Advice, ExplainedChunk, LegExplanation, Outcome, QueryWord, Step
from ragstack.retrieval.explain.ranks import Settings, settings_that_rerank
from ragstack.retrieval.explain.session import Session
from ragstack.retrieval.explain.trace import Trace, holds_phrases
from ragstack.retrieval.passages import Passage
from ragstack.retrieval.phrases import Phrase

_WEAK_SIMILARITY = 0.5
_LEG_SCORES = {"dense": "cosine", "sparse": "BM25"}


@dataclass(frozen=True)
class Verdict:
    """What became of the expected chunk, stage by stage; ``summary`` is one sentence."""

    outcome: Outcome
    summary: str
    steps: tuple[Step, ...]
    advice: tuple[Advice, ...]


def verdict(trace: Trace, chunk: ExplainedChunk, session: Session, words: list[QueryWord]) -> Verdict:
    """Follow ``chunk`` through the query of ``trace``."""
    path = _Path(trace, chunk, session)
    steps: list[Step] = []
    outcome: Outcome = "cited"
    for step, lost_as in path.walk():
        steps.append(step)
        if lost_as is not None:
            outcome = lost_as
            break
    if outcome not in ("cited", "not_cited") and chunk.passage_rank is not None:
        # Lost as a hit, and shown all the same: a better one's passage was widened over it.
        step, lost_as = path.answer()
        steps += [_step("passages", f"It is shown for context, as part of passage {chunk.passage_rank}."), step]
        outcome = lost_as or "cited"
    advice = () if outcome == "cited" else (*path.advice(outcome), *_word_advice(words, chunk))
    return Verdict(outcome, path.summary(outcome), tuple(steps), advice)


@dataclass(frozen=True)
class _Path:
    trace: Trace
    chunk: ExplainedChunk
    session: Session

    def walk(self) -> Iterator[tuple[Step, Outcome | None]]:
        """Each stage that the chunk came to, and what it was lost as; nothing follows a loss."""
        yield self._filter()
        yield self._retrieve()
        yield self._fuse()
        yield self._rerank()
        yield self._relevance()
        yield self._passages()
        yield self.answer()

    def _filter(self) -> tuple[Step, Outcome | None]:
        checks = self.chunk.filtered_by
        if not checks and self._lacks_phrase():
            quoted = ", ".join(f'"{phrase.text}"' for phrase in self._phrases())
            told = (
                f"The question quotes {quoted}, which this chunk has not word for word: only chunks that have it count."
            )
            return _lost("filter", told), "lacks_phrase"
        if not checks:
            asked = self.trace.chain.query.filter is not None
            return _step("filter", "The filter lets it pass." if asked else "There is no filter."), None
        told = "; ".join(
            f"{_origin(check.origin)} asks for {json.dumps(check.condition, ensure_ascii=False)}, "
            f"and the chunk has {json.dumps(check.found, ensure_ascii=False)}"
            for check in checks
        )
        return _lost("filter", f"{told[0].upper()}{told[1:]}."), "filtered"

    def _phrases(self) -> Sequence[Phrase]:
        asked = self.trace.leg_query.phrases
        return () if asked is None else asked.phrases

    def _lacks_phrase(self) -> bool:
        """Whether others were found with the quoted phrases, and this chunk is without."""
        query, hits = self.trace.leg_query, self.trace.hits
        payload = self.session.payloads([self.chunk.chunk_id])[self.chunk.chunk_id]
        return bool(hits) and not holds_phrases(query, payload) and holds_phrases(query, hits[0].payload)

    def _retrieve(self) -> tuple[Step, Outcome | None]:
        top_k = self.trace.chain.query.top_k
        told = " ".join(self._leg(name, leg) for name, leg in self.chunk.legs.items())
        if self.chunk.fused_rank is not None:
            return _step("retrieve", told), None
        searched = [leg for leg in self.chunk.legs.values() if leg.searched]
        if any(leg.rank is not None and leg.rank <= top_k for leg in searched):
            return _lost("retrieve", f"{told} The approximate vector search missed it."), "missed_by_search"
        return _lost("retrieve", f"{told} So it is no candidate."), "not_retrieved"

    def _leg(self, name: str, leg: LegExplanation) -> str:
        top_k, total = self.trace.chain.query.top_k, self.trace.total
        scored = f"{_LEG_SCORES[name]} {leg.score:.3f}"
        title = f"{name.capitalize()} leg"
        if name == "sparse" and leg.score <= 0:
            told = f"{title}: it has no word of the question."
        elif leg.rank is None:
            depth = f"not among the first {leg.rank_above:,}" if leg.rank_above is not None else "not found"
            told = f"{title}: {depth} of {total:,} chunks ({scored})."
        else:
            bound = f"{'within' if leg.rank <= top_k else 'beyond'} top_k {top_k}"
            told = f"{title}: rank {leg.rank:,} of {total:,} ({scored}), {bound}."
        return told if leg.searched else f"{told[:-1]}; retrieval.mode leaves this leg out."

    def _fuse(self) -> tuple[Step, Outcome | None]:
        rank, rerank_k = self.chunk.fused_rank, self.trace.chain.query.rerank_k
        told = f"Fused rank {rank} of {len(self.trace.hits)} candidates"
        if self.chunk.reranked:
            return _step("fuse", f"{told}, within rerank_k {rerank_k}."), None
        return _lost("fuse", f"{told}; only the first {rerank_k} (rerank_k) are reranked."), "not_reranked"

    def _rerank(self) -> tuple[Step, Outcome | None]:
        chunk = self.chunk
        told = f"Place {chunk.rerank_rank} of {len(self.trace.ranked)} after reranking: {_score(chunk)}."
        first = self.trace.ranked[0]
        if first.chunk_id != chunk.chunk_id:
            told += f" The first has {first.score:.3f}{_parts(first.parts)}."
        return _step("rerank", told), None

    def _relevance(self) -> tuple[Step, Outcome | None]:
        least = self.trace.chain.query.min_relevance
        best = max(score.relevance for score in self.trace.ranked)
        if best < least:
            told = (
                f"The most relevant candidate has relevance {best:.3f}, below min_relevance {least:.2f}: the corpus"
                f" is taken not to answer, and nothing is shown. This chunk has {self.chunk.relevance:.3f}."
            )
            return _lost("relevance", told), "not_relevant"
        return _step("relevance", f"Relevance {self.chunk.relevance:.3f}; min_relevance is {least:.2f}."), None

    def _passages(self) -> tuple[Step, Outcome | None]:
        chunk, passages = self.chunk, self.trace.chain.passages
        if chunk.passage_rank is not None:
            passage = passages[chunk.passage_rank - 1]
            if passage.chunk_ids[0] == chunk.chunk_id:
                return _step("passages", f"It is passage {passage.rank} of {len(passages)}."), None
            return _step("passages", f"It overlaps a better chunk, and is part of passage {passage.rank}."), None
        if chunk.duplicate_of is not None:
            told = "Its words are those of a better chunk"
            twin = self.trace.chunks.get(chunk.duplicate_of)
            where = f", in {twin.source_id}, line {twin.line_start}" if twin is not None else ""
            shown = next((p.rank for p in passages if chunk.duplicate_of in p.chunk_ids), None)
            told += f"{where}, which is passage {shown}." if shown is not None else f"{where}."
            return _lost("passages", f"{told} Repetitions are left out."), "duplicate"
        told = f"The passages end before it: top_n is {self.trace.chain.query.top_n}."
        if passages:
            told += f" The last of them has the score {passages[-1].score:.3f}."
        return _lost("passages", told), "below_top_n"

    def answer(self) -> tuple[Step, Outcome | None]:
        """Whether the answer cites it, and why not."""
        chunk, answer, least = self.chunk, self.trace.chain.answer, self.trace.chain.query.min_relevance
        passage = self.trace.chain.passages[(chunk.passage_rank or 1) - 1]
        if chunk.sentences:
            numbers = ", ".join(map(str, chunk.sentences))
            return _step("answer", f"The answer cites it (sentence {numbers})."), None
        if answer is None:
            told = "No answer was asked for."
        elif answer.error is not None:
            told = f"The answer broke off: {answer.error.message}"
        elif passage.relevance < least:
            told = f"The answer rests on passages of relevance {least:.2f} or more; it has {passage.relevance:.3f}."
        elif passage.rank in answer.left_out:
            told = "It did not fit into the language model's context."
        elif any(citation.passage_rank == passage.rank for citation in answer.citations):
            told = "The answer cites its passage, but another part of it."
        else:
            cited = sorted({citation.passage_rank for citation in answer.citations})
            rest = f"rests on {_passages(cited)}" if cited else "cites nothing"
            told = f"The generator ({answer.generator}) was given it, and wrote an answer that {rest}."
        return _lost("answer", told), "not_cited"

    def summary(self, outcome: Outcome) -> str:
        """One sentence, with the figure that decided."""
        chunk, chain = self.chunk, self.trace.chain
        if outcome == "cited":
            return f"It is in passage {chunk.passage_rank}, and the answer cites it."
        if outcome == "not_cited":
            return f"It is in passage {chunk.passage_rank}, but the answer does not cite it."
        return {
            "lacks_phrase": "It is indexed, but does not have the words that the question quotes.",
            "filtered": "It is indexed, but a filter keeps it out.",
            "not_retrieved": f"No leg has it among its first {chain.query.top_k} (top_k).",
            "missed_by_search": f"It is among the nearest {chain.query.top_k}, but the approximate search missed it.",
            "not_reranked": f"It was found, as candidate {chunk.fused_rank}; only {chain.query.rerank_k} are reranked.",
            "not_relevant": "It was found, but nothing was relevant enough for the corpus to answer.",
            "duplicate": "It was found, but a better passage says the same in the same words.",
            "below_top_n": f"It was found, but place {chunk.rerank_rank} after reranking is behind the passages shown.",
        }[outcome]

    def advice(self, outcome: Outcome) -> Iterator[Advice]:
        """Settings that would have changed it."""
        query = self.trace.chain.query
        if outcome == "filtered":
            yield Advice(settings={}, detail=f"Without this filter: {self._without_filter()}")
        elif outcome == "lacks_phrase":
            yield Advice(settings={}, detail=f"Without the quotation marks: {self._without_filter()}")
        elif outcome == "missed_by_search":
            if hasattr(self.session.config.store, "exact"):
                yield Advice(settings={"store.exact": True}, detail="An exact search finds it: store.exact: true.")
            else:
                yield Advice(settings={}, detail="A broader search of the store's index would find it.")
        elif outcome in ("not_retrieved", "not_reranked"):
            yield from self._advice_to_rerank()
        elif outcome == "not_relevant":
            best = max(score.relevance for score in self.trace.ranked)
            value = int(best * 100) / 100
            detail = f"With min_relevance {value:.2f} the question would be answered, "
            yield Advice(settings={"retrieval.min_relevance": value}, detail=detail + self._as_passage(query.top_n))
        elif outcome == "below_top_n":
            needed = self._passage_number()
            if needed is not None:
                setting: dict[str, int | float | str | bool] = {"retrieval.top_n": needed}
                yield Advice(settings=setting, detail=f"With top_n {needed} it would be passage {needed}.")

    def _without_filter(self) -> str:
        ranks = [
            f"{name} rank {leg.rank:,}" if leg.rank is not None else f"no {name} rank"
            for name, leg in self.chunk.legs.items()
        ]
        return f"{', '.join(ranks)} of {self.trace.total:,}."

    def _advice_to_rerank(self) -> Iterator[Advice]:
        retrieval = self.session.config.retrieval
        has_sparse = self.session.store.capabilities.sparse
        modes = (retrieval.mode, "hybrid") if has_sparse and retrieval.mode != "hybrid" else (retrieval.mode,)
        found = settings_that_rerank(self.chunk.chunk_id, self.trace.legs, retrieval, modes)
        if found is None:
            detail = "No top_k and rerank_k that the config allows would have had it reranked: the question says it"
            yield Advice(settings={}, detail=f"{detail} in other words.")
            return
        changed = _changes(found, retrieval.mode, retrieval.top_k, retrieval.rerank_k)
        named = ", ".join(f"{key.removeprefix('retrieval.')} {value}" for key, value in changed.items())
        place = self.chunk.rerank_rank
        then = ""
        if place is not None:
            then = f" Its score, {self.chunk.score:.3f}, would be place {place} among those reranked now"
            then += "." if place <= self.trace.chain.query.top_n else ", too far down to be shown."
        yield Advice(settings=changed, detail=f"With {named} it would have been reranked.{then}")

    def _passage_number(self) -> int | None:
        """Its number among the passages if all of those reranked were shown."""
        payloads = {hit.id: hit.payload for hit in self.trace.hits}
        session = self.session
        builder = ContextBuilder(session.config.retrieval, session.store, session.ledger, session.snapshot)
        made = builder.passages(self.trace.ranked, payloads, len(self.trace.ranked))
        return next((n for n, passage in enumerate(made, 1) if self._is_within(passage)), None)

    def _is_within(self, passage: Passage) -> bool:
        chunk = self.chunk
        return (
            (passage.best.source_id, passage.best.source_version) == (chunk.source_id, chunk.source_version)
            and passage.byte_start <= chunk.byte_start
            and chunk.byte_end <= passage.byte_end
        )

    def _as_passage(self, top_n: int) -> str:
        number = self._passage_number()
        if number is None:
            return "though not with this chunk: a better one says the same."
        return f"and this would be passage {number}." if number <= top_n else f"but top_n {top_n} ends before this one."


def _word_advice(words: list[QueryWord], chunk: ExplainedChunk) -> Iterator[Advice]:
    """The words of the question that the chunk lacks, and what it says instead."""
    lacking = []
    for word in words:
        cell = word.chunks.get(chunk.chunk_id)
        if cell is None or not word.terms or cell.sparse > 0:
            continue
        if cell.similarity is not None and cell.nearest is not None and cell.similarity >= _WEAK_SIMILARITY:
            lacking.append(f"{word.text!r} does not occur in it; the nearest it says is {cell.nearest!r}")
        elif word.chunk_count == 0:
            lacking.append(f"{word.text!r} occurs nowhere in the index")
        else:
            lacking.append(f"{word.text!r} does not occur in it, nor anything near it")
    if lacking:
        told = "; ".join(lacking)
        yield Advice(settings={}, detail=f"{told[0].upper()}{told[1:]}.")


def _changes(found: Settings, mode: str, top_k: int, rerank_k: int) -> dict[str, int | float | str | bool]:
    wanted: dict[str, tuple[int | str, int | str]] = {
        "retrieval.mode": (found.mode, mode),
        "retrieval.top_k": (found.top_k, top_k),
        "retrieval.rerank_k": (found.rerank_k, rerank_k),
    }
    return {key: new for key, (new, old) in wanted.items() if new != old}


def _score(chunk: ExplainedChunk) -> str:
    return f"score {chunk.score:.3f}{_parts(chunk.score_parts)}"


def _parts(parts: object) -> str:
    summands = dict(parts) if isinstance(parts, dict) else {}
    return f" = {' + '.join(f'{name} {part:.3f}' for name, part in summands.items())}" if summands else ""


def _passages(ranks: list[int]) -> str:
    return f"passage {ranks[0]}" if len(ranks) == 1 else f"the passages {', '.join(map(str, ranks))}"


def _origin(origin: str) -> str:
    return "the query's filter" if origin == "query" else "the config's retrieval.filter"


def _step(stage: str, detail: str) -> Step:
    return Step.model_validate({"stage": stage, "outcome": "passed", "detail": detail})


def _lost(stage: str, detail: str) -> Step:
    return Step.model_validate({"stage": stage, "outcome": "lost", "detail": detail})
