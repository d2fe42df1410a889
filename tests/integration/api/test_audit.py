"""The audit log: what it holds, that an edit shows, and that a crash does it no harm."""

from __future__ import annotations

import json
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

import ragstack
from ragstack.api.app import create_app
from ragstack.api.audit_log import AuditLog, log_files, verify_audit_log
from ragstack.cli.main import main
from ragstack.errors import ConfigError, IndexFormatError, StoreError
from tests.integration.api.conftest import FILES
from tests.integration.api.tenants import QUESTION, SECRETS, serving
from tests.integration.harness import SMALL_CONFIG


def lines(folder: Path) -> list[dict[str, Any]]:
    """Every line of a log, oldest first."""
    return [json.loads(line) for path in log_files(folder) for line in path.read_bytes().splitlines()]


def problems(folder: Path, head: str | None = None) -> list[str]:
    """What verification finds."""
    return [finding.problem for finding in verify_audit_log(folder, head)[1]]


def written(folder: Path, count: int, rotate_bytes: int = 10**6, keep_files: int | None = None) -> AuditLog:
    """A log with so many lines."""
    log = AuditLog(folder, rotate_bytes, keep_files)
    for number in range(count):
        log.append({"kind": "test", "number": number})
    return log


def test_every_chain_leaves_a_line_of_ids_and_hashes(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        headers = {**server.headers("alpha"), "X-Request-Id": "request-7"}
        chain = server.client.post("/v1/query", json={"query": QUESTION}, headers=headers).json()
        streamed = server.client.post("/v1/query", json={"query": QUESTION, "stream": True}, headers=headers)
        assert "event: done" in streamed.text
        server.client.post("/v1/retrieve", json={"query": QUESTION}, headers=server.headers("query"))
        message = [{"role": "user", "content": QUESTION}]
        server.client.post(
            "/v1/chat/completions", json={"model": "ragstack", "messages": message}, headers=server.headers("query")
        )
        server.client.post("/v1/query", json={"query": ""}, headers=headers)  # refused: no chain, no line
        folder = server.pipeline.state_dir / "audit"
        found = lines(folder)
        assert [line["status"] for line in found] == ["answered", "answered", "retrieved", "answered"]
        line = found[0]
        assert line["request_id"] == "request-7"
        assert line["caller"] == "alpha"
        assert server.keys["alpha"].startswith(f"rsk_{line['key_id']}_")
        assert line["chain_digest"] == chain["digest"]
        assert line["citation_ids"] == [citation["citation_id"] for citation in chain["answer"]["citations"]]
        place = chain["passages"][0]["place"]
        assert line["sources"] == [[place["source_id"], place["source_version"]]]
        assert found[1]["query_hmac_sha256"] == line["query_hmac_sha256"] != found[0]["chain_digest"]
        assert problems(folder) == []
        text = b"".join(path.read_bytes() for path in folder.iterdir())
        for words in (QUESTION, SECRETS["alpha"], "vault lies", chain["answer"]["text"]):
            assert words.encode() not in text
        for path in [*log_files(folder), folder / "hmac.key"]:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_answer_that_leaves_no_trace_is_not_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(tmp_path, with_keys=False) as server:
        whole = os.fsync

        def full(descriptor: int) -> None:
            if ".jsonl" in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
                raise OSError(28, "No space left on device")
            whole(descriptor)

        monkeypatch.setattr("ragstack.api.audit_log.os.fsync", full)
        response = server.client.post("/v1/query", json={"query": QUESTION})
        assert response.status_code >= 500
        assert SECRETS["alpha"] not in response.text
        streamed = server.client.post("/v1/query", json={"query": QUESTION, "stream": True}).text
        assert "event: done" not in streamed
        assert "event: error" in streamed
        monkeypatch.undo()
        assert server.client.post("/v1/query", json={"query": QUESTION}).status_code == 200
        assert problems(server.pipeline.state_dir / "audit") == []


def test_an_answer_that_breaks_off_leaves_a_line_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(tmp_path, with_keys=False) as server:

        def broken(*_: Any, **__: Any) -> Any:
            raise StoreError("the model is gone")
            yield

        monkeypatch.setattr("ragstack.generation.extractive.ExtractiveGenerator.stream", broken)
        response = server.client.post("/v1/query", json={"query": QUESTION, "stream": True})
        assert "event: error" in response.text
        found = lines(server.pipeline.state_dir / "audit")
        assert [line["status"] for line in found] == ["broken_off"]
        assert found[0]["sources"]


def test_text_is_kept_only_when_asked_for(tmp_path: Path) -> None:
    with serving(tmp_path, with_keys=False, audit={"include_text": True, "path": str(tmp_path / "log")}) as server:
        chain = server.client.post("/v1/query", json={"query": QUESTION}).json()
        line = lines(tmp_path / "log")[0]
        assert line["text"]["query"] == QUESTION
        assert line["text"]["answer"] == chain["answer"]["text"]
        assert not (server.pipeline.state_dir / "audit").exists()


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    with serving(tmp_path, with_keys=False, audit={"enabled": False}) as server:
        assert server.client.post("/v1/query", json={"query": QUESTION}).status_code == 200
        assert not (server.pipeline.state_dir / "audit").exists()


# -- the chain of hashes -------------------------------------------------------------------------


def edit(path: Path, number: int, change: Any) -> None:
    """Put ``change(line)``, a list of lines, in the place of a line."""
    content = path.read_bytes().splitlines(keepends=True)
    content[number : number + 1] = change(content[number])
    path.write_bytes(b"".join(content))


@pytest.mark.parametrize("number", [0, 1, 5, 9])
@pytest.mark.parametrize(
    "change",
    [
        lambda line: [],
        lambda line: [line, line],
        lambda line: [line.replace(b'"kind":"test"', b'"kind":"tost"')],
        lambda line: [line.replace(b'"time":"2', b'"time":"3')],
        lambda line: [line[:-10] + b"\n"],
        lambda line: [b"\n"],
        lambda line: [b"{}\n"],
        lambda line: [b"null\n"],
        lambda line: [b"\xff\xfe\n"],
        lambda line: [line, b'{"kind":"test"}\n'],
    ],
)
def test_an_edit_anywhere_shows(tmp_path: Path, number: int, change: Any) -> None:
    written(tmp_path, 10)
    assert problems(tmp_path) == []
    edit(log_files(tmp_path)[0], number, change)
    assert problems(tmp_path)


def test_lines_that_change_places_show(tmp_path: Path) -> None:
    written(tmp_path, 10)
    path = log_files(tmp_path)[0]
    content = path.read_bytes().splitlines(keepends=True)
    content[3], content[4] = content[4], content[3]
    path.write_bytes(b"".join(content))
    assert problems(tmp_path)


def test_what_is_cut_off_at_the_end_shows_also_after_the_log_went_on(tmp_path: Path) -> None:
    written(tmp_path, 10)
    path = log_files(tmp_path)[0]
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:7]))
    assert problems(tmp_path) == ["lines 8 to 10 are missing at the end"]
    written(tmp_path, 3)
    assert problems(tmp_path) == ["line 8 should follow; this is line 11"]


