"""A served index that two tenants share, each with a key of its own, and what tests do with it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from fastapi.testclient import TestClient

import ragstack
from ragstack.api.app import create_app
from ragstack.api.keys import KeyFile, Scope
from tests.integration.harness import SMALL_CONFIG

TENANTS = ("alpha", "beta")
SECRETS = {"alpha": "quokka", "beta": "axolotl"}
"""A word that only this tenant's documents have."""
QUESTION = "What is the code of the vault?"


def document(tenant: str, text: str = "") -> str:
    """A document that the tenant's filter matches."""
    said = text or f"The code of the {SECRETS[tenant]} vault is 77 and the {SECRETS[tenant]} vault lies in room 4."
    return f"---\ntenant: {tenant}\n---\n\n# Vault\n\n{said}\n"


def tenant_filter(tenant: str) -> dict[str, Any]:
    """The filter of a tenant's keys."""
    return {"field": "tenant", "op": "eq", "value": tenant}


@dataclass
class Served:
    """A running application, its pipeline, and the keys of its callers by name."""

    client: TestClient
    pipeline: ragstack.Pipeline
    keys: dict[str, str]
    folder: Path

    @property
    def key_file(self) -> KeyFile:
        return KeyFile(self.pipeline.state_dir)

    @property
    def uploads(self) -> Path:
        return self.folder / "ragstack-uploads"

    def headers(self, name: str) -> dict[str, str]:
        """The headers of a caller."""
        return {"Authorization": f"Bearer {self.keys[name]}"}

    def finished(self, job_id: str, name: str = "admin") -> dict[str, Any]:
        """The job, once it has ended."""
        return finished(self.client, job_id, self.headers(name) if self.keys else {})

    def upload(self, name: str, *files: tuple[str, bytes]) -> dict[str, Any]:
        """Upload as the caller, and wait for the job; its report."""
        headers = self.headers(name) if self.keys else {}
        response = self.client.post("/v1/documents", headers=headers, files=[("files", file) for file in files])
        assert response.status_code == 202, response.text
        job = self.finished(response.json()["job_id"])
        assert job["state"] == "done", job
        report: dict[str, Any] = job["report"]
        return report


def finished(client: httpx.Client, job_id: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
    """Poll a job until it has ended."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        job: dict[str, Any] = client.get(f"/v1/jobs/{job_id}", headers=headers or {}).json()
        if job["state"] not in ("queued", "running"):
            return job
        time.sleep(0.02)
    raise AssertionError("the job did not end")


@contextmanager
def serving(folder: Path, *, with_keys: bool = True, **server: Any) -> Iterator[Served]:
    """The index of both tenants, served in this process. ``server`` are blocks of the config's ``server``."""
    corpus = folder / "corpus"
    corpus.mkdir()
    for tenant in TENANTS:
        (corpus / f"{tenant}.md").write_text(document(tenant))
    config = {
        **SMALL_CONFIG,
        "fields": {"tenant": {"type": "keyword"}},
        "retrieval": {"min_relevance": 0.0},
        "server": server,
    }
    with ragstack.open(config, state_dir=folder / "state") as pipeline:
        pipeline.index(corpus)
        made = KeyFile(pipeline.state_dir)
        keys: dict[str, str] = {}
        scopes: dict[str, tuple[Scope, ...]] = {"admin": ("admin",), "write": ("write",), "query": ("query",)}
        for name, chosen in scopes.items() if with_keys else ():
            keys[name] = made.create(name, chosen)[1]
        for tenant in TENANTS if with_keys else ():
            keys[tenant] = made.create(tenant, ("query", "write"), tenant_filter(tenant))[1]
        with TestClient(create_app(pipeline)) as client:
            yield Served(client, pipeline, keys, folder)
