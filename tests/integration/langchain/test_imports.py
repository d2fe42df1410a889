"""What is imported when: LangChain only by who asks for it, and no model or store where a server answers."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ["langchain_core", "httpx", "onnxruntime", "tokenizers", "qdrant_edge", "ragstack.pipeline", "fastapi"]


def imported_by(code: str) -> set[str]:
    """Those of ``HEAVY`` that are in memory after ``code`` ran in a process of its own."""
    told = f"{code}\nimport json, sys; print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_package_and_the_command_line_know_nothing_of_langchain() -> None:
    assert imported_by("import ragstack") == set()
    assert imported_by("import ragstack.cli.main") & {"langchain_core", "httpx", "fastapi"} == set()
    assert "langchain_core" not in imported_by("import ragstack; ragstack.open({}); ragstack.Client('http://[::1]:1')")


def test_over_a_server_no_part_of_a_pipeline_is_loaded() -> None:
    code = """
from ragstack.integrations.langchain import RagstackEmbeddings, RagstackRetriever, RagstackReranker
for kind in (RagstackEmbeddings, RagstackRetriever, RagstackReranker):
    kind(url="http://127.0.0.1:1")
"""
    assert imported_by(code) == {"langchain_core", "httpx"}


@pytest.mark.parametrize(
    ("missing", "code", "extra"),
    [
        ("langchain_core", "import ragstack.integrations.langchain", "langchain"),
        ("httpx", "import ragstack; ragstack.Client", "client"),
    ],
)
def test_what_is_not_installed_is_named_with_its_extra(missing: str, code: str, extra: str) -> None:
    told = f"""
import sys
sys.modules[{missing!r}] = None
from ragstack.errors import MissingExtraError
try:
    {code}
except MissingExtraError as error:
    print(error.extra)
"""
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [extra]
