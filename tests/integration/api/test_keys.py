"""API keys: how they are made, kept, found, revoked, and kept out of what is written."""

from __future__ import annotations

import logging
import os
import stat
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstack.api.keys import KeyFile
from ragstack.api.redaction import RedactingFilter, holds_key, redacted
from ragstack.errors import ConfigError, InputError
from tests.integration.api.tenants import serving


def test_a_key_is_kept_as_a_hash_in_a_file_of_its_owner(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path)
    key, presented = keys.create("alice", ["query"])
    content = keys.path.read_text()
    assert presented.rpartition("_")[2] not in content
    assert key.sha256 in content
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600
    found = keys.find(presented)
    assert found is not None
    assert found.name == "alice"


@given(st.text(max_size=80))
def test_nothing_but_the_key_opens(presented: str) -> None:
    assert _one_key().find(presented) is None


def test_no_key_that_differs_in_one_character_opens() -> None:
    keys = _one_key()
    right = _PRESENTED[0]
    assert keys.find(right) is not None
    for place in range(len(right)):
        for other in "0aZ_ ":
            wrong = right[:place] + other + right[place + 1 :]
            assert wrong == right or keys.find(wrong) is None
    assert keys.find(right + "\n") is None
    assert keys.find(right[:-1]) is None


_PRESENTED: list[str] = []
_FILE: list[KeyFile] = []


def _one_key() -> KeyFile:
    import tempfile

    if not _FILE:
        _FILE.append(KeyFile(Path(tempfile.mkdtemp())))
        _PRESENTED.append(_FILE[0].create("one", ["query"])[1])
    return _FILE[0]


def test_an_expired_key_opens_nothing(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path)
    soon = datetime.now(timezone.utc) + timedelta(seconds=1)
    key, presented = keys.create("brief", ["query"], expires_at=soon)
    assert key.state(soon - timedelta(seconds=1)) == "usable"
    assert key.state(soon) == "expired"
    with pytest.raises(InputError, match="past"):
        keys.create("late", ["query"], expires_at=soon - timedelta(days=1))
    path = keys.path
    path.write_text(path.read_text().replace(str(key.expires_at), "2020-01-01T00:00:00Z"))
    assert keys.find(presented) is None


@pytest.mark.parametrize(
    ("name", "scopes", "filter", "words"),
    [
        ("", ["query"], None, "not a name"),
        ("a b", ["query"], None, "not a name"),
        ("local", ["query"], None, "not a name"),
        ("x", ["read"], None, "unknown scope"),
        ("x", [], None, "unknown scope"),
        ("x", ["admin"], {"field": "tenant", "op": "eq", "value": "a"}, "cannot have a filter"),
        ("x", ["query"], {"field": "tenant"}, "keys field, op and value"),
        ("taken", ["query"], None, "already"),
    ],
)
def test_what_is_no_key_is_refused(tmp_path: Path, name: str, scopes: Any, filter: Any, words: str) -> None:
    keys = KeyFile(tmp_path)
    keys.create("taken", ["query"])
    with pytest.raises(InputError, match=words):
        keys.create(name, scopes, filter)
    assert len(keys.entries()) == 1


def test_a_damaged_file_lets_nobody_in(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path)
    _, presented = keys.create("alice", ["query"])
    whole = keys.path.read_text()
    for damaged in (whole[:-20], "", "[]", whole.replace('"format": 1', '"format": 9'), whole.replace("query", "root")):
        keys.path.write_text(damaged)
        with pytest.raises(ConfigError, match="cannot be used"):
            keys.find(presented)
    keys.path.write_text(whole)
    assert keys.find(presented) is not None


def test_a_key_is_made_and_revoked_while_the_server_runs(tmp_path: Path) -> None:
    with serving(tmp_path, with_keys=False) as server:
        assert server.client.get("/v1/documents").status_code == 200
        made, presented = server.key_file.create("alice", ["query"])
        headers = {"Authorization": f"Bearer {presented}"}
        assert server.client.get("/v1/documents").status_code == 401
        assert server.client.get("/v1/documents", headers=headers).status_code == 200
        assert server.client.get("/v1/documents", headers={"X-API-Key": presented}).status_code == 200
        server.key_file.revoke(made.id)
        assert server.client.get("/v1/documents", headers=headers).status_code == 401
        # The last key is gone: that closes the server, it does not open it. Nor does the loss of the file.
        assert server.client.get("/v1/documents").status_code == 401
        server.key_file.path.unlink()
        assert server.client.get("/v1/documents").status_code == 401
        server.key_file.path.write_text("{")
        broken = server.client.get("/v1/documents", headers=headers)
        assert broken.status_code == 503
        assert str(tmp_path) not in broken.text
        assert server.client.get("/v1/health/live").status_code == 200


@given(st.text(max_size=30), st.text(max_size=30))
def test_redaction_takes_out_the_key_and_nothing_else(before: str, after: str) -> None:
    key = "rsk_0123456789ab_" + "aB3_-" * 8 + "xyz"
    text = redacted(f"{before} {key} {after}")
    assert "aB3_-aB3" not in text
    assert redacted(before) == before or holds_key(before)
    assert text.endswith(f" {redacted(after)}")


def test_redaction_reaches_arguments_tracebacks_and_extra_fields() -> None:
    key = "rsk_0123456789ab_" + "x" * 43
    try:
        raise ValueError(key)
    except ValueError:
        import sys

        record = logging.LogRecord("n", logging.INFO, "p", 1, "%s %d", (key, 5), sys.exc_info())
    record.__dict__["path"] = f"/{key}"
    RedactingFilter().filter(record)
    shown = logging.Formatter("%(message)s %(path)s").format(record)
    assert "xxx" not in shown
    assert record.args == ("rsk_0123456789ab_***", 5)
    assert "ValueError" in shown


def test_keys_and_their_file_are_of_the_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        KeyFile(tmp_path).create("alice", ["query"])
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "api-keys.json").stat().st_mode) == 0o600
