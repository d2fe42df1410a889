"""Haystack: text files, its default splitter, its in-memory store; BM25 and embedding retrieval joined by RRF."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"

from haystack import Document, Pipeline, component
from haystack.components.converters import TextFileToDocument
from haystack.components.joiners import DocumentJoiner
from haystack.components.preprocessors import DocumentSplitter
from haystack.components.retrievers.in_memory import InMemoryBM25Retriever, InMemoryEmbeddingRetriever
from haystack.components.writers import DocumentWriter
from haystack.document_stores.in_memory import InMemoryDocumentStore
from minilm import MiniLm
from task import DEPTH, Indexed, Task, run


@component
class DocumentEmbedder:
    """As SentenceTransformersDocumentEmbedder: each document's content."""

    def __init__(self, model: MiniLm) -> None:
        self._model = model

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """The documents with their embeddings."""
        vectors = self._model.embed([document.content or "" for document in documents])
        return {"documents": [replace(d, embedding=v) for d, v in zip(documents, vectors, strict=True)]}


@component
class TextEmbedder:
    """As SentenceTransformersTextEmbedder."""

    def __init__(self, model: MiniLm) -> None:
        self._model = model

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, Any]:
        """The text's embedding."""
        return {"embedding": self._model.embed([text])[0]}


def build(task: Task) -> Indexed:
    """Index the files, and give what asks."""
    model = MiniLm(task.weights, task.vocabulary)
    store = InMemoryDocumentStore(embedding_similarity_function="cosine")
    indexing = Pipeline()
    indexing.add_component("convert", TextFileToDocument())
    indexing.add_component("split", DocumentSplitter())
    indexing.add_component("embed", DocumentEmbedder(model))
    indexing.add_component("write", DocumentWriter(store))
    for first, second in (("convert", "split"), ("split", "embed"), ("embed", "write")):
        indexing.connect(f"{first}.documents", f"{second}.documents")
    indexing.run({"convert": {"sources": sorted(Path(task.corpus).iterdir())}})
    given, read = model.tokens_given, model.tokens_read
    asking = Pipeline()
    asking.add_component("embed", TextEmbedder(model))
    asking.add_component("dense", InMemoryEmbeddingRetriever(store, top_k=DEPTH))
    asking.add_component("sparse", InMemoryBM25Retriever(store, top_k=DEPTH))
    asking.add_component("join", DocumentJoiner(join_mode="reciprocal_rank_fusion", top_k=DEPTH))
    asking.connect("embed.embedding", "dense.query_embedding")
    asking.connect("dense.documents", "join.documents")
    asking.connect("sparse.documents", "join.documents")

    def search(text: str) -> Iterable[str]:
        found = asking.run({"embed": {"text": text}, "sparse": {"query": text}})["join"]["documents"]
        return [document.meta["file_path"] for document in found]

    return Indexed(f"haystack-ai {version('haystack-ai')}", store.count_documents(), given, read, search)


if __name__ == "__main__":
    run(build)
