"""ragstack for LangChain (langchain-core 1.x): retriever, embeddings, document compressor, vector store.

Each works over a pipeline in this process or over a server's URL, save the vector store, which talks to its store
itself. Nothing is opened, loaded or connected before it is used.
"""

from __future__ import annotations

from ragstack.errors import MissingExtraError

try:
    from ragstack.integrations.langchain.embeddings import RagstackEmbeddings
    from ragstack.integrations.langchain.reranker import RagstackReranker
    from ragstack.integrations.langchain.retriever import RagstackRetriever
    from ragstack.integrations.langchain.vectorstore import RagstackVectorStore
except ImportError as error:
    if (error.name or "").partition(".")[0] != "langchain_core":
        raise
    raise MissingExtraError("ragstack.integrations.langchain", "langchain") from error

__all__ = ["RagstackEmbeddings", "RagstackReranker", "RagstackRetriever", "RagstackVectorStore"]
