"""LangChain's document compressor over ragstack's rerankers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from pydantic import Field

from ragstack.integrations.langchain.backend import Ranked
from ragstack.integrations.langchain.connection import ModelConnection


class RagstackReranker(ModelConnection, BaseDocumentCompressor):
    """Orders documents by how well they answer the question, and keeps the best.

    It is the reranker of the pipeline's config, over any texts; what it says is ``relevance_score`` in the metadata
    of the documents returned (larger is better), which are copies. Documents come from anywhere: another retriever,
    or several.
    """

    truncate: Literal["NONE", "END"] = "NONE"
    """What is cut off a text that is longer than the model reads; ``NONE``: such a text is an error."""

    top_n: int | None = Field(default=None, ge=1)
    """Documents kept at most; None keeps all, in the new order."""

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """The best ``top_n`` of ``documents``, best first."""
        if not documents:
            return []
        return self._kept(documents, self._backend.rank(query, [document.page_content for document in documents]))

    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """:meth:`compress_documents` for callers that must not block."""
        if not documents:
            return []
        texts = [document.page_content for document in documents]
        return self._kept(documents, await self._backend.arank(query, texts))

    def _kept(self, documents: Sequence[Document], ranked: Sequence[Ranked]) -> list[Document]:
        return [
            documents[item.index].model_copy(
                update={"metadata": {**documents[item.index].metadata, "relevance_score": item.score}}
            )
            for item in ranked[: self.top_n]
        ]
