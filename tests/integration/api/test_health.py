from __future__ import annotations

import threading

import pytest
from fastapi.testclient import TestClient

import ragstack
from ragstack.errors import StoreUnavailableError


def test_the_process_is_alive(client: TestClient) -> None:
    assert client.get("/v1/health/live").json() == {"status": "live"}


def test_ready_when_everything_is(client: TestClient) -> None:
    response = client.get("/v1/health/ready")
    assert response.status_code == 200
    assert response.json()["status"] == "ready"
    assert {check["name"]: check["ok"] for check in response.json()["checks"]} == {
        "store": True,
        "index": True,
        "embedder": True,
    }


def test_a_store_that_is_gone_is_named(
    client: TestClient, pipeline: ragstack.Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone() -> None:
        raise StoreUnavailableError("it does not answer.")

    monkeypatch.setattr(pipeline.shared.store, "health", gone)
    response = client.get("/v1/health/ready")
    assert response.status_code == 503
    assert [check for check in response.json()["checks"] if not check["ok"]] == [
        {"name": "store", "ok": False, "detail": "it does not answer."}
    ]


def test_probes_of_a_store_that_hangs_do_not_pile_up(
    client: TestClient, pipeline: ragstack.Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, go_on = [], threading.Event()

    def hangs() -> None:
        asked.append(1)
        go_on.wait(30)
        raise StoreUnavailableError("it does not answer.")

    monkeypatch.setattr(pipeline.shared.store, "health", hangs)
    monkeypatch.setattr("ragstack.api.readiness.TIMEOUT_S", 0.05)
    for _ in range(5):
        response = client.get("/v1/health/ready")
        assert (response.status_code, response.json()["checks"][0]["name"]) == (503, "time")
    assert len(asked) == 1
    go_on.set()
