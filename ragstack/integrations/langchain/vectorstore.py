"""LangChain's vector store over any of ragstack's stores."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore
from typing_extensions import Self

from ragstack.adapters.base import CollectionSpec, Hit, SearchParams
from ragstack.adapters.base import VectorStore as RecordStore
from ragstack.errors import EmbeddingError, InputError
from ragstack.filters import And, Filter, as_filter, bind_filter
from ragstack.integrations.langchain.local import AnyPipeline, LocalPipeline
from ragstack.integrations.langchain.mmr import max_marginal_relevance
from ragstack.integrations.langchain.records import Entry, check_fields, document_of, entries_of, record_id
from ragstack.integrations.langchain.retriever import FilterLike
from ragstack.types import Float32Array

_BATCH_SIZE = 512


class RagstackVectorStore(VectorStore):
    """Documents in a collection of their own in the store of a pipeline's config, searched by cosine.

        store = RagstackVectorStore(pipeline=ragstack.open("ragstack.yaml"), fields={"year": "integer"})
        store.add_texts(["Records are kept for ten years."], [{"year": 2024}], ids=["rule-7"])
        store.similarity_search("How long?", k=4, filter={"field": "year", "op": "gte", "value": 2020})

    The collection stands beside the pipeline's own index and is no part of it: these documents have no sources, so
    there is nothing to cite. ``embedding`` is any of LangChain's; None means the pipeline's embedder. ``fields`` are
    the metadata keys that filters may name, with their types (:mod:`ragstack.filters`); the config's ``fields`` are
    among them. ``pipeline`` is an opened one, which stays open, or what :func:`ragstack.open` takes; ``store`` is
    taken instead of the pipeline's where it is given, and stays open too.

    Metadata is a JSON object and comes back equal (tuples as lists). A document that is added under the id of
    another replaces it. Scores are cosines, larger is better. Safe to use from several threads.

    Raises InputError for metadata that is not JSON, a declared field with a value of another type, or ids and
    metadatas that do not fit the texts; FilterError for a filter that names an undeclared field; CollectionError when
    the collection holds vectors of another dimension; what else the store raises
    (:class:`ragstack.adapters.base.VectorStore`).
    """

    def __init__(
        self,
        embedding: Embeddings | None = None,
        *,
        pipeline: AnyPipeline | None = None,
        store: RecordStore | None = None,
        collection: str = "langchain",
        fields: Mapping[str, Any] | None = None,
    ) -> None:
        """``pipeline`` may be left out where ``store`` and ``embedding`` are given. Nothing is opened yet."""
        if pipeline is None and (store is None or embedding is None):
            raise InputError(
                "RagstackVectorStore takes a pipeline, or a store and an embedding.",
                hint="Pass pipeline=ragstack.open('ragstack.yaml').",
            )
        self._local = None if pipeline is None else LocalPipeline(pipeline)
        self._given_store = store
        self._embedding = embedding
        self._given_fields = check_fields(fields or {})
        self._collection = collection
        self._known = False
        self._opening = threading.Lock()

    @property
    def embeddings(self) -> Embeddings:
        """What makes the vectors."""
        with self._opening:
            if self._embedding is None:
                from ragstack.integrations.langchain.embeddings import RagstackEmbeddings  # noqa: PLC0415

                self._embedding = RagstackEmbeddings(pipeline=self._pipeline.pipeline)
            return self._embedding

    @property
    def store(self) -> RecordStore:
        """The store that holds the documents."""
        return self._given_store if self._given_store is not None else self._pipeline.pipeline.shared.store

    @property
    def fields(self) -> dict[str, Any]:
        """The metadata keys that filters may name, with their types."""
        declared = {} if self._local is None else self._local.pipeline.config.fields
        return {**{name: field.type for name, field in declared.items()}, **self._given_fields}

    # Writing

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        batch_size: int = _BATCH_SIZE,
        **kwargs: Any,
    ) -> list[str]:
        """Embed and store texts, ``batch_size`` at a time; returns their ids, new ones where none are given.

        An id that exists is replaced. Everything is checked before the first batch is written.
        """
        _refuse(kwargs)
        entries = entries_of(list(texts), metadatas, ids, self.fields)
        for batch in _batches(entries, batch_size):
            self._write(batch, self.embeddings.embed_documents([entry.text for entry in batch]))
        return [entry.id for entry in entries]

    async def aadd_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        batch_size: int = _BATCH_SIZE,
        **kwargs: Any,
    ) -> list[str]:
        """:meth:`add_texts` for callers that must not block."""
        _refuse(kwargs)
        entries = await asyncio.to_thread(lambda: entries_of(list(texts), metadatas, ids, self.fields))
        for batch in _batches(entries, batch_size):
            vectors = await self.embeddings.aembed_documents([entry.text for entry in batch])
            await asyncio.to_thread(self._write, batch, vectors)
        return [entry.id for entry in entries]

    def delete(
        self, ids: Sequence[str] | None = None, *, filter: FilterLike | None = None, **kwargs: Any
    ) -> bool | None:
        """Delete documents by id or by filter; all of them without either. Unknown ids are no error."""
        _refuse(kwargs)
        if ids is not None and filter is not None:
            raise InputError("delete takes either ids or a filter.", hint="Pass one of the two.")
        narrowed = self._bound(filter)
        if self._exists():
            if ids is not None:
                self.store.delete(self._collection, ids=[record_id(i) for i in ids])
            else:
                self.store.delete(self._collection, filter=And(()) if narrowed is None else narrowed)
        return True

    async def adelete(
        self, ids: Sequence[str] | None = None, *, filter: FilterLike | None = None, **kwargs: Any
    ) -> bool | None:
        """:meth:`delete` for callers that must not block."""
        _refuse(kwargs)
        return await asyncio.to_thread(self.delete, ids, filter=filter)

    # Reading

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """The documents that exist among ``ids``, in that order."""
        if not ids or not self._exists():
            return []
        wanted = [record_id(i) for i in ids]
        found = self.store.fetch(self._collection, list(dict.fromkeys(wanted)))
        return [document_of(found[i].payload) for i in wanted if i in found]

    async def aget_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """:meth:`get_by_ids` for callers that must not block."""
        return await asyncio.to_thread(self.get_by_ids, ids)

    def similarity_search(
        self, query: str, k: int = 4, *, filter: FilterLike | None = None, **kwargs: Any
    ) -> list[Document]:
        """The ``k`` documents most like ``query``, best first."""
        return [document for document, _ in self.similarity_search_with_score(query, k, filter=filter, **kwargs)]

    async def asimilarity_search(
        self, query: str, k: int = 4, *, filter: FilterLike | None = None, **kwargs: Any
    ) -> list[Document]:
        """:meth:`similarity_search` for callers that must not block."""
        found = await self.asimilarity_search_with_score(query, k, filter=filter, **kwargs)
        return [document for document, _ in found]

    def similarity_search_with_score(
        self, query: str, k: int = 4, *, filter: FilterLike | None = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """The ``k`` documents most like ``query`` with their cosines, best first."""
        _refuse(kwargs)
        return self.similarity_search_with_score_by_vector(self.embeddings.embed_query(query), k, filter=filter)

    async def asimilarity_search_with_score(
        self, query: str, k: int = 4, *, filter: FilterLike | None = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """:meth:`similarity_search_with_score` for callers that must not block."""
        _refuse(kwargs)
        vector = await self.embeddings.aembed_query(query)
        return await asyncio.to_thread(self.similarity_search_with_score_by_vector, vector, k, filter=filter)

    def similarity_search_by_vector(
        self, embedding: list[float], k: int = 4, *, filter: FilterLike | None = None, **kwargs: Any
    ) -> list[Document]:
        """The ``k`` documents nearest to a vector, best first."""
        _refuse(kwargs)
        return [document for document, _ in self.similarity_search_with_score_by_vector(embedding, k, filter=filter)]

    def similarity_search_with_score_by_vector(
        self, embedding: list[float], k: int = 4, *, filter: FilterLike | None = None
    ) -> list[tuple[Document, float]]:
        """The ``k`` documents nearest to a vector with their cosines, best first."""
        return [(document_of(hit.payload), hit.score) for hit in self._nearest(embedding, k, filter)]

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        *,
        filter: FilterLike | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        """``k`` of the ``fetch_k`` most similar documents: like the query and unlike one another.

        ``lambda_mult`` from 0 (most diverse) to 1 (most similar).
        """
        _refuse(kwargs)
        vector = self.embeddings.embed_query(query)
        return self.max_marginal_relevance_search_by_vector(vector, k, fetch_k, lambda_mult, filter=filter)

    async def amax_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        *,
        filter: FilterLike | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        """:meth:`max_marginal_relevance_search` for callers that must not block."""
        _refuse(kwargs)
        vector = await self.embeddings.aembed_query(query)
        return await asyncio.to_thread(
            self.max_marginal_relevance_search_by_vector, vector, k, fetch_k, lambda_mult, filter=filter
        )

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        *,
        filter: FilterLike | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        """:meth:`max_marginal_relevance_search` for a vector."""
        _refuse(kwargs)
        hits = self._nearest(embedding, max(fetch_k, k), filter)
        records = self.store.fetch(self._collection, [hit.id for hit in hits]) if hits else {}
        # A document may be deleted between the two requests.
        kept = [(hit, records[hit.id].dense) for hit in hits if hit.id in records]
        chosen = max_marginal_relevance(_vector(embedding), [dense for _, dense in kept], k, lambda_mult)
        return [document_of(kept[index][0].payload) for index in chosen]

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings | None = None,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        pipeline: AnyPipeline | None = None,
        store: RecordStore | None = None,
        collection: str = "langchain",
        fields: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Self:
        """A vector store with ``texts`` added to what its collection holds; see the class for the arguments."""
        _refuse(kwargs)
        made = cls(embedding, pipeline=pipeline, store=store, collection=collection, fields=fields)
        made.add_texts(texts, metadatas, ids=ids)
        return made

    def close(self) -> None:
        """Close the pipeline if it was opened here. Idempotent."""
        if self._local is not None:
            self._local.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        return lambda cosine: min(max(cosine, 0.0), 1.0)

    @property
    def _pipeline(self) -> LocalPipeline:
        assert self._local is not None, "the constructor asks for a pipeline where it is needed"
        return self._local

    def _write(self, entries: Sequence[Entry], vectors: Sequence[Sequence[float]]) -> None:
        if len(vectors) != len(entries):
            raise EmbeddingError(f"the embeddings gave {len(vectors)} vectors for {len(entries)} texts.")
        records = [entry.record(_vector(vector)) for entry, vector in zip(entries, vectors, strict=True)]
        if not self._known:
            self.store.ensure_collection(CollectionSpec(self._collection, len(records[0].dense), self.fields))
            self._known = True
        self.store.upsert(self._collection, records)

    def _nearest(self, embedding: Sequence[float], k: int, filter: FilterLike | None) -> list[Hit]:
        if k < 1:
            raise InputError(f"k must be 1 or more; got {k}.")
        narrowed = self._bound(filter)
        if not self._exists():
            return []
        block = None if self._local is None else self._local.pipeline.config.store
        params = SearchParams(exact=getattr(block, "exact", False), ef_search=getattr(block, "ef_search", None))
        return self.store.search_dense(self._collection, _vector(embedding), k, filter=narrowed, params=params)

    def _exists(self) -> bool:
        """Whether anything was ever added; a collection is made when its first document tells the dimension."""
        if not self._known and self._collection in self.store.collections():
            self._known = True
        return self._known

    def _bound(self, filter: FilterLike | None) -> Filter | None:
        parsed = as_filter(filter)
        return None if parsed is None else bind_filter(parsed, self.fields)


def _batches(entries: Sequence[Entry], batch_size: int) -> Iterator[Sequence[Entry]]:
    if batch_size < 1:
        raise InputError(f"batch_size must be 1 or more; got {batch_size}.")
    for start in range(0, len(entries), batch_size):
        yield entries[start : start + batch_size]


def _vector(values: Sequence[float]) -> Float32Array:
    return np.asarray(values, dtype=np.float32)


def _refuse(kwargs: Mapping[str, Any]) -> None:
    """LangChain's signatures take anything; what is not known here is a mistake, not an option."""
    if kwargs:
        raise TypeError(f"unexpected arguments: {', '.join(sorted(kwargs))}")
