"""How telling a query's tokens are in the indexed corpus, for rankings of texts that are not part of it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from ragstack.config.models import PipelineConfig
from ragstack.errors import IndexNotFoundError
from ragstack.ledger.schema import TOKENS
from ragstack.ledger.snapshot import SnapshotReader
from ragstack.reranking.base import no_idf
from ragstack.retrieval.generation_parts import as_indexed, token_idf
from ragstack.types import Float32Array, TokenVectors


def corpus_idf(config: PipelineConfig, state_dir: Path, tokens: TokenVectors) -> Float32Array:
    """Inverse document frequencies of a query's tokens, prepared as the index prepares them: ``(t,) float32``.

    All 1 without an index, with an empty one, and with one that another model was used for: its tokens are others.
    """
    try:
        reader = SnapshotReader(state_dir)
    except IndexNotFoundError:
        return no_idf(len(tokens))
    with closing(reader):
        try:
            with reader.consistent():
                snapshot = reader.read()
                counts = reader.frequencies(snapshot.generation, TOKENS, tokens.token_ids.tolist())
        except IndexNotFoundError:
            return no_idf(len(tokens))
    if as_indexed(config, snapshot).embedder != config.embedder or not snapshot.chunk_count:
        return no_idf(len(tokens))
    return token_idf(counts, snapshot.chunk_count)
