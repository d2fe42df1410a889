"""Wheel and source distribution: what must be inside is, and what must not be is not."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Built:
    wheel: Path
    sdist: Path


@pytest.fixture(scope="session")
def built(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    out = tmp_path_factory.mktemp("dist")
    # The build goes through the source distribution, so the wheel is made from what the sdist holds.
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(repository)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    [wheel], [sdist] = out.glob("*.whl"), out.glob("*.tar.gz")
    return Built(wheel, sdist)


def wheel_files(built: Built) -> set[str]:
    with zipfile.ZipFile(built.wheel) as archive:
        return set(archive.namelist())


def package_files(repository: Path) -> set[str]:
    """Every file of the package in this checkout that is not a by-product."""
    return {
        path.relative_to(repository).as_posix()
        for path in (repository / "ragstack").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(built: Built, repository: Path) -> None:
    expected = package_files(repository)
    assert {"ragstack/py.typed", "ragstack/configs/default.yaml", "ragstack/cli/main.py"} <= expected
    assert any(name.startswith("ragstack/embedding/data/") for name in expected)
    files = {name for name in wheel_files(built) if ".dist-info/" not in name}
    assert files == expected


def test_ragstack_is_the_only_top_level_name(built: Built) -> None:
    names = {name.split("/")[0] for name in wheel_files(built)}
    assert names == {"ragstack", f"ragstack-{version('ragstack')}.dist-info"}


def test_licence_entry_point_and_version_are_stated(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as archive:
        info = f"ragstack-{version('ragstack')}.dist-info"
        assert f"{info}/licenses/LICENSE" in archive.namelist()
        assert "ragstack = ragstack.cli.main:run" in archive.read(f"{info}/entry_points.txt").decode()
        metadata = archive.read(f"{info}/METADATA").decode()
    assert f"Version: {version('ragstack')}\n" in metadata
    assert "License-Expression: Apache-2.0" in metadata
    assert "Requires-Python: >=3.10" in metadata
    core = [line for line in metadata.splitlines() if line.startswith("Requires-Dist:") and "extra ==" not in line]
    assert not [line for line in core if "torch" in line or "transformers" in line]


def test_the_sdist_holds_package_and_tests_and_no_link(built: Built, repository: Path) -> None:
    with tarfile.open(built.sdist) as archive:
        members = archive.getmembers()
    root = f"ragstack-{version('ragstack')}/"
    assert not [member.name for member in members if member.issym() or member.islnk()]
    names = {member.name.removeprefix(root) for member in members if member.isfile()}
    assert package_files(repository) <= names
    assert {"pyproject.toml", "LICENSE", "README.md", "tests/conftest.py", "scripts/test.py"} <= names
    assert not [name for name in names if "__pycache__" in name or name.startswith((".venv", ".ragstack"))]


def test_the_installed_wheel_runs(built: Built, tmp_path: Path) -> None:
    target = tmp_path / "target"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps",
               "--no-index", "--target", str(target), str(built.wheel)]  # fmt: skip
    subprocess.run(install, check=True)
    code = (
        "import sys, ragstack.cli.main as m; print(m.__file__); "
        "sys.exit(m.main(['--version']) or m.main(['config', 'check']) or m.main(['init']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(target)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    place, shown, *_ = done.stdout.splitlines()
    assert Path(place).is_relative_to(target)
    assert shown == f"ragstack {version('ragstack')}"
    assert (tmp_path / "ragstack.yaml").is_file()


def test_the_links_at_the_top_show_the_parts(repository: Path) -> None:
    for name in ("adapters", "api", "configs", "indexer"):
        assert (repository / name).resolve() == repository / "ragstack" / name