def test_a_whole_new_log_shows_by_a_head_noted_elsewhere(tmp_path: Path) -> None:
    written(tmp_path / "log", 5)
    head = verify_audit_log(tmp_path / "log")[0].hash
    written(tmp_path / "log", 5)
    assert problems(tmp_path / "log", head) == []
    written(tmp_path / "forged", 10)
    assert problems(tmp_path / "forged") == []
    assert problems(tmp_path / "forged", head) == [f"no line has the hash {head}"]


def test_files_that_vanish_show_and_those_that_retention_deletes_do_not(tmp_path: Path) -> None:
    written(tmp_path / "all", 30, rotate_bytes=1024)
    assert len(log_files(tmp_path / "all")) > 4
    assert problems(tmp_path / "all") == []
    log_files(tmp_path / "all")[0].unlink()
    assert problems(tmp_path / "all")

    written(tmp_path / "kept", 30, rotate_bytes=1024, keep_files=2)
    assert len(log_files(tmp_path / "kept")) == 2
    assert problems(tmp_path / "kept") == []
    assert lines(tmp_path / "kept")[0]["seq"] > 1
    log_files(tmp_path / "kept")[0].unlink()
    assert problems(tmp_path / "kept")


def test_a_line_that_a_crash_cut_off_is_taken_off_and_told(tmp_path: Path) -> None:
    written(tmp_path, 5)
    path = log_files(tmp_path)[0]
    whole = path.read_bytes()
    last = whole.splitlines(keepends=True)[-1]
    for cut in (1, 10, len(last) - 1):
        path.write_bytes(whole + last[:cut])
        written(tmp_path, 1)
        assert problems(tmp_path) == []
        assert [line["kind"] for line in lines(tmp_path)][-2:] == ["recovered", "test"]
        assert lines(tmp_path)[-2]["bytes_dropped"] == cut
        whole = path.read_bytes()
    # The head may be older than the log, if the process died between the two.
    head = json.loads((tmp_path / "head.json").read_text())
    (tmp_path / "head.json").write_text(json.dumps({**head, "seq": 4, "hash": lines(tmp_path)[3]["hash"]}))
    assert problems(tmp_path) == []
    written(tmp_path, 1)
    assert problems(tmp_path) == []


