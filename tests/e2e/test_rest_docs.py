"""The curl lines of docs/rest.md work as typed."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from tests.e2e.test_serve import PATIENCE_S, ragstack, serving


def test_every_line_works_as_typed(tmp_path: Path, repository: Path) -> None:
    page = (repository / "docs" / "rest.md").read_text("utf-8")
    blocks = [block for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) if "curl" in block]
    shutil.copytree(repository / "examples" / "corpus", tmp_path / "examples" / "corpus")
    assert ragstack(tmp_path, "index", "examples/corpus").status == 0
    with serving(tmp_path, "--port", "0") as (url, _):
        routes = _routes(url)
        for block in blocks:
            script = block.replace("http://127.0.0.1:8000", url)
            script = f'set -euo pipefail\ncurl() {{ command curl --fail-with-body "$@"; }}\n{script}'
            done = subprocess.run(
                ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=PATIENCE_S
            )
            assert done.returncode == 0, (block, done.stdout[-2000:], done.stderr)
            _until_jobs_end(url)
        answer = httpx.post(f"{url}/v1/query", json={"query": "What colour is the lamp at night?"}).json()["answer"]
        assert "green" in answer["text"], "the upload was indexed"
    shown = "\n".join(blocks)
    for path in routes:
        assert re.search(re.sub(r"\\\{[^}]*\\\}", r"[^\\s'\"?]+", re.escape(path)) + r"(?![\w/-])", shown), path


def _routes(url: str) -> list[str]:
    """The routes that this page is about; those of model servers and of metrics have pages of their own."""
    elsewhere = ("/v1/embeddings", "/v1/ranking")
    paths = httpx.get(f"{url}/openapi.json").json()["paths"]
    return [path for path in paths if path.startswith("/v1/") and path not in elsewhere]


def _until_jobs_end(url: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while any(job["state"] in ("queued", "running") for job in httpx.get(f"{url}/v1/jobs").json()["jobs"]):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture(autouse=True)
def needs_curl() -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
