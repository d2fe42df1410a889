"""POST /v1/explain: who is told what."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ragstack.api.audit_log import log_files
from ragstack.retrieval.explain.explanation import Explanation
from tests.integration.api.tenants import QUESTION, SECRETS, Served, serving


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The index of two tenants, with keys; nothing is changed."""
    with serving(tmp_path_factory.mktemp("explained")) as opened:
        yield opened


def _asked(served: Served, name: str, expected: str | None, **body: Any) -> Any:
    told = {"query": QUESTION, **body} | ({} if expected is None else {"expected": expected})
    response = served.client.post("/v1/explain", json=told, headers=served.headers(name))
    assert response.status_code == 200, response.text
    return response.json()


def test_the_whole_explanation(served: Served) -> None:
    told = _asked(served, "query", "corpus/beta.md:7")
    explanation = Explanation.model_validate_json(json.dumps(told))
    assert explanation.outcome == "cited"
    assert explanation.chain.computed_digest() == explanation.chain.digest
    assert explanation.words[0].chunk_count is None
    assert any(word.chunk_count for word in explanation.words)
    passages = _asked(served, "query", None, answer=False)
    assert (passages["expected"], passages["chain"]["answer"]) == (None, None)


def test_the_check_of_citations_is_in_the_header(served: Served) -> None:
    response = served.client.post("/v1/explain", json={"query": QUESTION}, headers=served.headers("query"))
    assert "verified=" in response.headers["x-citation-status"]


@pytest.mark.parametrize(
    "form", ["corpus/{}.md", "corpus/{}.md:7", "corpus/{}.md:999", "corpus/{}.md@0-9000", "id:corpus/{}.md"]
)
def test_another_tenants_document_is_as_if_it_did_not_exist(served: Served, form: str) -> None:
    hidden, absent = form.format("beta"), form.format("none")
    told, never_there = _asked(served, "alpha", hidden), _asked(served, "alpha", absent)
    for one in (told, never_there):
        one["chain"] = None  # time and digest differ
    assert json.dumps(told).replace(hidden, absent) == json.dumps(never_there)
    assert told["outcome"] == "not_indexed"


@pytest.mark.parametrize("expected", [f'"{SECRETS["beta"]}"', f"text:the {SECRETS['beta']} vault", None])
def test_nothing_of_another_tenant_is_told(served: Served, expected: str | None) -> None:
    told = _asked(served, "alpha", expected, query=f"Where is the {SECRETS['beta']} vault?")
    del told["chain"]["query"]
    for word in told["words"]:
        assert word["chunk_count"] is None, "how often a word occurs counts the documents of all"
        del word["text"], word["terms"]
    (told["expected"] or {}).pop("given", None)
    for key in ("summary", "steps", "advice"):
        # What was asked for may be said again, and that it lacks; nothing more.
        assert "beta.md" not in json.dumps(told[key])
        assert "occurs nowhere" not in json.dumps(told[key])
        told.pop(key)
    assert SECRETS["beta"] not in json.dumps(told)
    assert {chunk["source_id"] for chunk in told["chunks"]} == {"corpus/alpha.md"}


def test_a_chunk_id_of_another_tenant_is_unknown(served: Served) -> None:
    theirs = _asked(served, "query", "corpus/beta.md:7")["chunks"][0]["chunk_id"]
    assert _asked(served, "alpha", theirs)["outcome"] == "not_indexed"
    assert _asked(served, "beta", theirs)["outcome"] == "cited"


def test_ranks_count_only_what_the_asker_may_see(served: Served) -> None:
    told = _asked(served, "alpha", "corpus/alpha.md:7", query=f"Where is the {SECRETS['beta']} vault?")
    ranks = [leg["rank"] for chunk in told["chunks"] for leg in chunk["legs"].values()]
    assert max(rank for rank in ranks if rank is not None) == len(told["chunks"])


def test_files_of_the_machine_are_told_of_to_admins_alone(served: Served) -> None:
    outside = served.folder / "outside.txt"
    outside.write_text("Nobody indexed this.\n")
    assert "lies outside" in _asked(served, "admin", str(outside))["summary"]
    for name in ("query", "alpha"):
        told = [_asked(served, name, str(path)) for path in (outside, served.folder / "absent.txt")]
        assert [one["summary"].rpartition("/")[2] for one in told] == [
            "outside.txt is not indexed.",
            "absent.txt is not indexed.",
        ]
        # A path of an indexed file is no source id either.
        by_path = _asked(served, name, str(served.folder / "corpus" / "alpha.md"))
        assert by_path["outcome"] == "not_indexed"
    assert _asked(served, "admin", str(served.folder / "corpus" / "alpha.md"))["outcome"] in ("cited", "not_cited")


def test_the_askers_own_filter_is_told_apart_from_that_of_the_key(served: Served) -> None:
    wanted = {"field": "media_type", "op": "eq", "value": "text/plain"}
    told = _asked(served, "alpha", "corpus/alpha.md:7", filter=wanted)
    assert told["outcome"] == "filtered"
    assert [check["condition"]["field"] for check in told["chunks"][0]["filtered_by"]] == ["media_type"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"query": QUESTION, "expected": ""}, 422),
        ({"query": QUESTION, "expected": "corpus/alpha.md:0"}, 422),
        ({"query": QUESTION, "expected": "corpus/alpha.md:999"}, 422),
        ({"query": QUESTION, "stream": True}, 422),
        ({"query": " "}, 422),
        ({"expected": "corpus/alpha.md"}, 422),
    ],
)
def test_mistakes(served: Served, body: dict[str, Any], status: int) -> None:
    response = served.client.post("/v1/explain", json=body, headers=served.headers("alpha"))
    assert response.status_code == status, response.text


def test_an_explanation_leaves_a_trace(served: Served) -> None:
    told = _asked(served, "beta", "corpus/beta.md:7")
    folder = Path(served.pipeline.state_dir) / "audit"
    lines = [json.loads(line) for file in log_files(folder) for line in file.read_text("utf-8").splitlines()]
    last = lines[-1]
    assert (last["kind"], last["caller"], last["chain_digest"]) == ("explanation", "beta", told["chain"]["digest"])
    assert [source for source, _ in last["sources"]] == ["corpus/beta.md"]
    assert lines[-2]["kind"] == "chain"
    assert SECRETS["beta"] not in json.dumps(last)


def test_the_schema_names_the_explanation(served: Served) -> None:
    schema = served.client.get("/openapi.json").json()
    answer = schema["paths"]["/v1/explain"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert answer == {"$ref": "#/components/schemas/Explanation"}
