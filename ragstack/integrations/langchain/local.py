"""A pipeline in this process behind LangChain's objects."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from ragstack.embedding.base import InputType
from ragstack.integrations.langchain.backend import Ranked, Retrieved, Truncate
from ragstack.integrations.langchain.texts import cut_texts
from ragstack.types import Float32Array

if TYPE_CHECKING:
    from ragstack.config.models import PipelineConfig
    from ragstack.pipeline import Pipeline

AnyPipeline: TypeAlias = "Pipeline | PipelineConfig | Mapping[str, Any] | str | os.PathLike[str]"


class LocalPipeline:
    """A :class:`ragstack.integrations.langchain.backend.Backend` over a pipeline, or over what one is opened from.

    A pipeline that was given stays open; one that was opened here is closed with this. Async calls run in threads.
    """

    def __init__(self, given: AnyPipeline, truncate: Truncate = "NONE") -> None:
        self._given = given
        self._truncate = truncate
        self._opening = threading.Lock()
        self._opened: Pipeline | None = None

    @property
    def pipeline(self) -> Pipeline:
        """The pipeline, opened on first use. Raises ConfigError."""
        from ragstack.pipeline import Pipeline, open_pipeline  # noqa: PLC0415 - heavy; remote use needs none of it

        if isinstance(self._given, Pipeline):
            return self._given
        with self._opening:
            if self._opened is None:
                self._opened = open_pipeline(self._given)
            return self._opened

    def retrieve(self, text: str, filter: Mapping[str, Any] | None, top_n: int | None, verify: bool) -> Retrieved:
        """See :class:`ragstack.integrations.langchain.backend.Backend`."""
        result = self.pipeline.query(text, filter=filter, top_n=top_n, with_answer=False)
        if not verify:
            return Retrieved(result.chain)
        statuses = {finding.where: finding.status for finding in self.pipeline.verify(result.chain)}
        return Retrieved(result.chain, tuple(statuses[f"passage {passage.rank}"] for passage in result.passages))

    async def aretrieve(
        self, text: str, filter: Mapping[str, Any] | None, top_n: int | None, verify: bool
    ) -> Retrieved:
        """See :meth:`retrieve`."""
        return await asyncio.to_thread(self.retrieve, text, filter, top_n, verify)

    def embed(self, texts: Sequence[str], input_type: InputType) -> Float32Array:
        """See :class:`ragstack.integrations.langchain.backend.Backend`."""
        embedder = self.pipeline.embedder
        dense = embedder.embed(cut_texts(embedder, texts, input_type, self._truncate), input_type).dense
        if dense is None:
            raise ValueError("the embedder did not return what it was asked for")
        return dense

    async def aembed(self, texts: Sequence[str], input_type: InputType) -> Float32Array:
        """See :class:`ragstack.integrations.langchain.backend.Backend`."""
        return await asyncio.to_thread(self.embed, texts, input_type)

    def rank(self, query: str, texts: Sequence[str]) -> list[Ranked]:
        """See :class:`ragstack.integrations.langchain.backend.Backend`."""
        from ragstack.integrations.langchain.ranking import rank_texts  # noqa: PLC0415 - heavy, as above

        return rank_texts(self.pipeline, query, texts, self._truncate)

    async def arank(self, query: str, texts: Sequence[str]) -> list[Ranked]:
        """See :class:`ragstack.integrations.langchain.backend.Backend`."""
        return await asyncio.to_thread(self.rank, query, texts)

    def close(self) -> None:
        """See :class:`ragstack.integrations.langchain.backend.Backend`."""
        with self._opening:
            if self._opened is not None:
                self._opened.close()
