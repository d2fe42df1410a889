"""LangChain's embeddings over ragstack."""

from __future__ import annotations

from langchain_core.embeddings import Embeddings

from ragstack.integrations.langchain.connection import ModelConnection


class RagstackEmbeddings(ModelConnection, Embeddings):
    """The vectors of the pipeline's embedding model, each of length 1.

    Queries are embedded as queries and documents as passages: models that tell the two apart need it. A text longer
    than the model reads raises EmbeddingError (over a server, what it says), unless ``truncate`` says what to cut.

        RagstackEmbeddings(pipeline={"embedder": {"model": "all-MiniLM-L6-v2"}}).embed_query("How long?")
    """

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """The vectors of passages, in their order."""
        return self._backend.embed(texts, "passage").tolist() if texts else []

    def embed_query(self, text: str) -> list[float]:
        """The vector of a question."""
        vector: list[float] = self._backend.embed([text], "query")[0].tolist()
        return vector

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """:meth:`embed_documents` for callers that must not block."""
        return (await self._backend.aembed(texts, "passage")).tolist() if texts else []

    async def aembed_query(self, text: str) -> list[float]:
        """:meth:`embed_query` for callers that must not block."""
        vector: list[float] = (await self._backend.aembed([text], "query"))[0].tolist()
        return vector
