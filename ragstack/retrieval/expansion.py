"""Chunks around a hit: its neighbours in the document, or the section that it stands in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ragstack.adapters.base import Payload
from ragstack.ledger.spans import StoredSpan
from ragstack.retrieval.passages import DocumentChunk, Passage
from ragstack.types import chunk_id


@dataclass(frozen=True)
class Expansion:
    """Grows hits to at most ``max_tokens`` tokens, alternately by the next chunk and by the one before.

    ``neighbours`` takes any chunk of the document, ``section`` those below the hit's own heading: of the same
    ``heading_path``, or of one that goes on from it. ``spans_of`` gives the chunks of a file by its ``source_id`` and
    version; ``payloads_of`` stored payloads by chunk id; ``fingerprint`` is the generation's.

    What a filter lets a query see of a document is the whole document: fields are those of the document. So chunks
    around a hit need no filter.
    """

    kind: Literal["neighbours", "section"]
    max_tokens: int
    fingerprint: str
    spans_of: Callable[[str, str], Sequence[StoredSpan]]
    payloads_of: Callable[[Sequence[str]], Mapping[str, Payload]]

    def __call__(self, hit: DocumentChunk, passages: Sequence[Passage]) -> list[DocumentChunk]:
        """The chunks to be added, in document order; none that overlaps one of ``passages``."""
        chunk = hit.chunk
        spans = [s for s in self.spans_of(hit.container, chunk.source_version) if s.record == hit.record]
        spans.sort(key=lambda span: (span.byte_start, span.byte_end))
        ranges = [(span.byte_start, span.byte_end) for span in spans]
        if (chunk.byte_start, chunk.byte_end) not in ranges:
            return []
        here = ranges.index((chunk.byte_start, chunk.byte_end))
        counts = [span.token_count for span in spans]
        reach = within_reach(counts, here, self.max_tokens)
        found = self._chunks(hit, [spans[index] for index in reach if index != here])
        others = [passage for passage in passages if passage.hits[0].same_document(hit)]
        path = chunk.heading_path

        def allowed(index: int) -> bool:
            neighbour = found.get(ranges[index])
            if neighbour is None or any(passage.overlaps(neighbour) for passage in others):
                return False
            return self.kind == "neighbours" or neighbour.chunk.heading_path[: len(path)] == path

        taken = around(counts, here, allowed, self.max_tokens)
        return [found[ranges[index]] for index in taken if index != here]

    def _chunks(self, hit: DocumentChunk, spans: Sequence[StoredSpan]) -> dict[tuple[int, int], DocumentChunk]:
        source_id, version = hit.chunk.source_id, hit.chunk.source_version
        ids = [chunk_id(source_id, version, s.byte_start, s.byte_end, self.fingerprint) for s in spans]
        payloads = self.payloads_of(ids) if ids else {}
        found = (DocumentChunk.of(identity, payloads[identity]) for identity in ids if identity in payloads)
        return {(each.chunk.byte_start, each.chunk.byte_end): each for each in found}


def within_reach(counts: Sequence[int], here: int, budget: int) -> range:
    """The widest run around ``here`` that any way of growing within ``budget`` tokens could touch."""
    first, left = here, budget - counts[here]
    while first > 0 and counts[first - 1] <= left:
        first -= 1
        left -= counts[first]
    last, left = here, budget - counts[here]
    while last + 1 < len(counts) and counts[last + 1] <= left:
        last += 1
        left -= counts[last]
    return range(first, last + 1)


def around(counts: Sequence[int], here: int, allowed: Callable[[int], bool], budget: int) -> range:
    """A run of indices around ``here`` whose ``counts`` add up to at most ``budget``, ``here`` itself always in it.

    It grows by one index at a time, after and before in turn; a side ends at the first index that is not
    ``allowed`` or does not fit.
    """
    first = last = here
    left = budget - counts[here]
    sides = {1: True, -1: True}
    step = 1
    while any(sides.values()):
        if sides[step]:
            index = last + 1 if step == 1 else first - 1
            if 0 <= index < len(counts) and counts[index] <= left and allowed(index):
                left -= counts[index]
                first, last = min(first, index), max(last, index)
            else:
                sides[step] = False
        step = -step
    return range(first, last + 1)
