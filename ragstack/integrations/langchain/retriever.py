"""LangChain's retriever over ragstack."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever, LangSmithRetrieverParams
from pydantic import Field, field_validator

from ragstack.filters import Filter, all_of, as_filter, filter_to_json
from ragstack.integrations.langchain.connection import Connection
from ragstack.integrations.langchain.documents import passage_documents

FilterLike = Filter | Mapping[str, Any]


class RagstackRetriever(Connection, BaseRetriever):
    """The passages that answer a question, best first, as documents whose metadata is their citation.

    ``k`` and ``filter`` may also be given with a call, ``retriever.invoke(question, k=3)``; a call's filter is put
    beside the retriever's and the config's and widens neither. Nothing relevant gives no documents.

        retriever = RagstackRetriever(pipeline=ragstack.open("ragstack.yaml"), k=4)
        retriever.invoke("How long are records kept?")[0].metadata["source_uri"]

    Metadata: ``source_id``, ``source_uri``, ``source_version`` (SHA-256 of the raw source), ``byte_start`` and
    ``byte_end`` (canonical text), ``source_ranges`` (raw source), ``line_start``, ``line_end``, ``heading_path``,
    ``citation_id``, ``chunk_ids``, ``rank``, ``score``, ``relevance`` and what else a
    :class:`ragstack.citations.chain.Place` says. ``citation_status``: with ``verify``, what checking the passage
    against its source gave (:mod:`ragstack.citations.verify`); None over a server, which tells none of passages.

    Raises InputError for an empty or too long question and a ``k`` that is not between 1 and ``rerank_k``,
    FilterError, IndexNotFoundError and, from a server, what :class:`ragstack.Client` raises.
    """

    k: int | None = Field(default=None, ge=1)
    """Passages returned at most; None: the pipeline's ``retrieval.top_n``."""

    filter: FilterLike | None = None
    """A filter in ragstack's grammar (:mod:`ragstack.filters`), put on every question."""

    verify: bool = True
    """Check each passage of a local pipeline against its source: reads and hashes the files they are from."""

    @field_validator("filter", mode="before")
    @classmethod
    def _filter_parses(cls, value: Any) -> Any:
        return as_filter(value)

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,
        k: int | None = None,
        filter: FilterLike | None = None,
    ) -> list[Document]:
        found = self._backend.retrieve(query, self._narrowed(filter), self.k if k is None else k, self.verify)
        return passage_documents(found.chain, found.statuses)

    async def _aget_relevant_documents(
        self,
        query: str,
        *,
        run_manager: AsyncCallbackManagerForRetrieverRun,
        k: int | None = None,
        filter: FilterLike | None = None,
    ) -> list[Document]:
        narrowed = self._narrowed(filter)
        found = await self._backend.aretrieve(query, narrowed, self.k if k is None else k, self.verify)
        return passage_documents(found.chain, found.statuses)

    def _narrowed(self, filter: FilterLike | None) -> dict[str, Any] | None:
        both = all_of(as_filter(self.filter), as_filter(filter))
        return None if both is None else filter_to_json(both)

    def _get_ls_params(self, **kwargs: Any) -> LangSmithRetrieverParams:
        return LangSmithRetrieverParams(ls_retriever_name="ragstack")
