"""A citation that was sent is found again by its id, as long as its document is there and its reader may see it."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

import ragstack
from ragstack.api.app import create_app
from ragstack.api.routes import citations, query
from ragstack.api.security import ALL_SCOPES, Caller
from ragstack.filters import parse_filter
from ragstack.ledger.issued_citations import IssuedCitation, IssuedCitations
from tests.integration.harness import SMALL_CONFIG

VALVE = "After how many hours are the valve and its seal replaced?"


def asked(client: TestClient, question: str = VALVE) -> dict[str, Any]:
    """The first citation of an answer."""
    citation: dict[str, Any] = client.post("/v1/query", json={"query": question}).json()["answer"]["citations"][0]
    return citation


@pytest.mark.parametrize("question", [VALVE, "Wie lange dauert die Prüfung der Geräte?"])
def test_it_opens_at_its_bytes(client: TestClient, corpus: Path, question: str) -> None:
    sent = asked(client, question)
    found = client.get(f"/v1/citations/{sent['citation_id']}").json()
    place = found["place"]
    assert place == sent["place"]
    assert found["status"] == "verified"
    raw = (corpus / Path(place["source_id"]).name).read_bytes()
    cut = b"".join(raw[r["byte_start"] : r["byte_end"]] for r in place["source_ranges"])
    assert base64.b64decode(found["source_base64"]) == cut
    assert cut.decode(place["source_encoding"]) == place["text"]
    context = found["context"]
    assert context["text"] == place["text"]
    whole = context["before"] + context["text"] + context["after"]
    canonical = raw.decode(place["source_encoding"]).encode()
    assert canonical[context["byte_start"] : context["byte_end"]].decode() == whole


@pytest.mark.parametrize("context_bytes", [0, 1, 2, 3, 5, 40, 65536])
def test_context_never_cuts_a_character(client: TestClient, context_bytes: int) -> None:
    sent = asked(client, "Wie lange dauert die Prüfung der Geräte?")
    found = client.get(f"/v1/citations/{sent['citation_id']}?context_bytes={context_bytes}").json()
    context = found["context"]
    whole = context["before"] + context["text"] + context["after"]
    assert len(whole.encode()) == context["byte_end"] - context["byte_start"]
    assert len(context["before"].encode()) <= context_bytes
    assert len(context["after"].encode()) <= context_bytes


def test_it_is_found_after_a_restart_and_a_streamed_one_too(tmp_path: Path, corpus: Path) -> None:
    config = {**SMALL_CONFIG, "retrieval": {"min_relevance": 0.0}}
    with ragstack.open(config, state_dir=tmp_path / "state") as pipeline:
        pipeline.index(corpus)
        with TestClient(create_app(pipeline)) as client:
            client.post("/v1/query", json={"query": VALVE, "stream": True})
            chat = {"model": "ragstack", "messages": [{"role": "user", "content": "Where is the log?"}], "stream": True}
            client.post("/v1/chat/completions", json=chat)
    with ragstack.open(config, state_dir=tmp_path / "state") as pipeline:
        ids = [c.citation_id for q in (VALVE, "Where is the log?") for c in pipeline.query(q).citations]
        with TestClient(create_app(pipeline)) as client:
            assert len(ids) >= 2
            for identity in ids:
                assert client.get(f"/v1/citations/{identity}").json()["status"] == "verified"


def test_a_changed_file_is_told(client: TestClient, corpus: Path, pipeline: ragstack.Pipeline) -> None:
    sent = asked(client)
    (corpus / "valve.md").write_text("# Valves\n\nOther words.\n")
    found = client.get(f"/v1/citations/{sent['citation_id']}").json()
    assert (found["status"], found["source_base64"]) == ("source_changed", None)
    assert found["place"]["text"] == sent["place"]["text"]
    pipeline.index(corpus)
    gone = client.get(f"/v1/citations/{sent['citation_id']}")
    assert gone.status_code == 410
    assert gone.json()["error"]["code"] == "version_gone"


def test_an_erased_document_is_gone_everywhere(client: TestClient, pipeline: ragstack.Pipeline, corpus: Path) -> None:
    kept, sent = asked(client, "How many bar does the pump run at?"), asked(client)
    assert kept["place"]["source_id"] == "corpus/pump.txt"
    pipeline.erase("corpus/valve.md")
    assert client.get(f"/v1/citations/{sent['citation_id']}").status_code == 404
    assert client.get(f"/v1/citations/{kept['citation_id']}").status_code == 200
    for file in pipeline.state_dir.rglob("*"):
        assert not file.is_file() or b"seal" not in file.read_bytes(), file
    for file in pipeline.state_dir.glob("citations.db*"):
        assert b"valve" not in file.read_bytes(), "not its name either"


def test_same_bytes_under_two_names_are_told_apart(
    client: TestClient, pipeline: ragstack.Pipeline, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = asked(client)
    (corpus / "copy.md").write_bytes((corpus / "valve.md").read_bytes())
    pipeline.index(corpus)
    only_copy = {"field": "source_id", "op": "eq", "value": "corpus/copy.md"}
    copied = client.post("/v1/query", json={"query": VALVE, "filter": only_copy}).json()["answer"]["citations"][0]
    assert copied["citation_id"] == sent["citation_id"]
    path = f"/v1/citations/{sent['citation_id']}"
    assert client.get(path).json()["place"]["source_id"] == "corpus/valve.md"
    pipeline.erase("corpus/valve.md")
    assert client.get(path).json()["place"]["source_id"] == "corpus/copy.md"


@pytest.mark.parametrize(
    ("limit", "status"),
    [
        ({"field": "source_id", "op": "eq", "value": "corpus/valve.md"}, 200),
        ({"field": "source_id", "op": "eq", "value": "corpus/pump.txt"}, 404),
        ({"not": {"field": "media_type", "op": "eq", "value": "text/markdown"}}, 404),
    ],
)
def test_a_callers_filter_decides(
    pipeline: ragstack.Pipeline, monkeypatch: pytest.MonkeyPatch, limit: dict[str, Any], status: int
) -> None:
    app = create_app(pipeline)
    with TestClient(app) as client:
        sent = asked(client)
        for route in (*query.router.routes, *citations.router.routes):
            for dependency in route.dependant.dependencies:
                if dependency.name == "caller":
                    app.dependency_overrides[dependency.call] = lambda: Caller(
                        "tenant", ALL_SCOPES, parse_filter(limit)
                    )
        assert client.get(f"/v1/citations/{sent['citation_id']}").status_code == status
        # The filter of the caller is put on questions too, whatever the request says.
        body = {"query": VALVE, "filter": {"field": "source_id", "op": "eq", "value": "corpus/valve.md"}}
        passages = client.post("/v1/query", json=body).json()["passages"]
        assert bool(passages) is (status == 200)


def test_the_oldest_are_forgotten_beyond_a_number(tmp_path: Path) -> None:
    with IssuedCitations(tmp_path, kept=3) as issued:
        for number in range(5):
            issued.add([IssuedCitation(f"id{number}", "a/b", "0" * 64, "p", "", 0, number + 1, "c")])
        assert [bool(issued.find(f"id{number}")) for number in range(5)] == [False, False, True, True, True]
    with IssuedCitations(tmp_path) as issued:
        assert issued.find("id4")[0].byte_end == 5


def test_records_go_with_their_container(tmp_path: Path) -> None:
    with IssuedCitations(tmp_path) as issued:
        issued.add(
            [
                IssuedCitation("1", "a/log.jsonl#7", "0" * 64, "p", "7", 0, 1, "c"),
                IssuedCitation("2", "a/log.jsonl", "0" * 64, "p", "", 0, 1, "c"),
                IssuedCitation("3", "a/log.jsonl2", "0" * 64, "p", "", 0, 1, "c"),
            ]
        )
        issued.forget(["a/log.jsonl"])
        assert [len(issued.find(identity)) for identity in "123"] == [0, 0, 1]
        assert b"log.jsonl#7" not in (tmp_path / "citations.db").read_bytes()
