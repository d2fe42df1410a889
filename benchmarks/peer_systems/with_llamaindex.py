"""LlamaIndex: its directory reader, its default splitter, its vector index; fused with its BM25 retriever by RRF."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

import Stemmer
from llama_index.core import SimpleDirectoryReader, VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.llms import MockLLM
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.retrievers import QueryFusionRetriever
from llama_index.retrievers.bm25 import BM25Retriever
from minilm import MiniLm
from task import DEPTH, Indexed, Task, run


class Embedding(BaseEmbedding):
    """As HuggingFaceEmbedding, with batches large enough to be sorted by length."""

    _model: MiniLm = PrivateAttr()

    def __init__(self, model: MiniLm) -> None:
        super().__init__(embed_batch_size=2048)
        self._model = model

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._model.embed([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._model.embed(texts)

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._model.embed([query])[0]

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_query_embedding(query)


def build(task: Task) -> Indexed:
    """Index the files, and give what asks."""
    model = MiniLm(task.weights, task.vocabulary)
    documents = SimpleDirectoryReader(task.corpus).load_data()
    for document in documents:
        # By default the path is embedded with the text, which says nothing here and takes room.
        document.excluded_embed_metadata_keys = list(document.metadata)
        document.excluded_llm_metadata_keys = list(document.metadata)
    nodes = SentenceSplitter().get_nodes_from_documents(documents)
    index = VectorStoreIndex(nodes, embed_model=Embedding(model))
    options: dict[str, Any] = {"stemmer": Stemmer.Stemmer("english"), "language": "en"}
    sparse = BM25Retriever.from_defaults(nodes=nodes, similarity_top_k=min(DEPTH, len(nodes)), **options)
    given, read = model.tokens_given, model.tokens_read
    fused = QueryFusionRetriever(
        [index.as_retriever(similarity_top_k=DEPTH), sparse],
        llm=MockLLM(),
        mode="reciprocal_rerank",
        similarity_top_k=DEPTH,
        num_queries=1,
        use_async=False,
    )

    def search(text: str) -> Iterable[str]:
        return [found.node.metadata["file_name"] for found in fused.retrieve(text)]

    return Indexed(f"llama-index-core {version('llama-index-core')}", len(nodes), given, read, search)


if __name__ == "__main__":
    run(build)
