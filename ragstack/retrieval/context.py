"""From a ranking to what an answer is made of: passages chosen, grown and put before the generator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ragstack.adapters.base import Payload, VectorStore
from ragstack.config.retrieval import RetrievalConfig
from ragstack.generation.base import ContextPassage
from ragstack.ledger.schema import collection_name
from ragstack.ledger.snapshot import Snapshot, SnapshotReader
from ragstack.reranking.base import RerankScore
from ragstack.retrieval.chain_builder import OpenPassage
from ragstack.retrieval.diversity import mmr_order
from ragstack.retrieval.expansion import Expansion
from ragstack.retrieval.passages import Passage, build_passages
from ragstack.types import TokenVectors, embedded_prefix


@dataclass(frozen=True)
class ContextBuilder:
    """Makes passages of a ranking over one snapshot, as the config says."""

    config: RetrievalConfig
    store: VectorStore
    ledger: SnapshotReader
    snapshot: Snapshot

    def passages(self, ranked: Sequence[RerankScore], payloads: Mapping[str, Payload], top_n: int) -> list[Passage]:
        """The passages to be shown, best first. ``payloads`` are those of the ranked chunks."""
        ordered = ranked if self.config.mmr_lambda is None else self._diverse(ranked, self.config.mmr_lambda)
        if self.config.expand == "none":
            return build_passages(ordered, payloads, top_n)
        expansion = Expansion(
            self.config.expand,
            self.config.expand_tokens,
            self.snapshot.fingerprint,
            lambda source_id, version: self.ledger.chunk_spans(self.snapshot.generation, source_id, version),
            self._payloads,
        )
        return build_passages(ordered, payloads, top_n, expansion)

    def _diverse(self, ranked: Sequence[RerankScore], mmr_lambda: float) -> list[RerankScore]:
        records = self.store.fetch(collection_name(self.snapshot.generation), [score.chunk_id for score in ranked])
        if not records:
            return list(ranked)
        nothing = np.zeros_like(next(iter(records.values())).dense)
        vectors = np.stack([records[s.chunk_id].dense if s.chunk_id in records else nothing for s in ranked])
        return [ranked[index] for index in mmr_order([score.score for score in ranked], vectors, mmr_lambda)]

    def _payloads(self, ids: Sequence[str]) -> dict[str, Payload]:
        records = self.store.fetch(collection_name(self.snapshot.generation), ids)
        return {identity: record.payload for identity, record in records.items()}


def context_passage(rank: int, opened: OpenPassage, tokens: Mapping[str, TokenVectors]) -> ContextPassage:
    """A passage as the generator sees it. ``tokens`` are the token vectors of its members, by chunk id."""
    passage = opened.passage
    best, relevance = passage.best, passage.score.relevance
    found = ContextPassage(rank, best, relevance, tokens[best.chunk_id])
    if (passage.byte_start, passage.byte_end) == (best.byte_start, best.byte_end):
        return found
    whole = replace(
        best,
        byte_start=passage.byte_start,
        byte_end=passage.byte_end,
        text=opened.document.document.text(passage.byte_start, passage.byte_end),
        token_count=sum(member.token_count for member in passage.members),
    )
    return ContextPassage(rank, whole, relevance, _joined(passage, tokens), found)


def _joined(passage: Passage, tokens: Mapping[str, TokenVectors]) -> TokenVectors:
    """The members' token vectors as those of the whole; of the headings' tokens those of the best chunk."""
    prefix = len(embedded_prefix(passage.best.heading_path).encode("utf-8"))
    vectors, ids, spans = [], [], []
    for member in passage.members:
        own = tokens[member.chunk_id]
        own_prefix = len(embedded_prefix(member.heading_path).encode("utf-8"))
        in_text = own.byte_spans[:, 0] >= own_prefix
        shift = prefix - own_prefix + member.byte_start - passage.byte_start
        moved = own.byte_spans + np.int32(shift)
        if member.chunk_id == passage.best.chunk_id:
            moved = np.where(in_text[:, None], moved, own.byte_spans)
            in_text = np.ones(len(own), dtype=bool)
        vectors.append(own.vectors[in_text])
        ids.append(own.token_ids[in_text])
        spans.append(moved[in_text].astype(np.int32))
    return TokenVectors(np.concatenate(vectors), np.concatenate(ids), np.concatenate(spans))
