"""The reference store keeps the contract."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ragstack.testing.memory_store import MemoryStore
from ragstack.testing.store_conformance import VectorStoreConformance


class TestMemoryStore(VectorStoreConformance):
    @pytest.fixture
    def store(self) -> Iterator[MemoryStore]:
        store = MemoryStore()
        yield store
        store.close()
