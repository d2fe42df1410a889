"""The seam between documents and chunks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ragstack.types import ChunkSpan, Document, Tokenizer


class Chunker(Protocol):
    """Cuts one document into spans.

    For every document:

    * spans are sorted by ``byte_start``, then ``byte_end``; none is empty or only white space, and
      none starts or ends with white space;
    * each bound is on a character boundary of the UTF-8 text, so that C1 holds;
    * coverage: every byte that is not white space is in at least one span, except those of
      ``metadata`` blocks (front matter), which are in none;
    * ``token_count`` equals ``tokenizer.count([text])`` and is at most ``max_tokens``, whatever the
      text (a word longer than that is cut; InputError for a single character with more tokens);
    * neighbours share at most ``overlap_tokens`` tokens; without overlap they share no byte;
    * the result depends on the document and the settings alone.

    ``fingerprint`` is the JSON-able part of the pipeline fingerprint: implementation version and the
    settings that change its output.
    """

    fingerprint: dict[str, object]

    def chunk(self, document: Document, tokenizer: Tokenizer) -> Sequence[ChunkSpan]: ...
