from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest

from ragstack.embedding.bm25 import Bm25Encoder
from ragstack.errors import EmbeddingError
from ragstack.indexer.encoding import Encoding
from ragstack.indexer.prepare import PreparedChunk
from ragstack.indexer.reuse import EmbeddingCache, StoredVectors
from ragstack.testing.hashing_embedder import HashingEmbedder
from ragstack.types import Chunk


class Cache:
    """Knows the text of the first chunk."""

    def find(self, texts: Sequence[str]) -> dict[int, StoredVectors]:
        return {0: StoredVectors(np.ones(64, dtype=np.float32), None, None)}


class Later(HashingEmbedder):
    """Says what is wrong with a text when its vectors are asked for."""

    def submit(self, texts: Sequence[str], input_type: Any, outputs: Any = ("dense",)) -> Any:
        made = self

        class Pending:
            def result(self) -> Any:
                return made.embed(texts, input_type, outputs)

            def cancel(self) -> None: ...

        return Pending()

    def preload(self) -> None: ...


@pytest.mark.parametrize("kind", [HashingEmbedder, Later])
def test_a_text_that_cannot_be_embedded_is_named_as_the_chunk_it_is(kind: type[HashingEmbedder]) -> None:
    texts = ["known", "two words", "more than three words", "fine"]
    chunks = [Chunk(f"id-{i}", f"docs/{i}.md", "v", 10, 30, text, 4) for i, text in enumerate(texts)]
    prepared = [PreparedChunk(chunk, "text/plain", "text/1 text/plain", "") for chunk in chunks]
    encoding = Encoding(kind(max_tokens=3), Bm25Encoder(), False, cast(EmbeddingCache, Cache()))
    with pytest.raises(EmbeddingError) as raised:
        encoding.begin(prepared).finish()
    assert raised.value.message.startswith("docs/2.md: chunk id-2 (bytes 10 to 30): 4 tokens; the hashing embedder")
    assert raised.value.hint == "Cut the text, or lower chunker.max_tokens."
