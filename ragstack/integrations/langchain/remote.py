"""A ragstack server behind LangChain's objects."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from pydantic import SecretStr

from ragstack.client import AsyncClient, Client
from ragstack.embedding.base import InputType
from ragstack.integrations.langchain.backend import Ranked, Retrieved
from ragstack.types import Float32Array


@dataclass
class _Lease:
    client: AsyncClient
    users: int = 0


class RemotePipeline:
    """A :class:`ragstack.integrations.langchain.backend.Backend` over a server.

    Async calls are real ones. Their connections belong to the event loop they are made in and are kept while calls
    are under way there: these objects outlive loops, and nobody tells them when one ends.
    """

    def __init__(
        self, url: str, api_key: SecretStr | None, timeout_s: float, max_retries: int, model: str | None, truncate: str
    ) -> None:
        self._sync = Client(url, api_key, timeout_s=timeout_s, max_retries=max_retries)
        self._server = (url, api_key, timeout_s, max_retries)
        self._model, self._truncate = model, truncate
        self._leasing = threading.Lock()
        self._leases: WeakKeyDictionary[asyncio.AbstractEventLoop, _Lease] = WeakKeyDictionary()

    def retrieve(self, text: str, filter: Mapping[str, Any] | None, top_n: int | None, verify: bool) -> Retrieved:
        """See :class:`ragstack.integrations.langchain.backend.Backend`; the server tells no statuses of passages."""
        return Retrieved(self._sync.retrieve(text, filter=filter, top_n=top_n).chain)

    async def aretrieve(
        self, text: str, filter: Mapping[str, Any] | None, top_n: int | None, verify: bool
    ) -> Retrieved:
        """See :meth:`retrieve`."""
        async with self._leased() as client:
            return Retrieved((await client.retrieve(text, filter=filter, top_n=top_n)).chain)

    def embed(self, texts: Sequence[str], input_type: InputType) -> Float32Array:
        """See :class:`ragstack.integrations.langchain.backend.Backend`."""
        return self._sync.embed(texts, input_type=input_type, model=self._model, truncate=self._truncate)

    async def aembed(self, texts: Sequence[str], input_type: InputType) -> Float32Array:
        """See :class:`ragstack.integrations.langchain.backend.Backend`."""
        async with self._leased() as client:
            return await client.embed(texts, input_type=input_type, model=self._model, truncate=self._truncate)

    def rank(self, query: str, texts: Sequence[str]) -> list[Ranked]:
        """See :class:`ragstack.integrations.langchain.backend.Backend`."""
        found = self._sync.rank(query, texts, model=self._model, truncate=self._truncate)
        return [Ranked(item.index, item.logit) for item in found]

    async def arank(self, query: str, texts: Sequence[str]) -> list[Ranked]:
        """See :class:`ragstack.integrations.langchain.backend.Backend`."""
        async with self._leased() as client:
            found = await client.rank(query, texts, model=self._model, truncate=self._truncate)
        return [Ranked(item.index, item.logit) for item in found]

    def close(self) -> None:
        """Release the connections of sync calls. Idempotent."""
        self._sync.close()

    @asynccontextmanager
    async def _leased(self) -> AsyncIterator[AsyncClient]:
        """The running loop's client, closed by the last of the calls that use it."""
        loop = asyncio.get_running_loop()
        with self._leasing:
            lease = self._leases.get(loop)
            if lease is None:
                lease = self._leases[loop] = _Lease(self._new_client())
            lease.users += 1
        try:
            yield lease.client
        finally:
            with self._leasing:
                lease.users -= 1
                is_last = lease.users == 0
                if is_last:
                    del self._leases[loop]
            if is_last:
                await lease.client.aclose()

    def _new_client(self) -> AsyncClient:
        url, api_key, timeout_s, max_retries = self._server
        return AsyncClient(url, api_key, timeout_s=timeout_s, max_retries=max_retries)