def test_a_damaged_log_is_not_written_on(tmp_path: Path) -> None:
    written(tmp_path, 5)
    path = log_files(tmp_path)[0]
    edit(path, 4, lambda line: [line.replace(b"test", b"tost")])
    with pytest.raises(IndexFormatError, match="damaged"):
        AuditLog(tmp_path, 10**6, None)
    (tmp_path / "head.json").write_text("{")
    assert any("damaged" in problem for problem in problems(tmp_path))


def test_a_server_does_not_start_on_a_damaged_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "ragstack.yaml"
    config.write_text(f"version: 1\nembedder: {{type: hashing}}\nindexer:\n  state_dir: {tmp_path / 'state'}\n")
    written(tmp_path / "state" / "audit", 1)
    (tmp_path / "state" / "audit" / "head.json").write_text("{")
    assert main(["serve", "-c", str(config), "--port", "0"]) == 2
    told = capsys.readouterr().err
    assert "the audit log is damaged" in told
    assert "Traceback" not in told


def test_several_writers_make_one_chain(tmp_path: Path) -> None:
    logs = [AuditLog(tmp_path, 2000, None) for _ in range(3)]

    def write(log: AuditLog) -> None:
        for number in range(15):
            log.append({"kind": "test", "number": number})

    threads = [threading.Thread(target=write, args=(log,)) for log in logs for _ in range(2)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert problems(tmp_path) == []  # also while it is written
    for thread in threads:
        thread.join()
    assert [line["seq"] for line in lines(tmp_path)] == list(range(1, 91))
    assert problems(tmp_path) == []


def test_verify_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "ragstack.yaml"
    config.write_text(f"version: 1\nindexer:\n  state_dir: {tmp_path / 'state'}\n")
    assert main(["audit", "verify", "-c", str(config)]) == 2
    folder = tmp_path / "state" / "audit"
    written(folder, 3)
    assert main(["audit", "verify", "-c", str(config)]) == 0
    head = lines(folder)[-1]["hash"]
    assert head in capsys.readouterr().out
    assert main(["audit", "verify", "-c", str(config), "--head", head, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"lines": 3, "head": {"seq": 3, "hash": head}, "problems": []}
    edit(log_files(folder)[0], 1, lambda line: [])
    assert main(["audit", "verify", "-c", str(config)]) == 1
    assert "line 2 should follow" in capsys.readouterr().out


def test_keys_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "ragstack.yaml"
    config.write_text(
        f"version: 1\nindexer:\n  state_dir: {tmp_path / 'state'}\nfields:\n  tenant: {{type: keyword}}\n"
    )
    chosen = ["-c", str(config)]
    mine = '{"field": "tenant", "op": "eq", "value": "a"}'
    assert main(["key", "create", "acme", "--filter", mine, "--expires", "90d", *chosen]) == 0
    key = capsys.readouterr().out.strip()
    assert main(["key", "create", "ops", "--scope", "write", "--scope", "query", "--json", *chosen]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["scopes"] == ["query", "write"]
    assert main(["key", "list", *chosen]) == 0
    listed = capsys.readouterr().out
    assert "acme" in listed and "tenant" in listed
    assert key not in listed and made["key"] not in listed and "sha256" not in listed
    assert main(["key", "revoke", "acme", *chosen]) == 0
    assert main(["key", "revoke", "acme", *chosen]) == 2
    capsys.readouterr()
    assert main(["key", "list", "--json", *chosen]) == 0
    states = {entry["name"]: entry["state"] for entry in json.loads(capsys.readouterr().out)["keys"]}
    assert states == {"acme": "revoked", "ops": "usable"}
    undeclared = '{"field": "other", "op": "eq", "value": "a"}'
    for wrong in (["--filter", "{"], ["--filter", undeclared], ["--expires", "soon"], ["--scope", "root"]):
        assert main(["key", "create", "x", *wrong, *chosen]) == 2


def test_settings_of_the_log_are_checked() -> None:
    with pytest.raises(ConfigError, match="keep_files"):
        ragstack.open({"server": {"audit": {"keep_files": 0}}})


def test_a_server_without_an_index_writes_no_line(tmp_path: Path) -> None:
    with TestClient(create_app(ragstack.open(SMALL_CONFIG, state_dir=tmp_path / "state"))) as client:
        assert client.post("/v1/query", json={"query": next(iter(FILES))}).status_code == 503
        assert lines(tmp_path / "state" / "audit") == []
