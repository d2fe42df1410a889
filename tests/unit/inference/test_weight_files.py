from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ragstack.errors import EmbeddingError
from ragstack.inference import digests
from ragstack.inference.cache_folder import cache_folder
from ragstack.inference.digests import file_digest
from ragstack.inference.role import EMBEDDER
from ragstack.inference.weight_files import find_weights
from ragstack.types import sha256_hex


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAGSTACK_CACHE_DIR", str(tmp_path / "cache"))
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    return model


def shards(folder: Path, names: dict[str, str]) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))


def test_one_graph_is_named_by_its_own_hash(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"graph")
    found = find_weights(folder, EMBEDDER)
    assert found.formats == {"onnx"} and found.sha256 == sha256_hex(b"graph") and found.size_bytes == 5
    assert found.onnx() == b"graph"
    with pytest.raises(EmbeddingError, match="has no safetensors"):
        found.folder()


def test_every_byte_that_is_run_is_in_the_digest(folder: Path) -> None:
    files = ["onnx/model.onnx", "onnx/model.onnx_data", "model-1.safetensors", "model-2.safetensors", "config.json"]
    for name in files:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"{}")
    shards(folder, {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-1.safetensors"})
    first = find_weights(folder, EMBEDDER)
    assert first.formats == {"onnx", "safetensors"} and first.folder() == folder
    assert [path.name for path in first.safetensors] == ["model-1.safetensors", "model-2.safetensors"]
    assert first.onnx() == folder / "onnx" / "model.onnx"
    seen = {first.sha256}
    for name in files:
        (folder / name).write_bytes(b"[]")
        seen.add(find_weights(folder, EMBEDDER).sha256)
    assert len(seen) == 1 + len(files)


def test_what_cannot_be_weights_is_named(folder: Path) -> None:
    with pytest.raises(EmbeddingError, match=r"neither model\.onnx nor"):
        find_weights(folder, EMBEDDER)
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(EmbeddingError) as caught:
        find_weights(folder, EMBEDDER)
    assert "never loaded" in caught.value.hint
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(EmbeddingError) as caught:
        find_weights(folder, EMBEDDER)
    assert "merge" in caught.value.hint
    shards(folder, {"a": "model-1.safetensors", "b": "model-2.safetensors"})
    (folder / "model-1.safetensors").write_bytes(b"x")
    with pytest.raises(EmbeddingError, match=r"1 of 2 weights files are missing, such as model-2\.safetensors"):
        find_weights(folder, EMBEDDER)
    for names in ({"a": "../other.safetensors"}, {}):
        shards(folder, names)
        with pytest.raises(EmbeddingError, match="weight_map must tell"):
            find_weights(folder, EMBEDDER)


def settled(path: Path, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a file, and let the clock be past the time in which changes are not told apart."""
    path.write_bytes(data)
    monkeypatch.setattr(digests, "_now", lambda: path.stat().st_ctime + 10)


def test_a_large_file_is_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "_REMEMBERED_FROM", 4)
    reads: list[Path] = []
    read = digests._read
    monkeypatch.setattr(digests, "_read", lambda path: [reads.append(path), read(path)][1])
    weights = folder / "model.onnx"
    settled(weights, b"weights", monkeypatch)
    assert {file_digest(weights, EMBEDDER) for _ in range(3)} == {sha256_hex(b"weights")} and len(reads) == 1
    # Changed in place: the size is the same, and the time of the last change is set back.
    times = weights.stat()
    weights.write_bytes(b"weighty")
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert weights.stat().st_mtime_ns == times.st_mtime_ns
    assert file_digest(weights, EMBEDDER) == sha256_hex(b"weighty") and len(reads) == 2
    for entry in (cache_folder() / "digests").iterdir():
        entry.write_text("{half")
    assert file_digest(weights, EMBEDDER) == sha256_hex(b"weighty") and len(reads) == 3


def test_a_file_that_was_just_written_is_not_remembered(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "_REMEMBERED_FROM", 4)
    (folder / "model.onnx").write_bytes(b"weights")
    file_digest(folder / "model.onnx", EMBEDDER)
    assert not (cache_folder() / "digests").exists()


def test_a_cache_that_cannot_be_written_to_is_no_error(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "_REMEMBERED_FROM", 4)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RAGSTACK_CACHE_DIR", str(tmp_path / "file" / "below"))
    settled(folder / "model.onnx", b"weights", monkeypatch)
    assert file_digest(folder / "model.onnx", EMBEDDER) == sha256_hex(b"weights")


def test_a_file_that_changes_meanwhile_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = folder / "model.onnx"
    weights.write_bytes(b"weights")

    def written_to(path: Path) -> str:
        path.write_bytes(b"weights and more")
        return ""

    monkeypatch.setattr(digests, "_read", written_to)
    with pytest.raises(EmbeddingError, match="was changed while it was read"):
        file_digest(weights, EMBEDDER)


def test_where_the_cache_is() -> None:
    home = Path.home() / ".cache" / "ragstack"
    assert cache_folder({}) == home
    assert cache_folder({"XDG_CACHE_HOME": "/x"}) == Path("/x/ragstack")
    assert cache_folder({"XDG_CACHE_HOME": "/x", "RAGSTACK_CACHE_DIR": "/y"}) == Path("/y")
