from __future__ import annotations

from fastapi.testclient import TestClient


def test_the_process_is_alive(client: TestClient) -> None:
    assert client.get("/v1/health/live").json() == {"status": "live"}
