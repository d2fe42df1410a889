"""LangChain's own standard suites, unchanged, over retriever and embeddings."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_tests.integration_tests import EmbeddingsIntegrationTests, RetrieversIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests

import ragstack
from ragstack.integrations.langchain import RagstackEmbeddings, RagstackRetriever
from tests.integration.langchain.conftest import CONFIG

pytestmark = pytest.mark.anyio  # the suites' async tests carry no mark of their own


class TestLocalRetriever(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True)
    def _params(self, pipeline: ragstack.Pipeline) -> None:
        self.params: dict[str, Any] = {"pipeline": pipeline}

    @property
    def retriever_constructor(self) -> type[RagstackRetriever]:
        return RagstackRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return self.params

    @property
    def retriever_query_example(self) -> str:
        return "How many bar does the pump run at?"


class TestRemoteRetriever(TestLocalRetriever):
    @pytest.fixture(autouse=True)
    def _params(self, url: str) -> None:
        self.params = {"url": url}


class TestLocalEmbeddingsUnit(EmbeddingsUnitTests):
    @property
    def embeddings_class(self) -> type[RagstackEmbeddings]:
        return RagstackEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"pipeline": CONFIG}


class TestLocalEmbeddings(EmbeddingsIntegrationTests):
    @property
    def embeddings_class(self) -> type[RagstackEmbeddings]:
        return RagstackEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"pipeline": CONFIG}


class TestRemoteEmbeddings(EmbeddingsIntegrationTests):
    @pytest.fixture(autouse=True)
    def _params(self, url: str) -> None:
        self.params = {"url": url}

    @property
    def embeddings_class(self) -> type[RagstackEmbeddings]:
        return RagstackEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return self.params
