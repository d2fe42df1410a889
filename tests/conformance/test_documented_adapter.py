"""The test module that ``docs/stores.md`` shows to authors of adapters runs the whole suite as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

STORE = """
from pathlib import Path

from ragstack.testing.memory_store import MemoryStore


class MyStore(MemoryStore):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
"""
BROKEN = """

    def count(self, collection, filter=None):
        return super().count(collection, filter) + 1
"""


def run_suite(folder: Path, repository: Path, store: str, *options: str) -> subprocess.CompletedProcess[str]:
    """The suite, run from ``folder`` by the module in the documentation over a package with this store."""
    text = (repository / "docs" / "stores.md").read_text(encoding="utf-8")
    (module,) = (block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "Conformance" in block)
    assert len(module.strip().splitlines()) <= 25
    (folder / "mypackage").mkdir()
    (folder / "mypackage" / "__init__.py").touch()
    (folder / "mypackage" / "store.py").write_text(store, encoding="utf-8")
    (folder / "test_mystore.py").write_text(module, encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, "test_mystore.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(repository)])},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_store_that_keeps_the_contract_passes(tmp_path: Path, repository: Path) -> None:
    done = run_suite(tmp_path, repository, STORE)
    assert done.returncode == 0, done.stdout[-3000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) > 50
    assert "skipped" not in done.stdout


def test_one_that_does_not_fails(tmp_path: Path, repository: Path) -> None:
    done = run_suite(tmp_path, repository, STORE + BROKEN, "-k", "delete")
    assert done.returncode == 1
    assert "failed" in done.stdout
