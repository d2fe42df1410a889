"""Every error has one shape with the request's id, and tells nothing of the inside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

import ragstack
from ragstack.api.app import create_app

KEYS = {"type", "message", "hint", "param", "code", "request_id"}


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "type_"),
    [
        ("GET", "/nowhere", {}, 404, "NotFound"),
        ("GET", "/v1/nowhere", {}, 404, "NotFound"),
        ("DELETE", "/v1/query", {}, 405, "MethodNotAllowed"),
        (
            "POST",
            "/v1/query",
            {"content": b"{", "headers": {"content-type": "application/json"}},
            422,
            "InvalidRequest",
        ),
        ("POST", "/v1/query", {"content": b'{"query": "a"}'}, 422, "InvalidRequest"),
        ("POST", "/v1/query", {"content": b"[" * 99_999, "headers": {"content-type": "application/json"}}, 400, None),
        (
            "POST",
            "/v1/query",
            {"content": b'{"query": "\xff"}', "headers": {"content-type": "application/json"}},
            400,
            None,
        ),
        (
            "POST",
            "/v1/query",
            {"content": b'{"query": "\\ud800"}', "headers": {"content-type": "application/json"}},
            422,
            "InvalidRequest",
        ),
        (
            "POST",
            "/v1/query",
            {
                "content": b'{"query": "a", "filter": {"field": "source_id", "op": "eq", "value": "\\udfff"}}',
                "headers": {"content-type": "application/json"},
            },
            422,
            "InvalidRequest",
        ),
        (
            "POST",
            "/v1/query",
            {
                "content": b'{"query": "a", "filter": {"field": "seq", "op": "eq", "value": NaN}}',
                "headers": {"content-type": "application/json"},
            },
            422,
            "InvalidRequest",
        ),
        ("GET", "/v1/citations/none", {}, 404, "NotFound"),
        ("GET", "/v1/citations/none?context_bytes=x", {}, 422, "InvalidRequest"),
    ],
)
def test_errors_have_one_shape(
    shared_client: httpx.Client, method: str, path: str, options: dict[str, Any], status: int, type_: str | None
) -> None:
    response = shared_client.request(method, path, **options)
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == KEYS
    assert type_ in (None, error["type"])
    assert error["request_id"] == response.headers["x-request-id"]
    if status == 405:
        assert response.headers["allow"] == "POST"


@pytest.mark.parametrize(
    ("given", "is_taken"),
    [("abc-1.2_Z", True), ("x" * 128, True), ("x" * 129, False), ("a b", False), ("ü", False), ("a,b", False)],
)
def test_a_well_formed_request_id_is_taken(shared_client: httpx.Client, given: str, is_taken: bool) -> None:
    response = shared_client.get("/v1/health/live", headers={"x-request-id": given.encode()})
    assert (response.headers["x-request-id"] == given) is is_taken
    assert response.headers["x-request-id"]


def test_what_nobody_foresaw_is_logged_and_not_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = create_app(ragstack.open({"embedder": {"type": "hashing"}}, state_dir=tmp_path))
    _add_failing_routes(app)
    with TestClient(app) as client:
        monkeypatch.setattr(ragstack.Pipeline, "engine", property(_fail))
        for response in (
            client.get("/fails"),
            client.post("/v1/query", json={"query": "a"}),
            client.post("/v1/query", json={"query": "a", "stream": True}),
        ):
            assert response.status_code == 500
            error = response.json()["error"]
            assert set(error) == KEYS
            assert error["type"] == "InternalError"
            assert "hidden" not in response.text
            assert error["request_id"] == response.headers["x-request-id"]
            assert any(error["request_id"] in r.getMessage() and r.exc_info for r in caplog.records)


def _fail(_: object = None) -> None:
    raise ZeroDivisionError("hidden")


def _add_failing_routes(app: FastAPI) -> None:
    @app.get("/fails")
    def fails() -> None:
        _fail()


def test_the_schema_names_every_status_with_its_shape(shared_client: httpx.Client) -> None:
    schema = shared_client.get("/openapi.json").json()
    operations = {
        (method, path): operation for path, item in schema["paths"].items() for method, operation in item.items()
    }
    assert ("post", "/v1/query") in operations
    for (method, path), operation in operations.items():
        assert operation["description"], (method, path)
        for status, response in operation["responses"].items():
            if status == "422":
                assert "HTTPValidationError" not in str(response), (method, path)
    errors = operations["post", "/v1/query"]["responses"]["503"]["content"]["application/json"]
    assert errors["schema"] == {"$ref": "#/components/schemas/ErrorBody"}
    assert errors["example"]["error"]["hint"]
