"""A user's mistakes, typed at the real command: one clear message, the right exit status, no traceback."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ragstack.ledger.schema import LEDGER_FILE, LOCK_FILE
from ragstack.process_lock import hold_lock

CONFIG = """\
version: 1
embedder: {type: hashing, dim: 32}
retrieval: {min_relevance: 0.0}
indexer: {lock_timeout_s: 0.2, min_free_bytes: 0}
"""


def ragstack(folder: Path, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
    """Run the command in a folder."""
    done = subprocess.run(
        [sys.executable, "-m", "ragstack", *arguments],
        cwd=folder,
        input=stdin,
        capture_output=True,
        check=False,
        timeout=120,
    )
    result = subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    )
    assert "Traceback" not in result.stderr
    assert "internal error" not in result.stderr
    return result


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a config and documents, nothing indexed."""
    return make_folder(tmp_path)


def make_folder(tmp_path: Path) -> Path:
    (tmp_path / "ragstack.yaml").write_text(CONFIG)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("# Pumps\n\nThe pump is primed with oil every spring.\n")
    (tmp_path / "docs" / "b.txt").write_text("The turbine is greased in autumn.\n")
    return tmp_path


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An indexed folder with a saved chain, for tests that change nothing in it."""
    return make_indexed(make_folder(tmp_path_factory.mktemp("shared")))


@pytest.fixture
def indexed(folder: Path) -> Path:
    """An indexed folder with a saved chain, for one test alone."""
    return make_indexed(folder)


def make_indexed(folder: Path) -> Path:
    assert ragstack(folder, "index", "docs").returncode == 0
    done = ragstack(folder, "query", "How is the pump primed?", "--json")
    assert done.returncode == 0
    (folder / "chain.json").write_text(done.stdout)
    return folder


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["index", "nowhere"], 2, "no such file or folder"),
        (["index", "docs/**/*.pdf"], 2, "no file matches"),
        (["index"], 2, "nothing to index"),
        (["index", ""], 2, "is not a path"),
        (["index", "-"], 2, "empty"),
        (["index", "~nosuchuser-at-all/x"], 2, "nosuchuser"),
        (["index", "-c", "missing.yaml", "docs"], 2, "missing.yaml"),
        (["query", "anything"], 2, "ragstack index"),
        (["query", "anything", "--json"], 2, ""),
        (["status"], 2, "no index"),
        (["verify", "nothing.json"], 2, "nothing.json"),
        (["verify", "docs"], 2, "docs"),
        (["query"], 2, ""),
        (["frobnicate"], 2, ""),
    ],
)
def test_before_there_is_an_index(arguments: list[str], status: int, words: str, folder: Path) -> None:
    done = ragstack(folder, *arguments)
    assert done.returncode == status
    assert words in done.stderr
    assert not (folder / ".ragstack" / LEDGER_FILE).exists() or "index" in arguments


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["query", "  "], "empty"),
        (["query", "x", "--top-n", "0"], "top-n"),
        (["query", "x", "--top-n", "5000"], "top_n must be between"),
        (["query", "x", "--filter", "{"], "not JSON"),
        (["query", "x", "--filter", '{"field": "colour", "op": "eq", "value": "red"}'], "colour"),
        (["query", "x", "--filter", '{"field": "seq", "op": "like", "value": 1}'], "unknown operator"),
    ],
)
def test_bad_queries(arguments: list[str], words: str, shared: Path) -> None:
    done = ragstack(shared, *arguments)
    assert done.returncode == 2
    assert words in done.stderr


@pytest.mark.parametrize(
    ("yaml", "place", "words"),
    [
        ("chunkr: {}", ":5:1", "chunker"),
        ("chunker: {max_tokens: many}", ":5:", "max_tokens"),
        ("chunker: {type: recursiv}", ":5:", "recursive"),
        ("retrieval2: 1\nchunker: {overlap: 3}", ":5:1", "overlap_tokens"),
        ("chunker: [", ":", "ragstack.yaml"),
    ],
)
def test_config_mistakes_have_a_place(yaml: str, place: str, words: str, folder: Path) -> None:
    (folder / "ragstack.yaml").write_text(CONFIG + yaml + "\n")
    for arguments in (["index", "docs"], ["query", "x"], ["config", "check"]):
        done = ragstack(folder, *arguments)
        assert done.returncode == 2
        assert f"ragstack.yaml{place}" in done.stderr + done.stdout
        assert words in done.stderr + done.stdout


def test_a_chunk_longer_than_the_model_reads_is_a_config_error_before_any_work(folder: Path) -> None:
    (folder / "ragstack.yaml").write_text("version: 1\nchunker:\n  max_tokens: 4000\n")
    done = ragstack(folder, "index", "docs")
    assert done.returncode == 2
    assert "ragstack.yaml:3:" in done.stderr
    assert "all-MiniLM-L6-v2" in done.stderr


def test_locked_index_names_the_holder(shared: Path) -> None:
    with hold_lock(shared / ".ragstack" / LOCK_FILE, 0, "the index"):
        done = ragstack(shared, "index", "docs")
    assert done.returncode == 2
    assert "held by process" in done.stderr
    with hold_lock(shared / ".ragstack" / "store" / "lock", 0, "the store"):
        done = ragstack(shared, "query", "pump")
    assert done.returncode == 2
    assert "held by process" in done.stderr


def test_sources_that_fail_are_status_3(indexed: Path) -> None:
    (indexed / "docs" / "a.md").write_bytes(b"\xff\xfebroken\x80\n")
    done = ragstack(indexed, "index", "docs")
    assert done.returncode == 3
    assert "a.md" in done.stderr
    again = ragstack(indexed, "index", "docs", "--json")
    assert again.returncode == 3
    assert json.loads(again.stdout)["failed"][0]["path"].endswith("a.md")


def garbage(text: str) -> Callable[[str], str]:
    return lambda chain: text


@pytest.mark.parametrize(
    ("edit", "status"),
    [
        (garbage(""), 2),
        (garbage("[]"), 2),
        (garbage('{"format": "ragstack.chain/1"}'), 2),
        (lambda chain: chain[: len(chain) // 2], 2),
        (lambda chain: chain.replace("primed with oil", "primed with gin"), 1),
        (lambda chain: chain.replace('"byte_start": 0', '"byte_start": 2'), 1),
        (lambda chain: chain.replace('"byte_end"', '"byte_ende"'), 2),
    ],
)
def test_garbage_and_forged_chains(edit: Callable[[str], str], status: int, shared: Path, tmp_path: Path) -> None:
    chain = tmp_path / "edited.json"
    chain.write_text(edit((shared / "chain.json").read_text()))
    done = ragstack(shared, "verify", str(chain))
    assert done.returncode == status, done.stdout + done.stderr
    assert (done.stderr if status == 2 else done.stdout).strip()


def test_a_chain_is_no_text(shared: Path, tmp_path: Path) -> None:
    (tmp_path / "chain.json").write_bytes(bytes(range(256)))
    done = ragstack(shared, "verify", str(tmp_path / "chain.json"))
    assert done.returncode == 2
    assert "UTF-8" in done.stderr


def test_changed_and_missing_sources_are_status_3(indexed: Path) -> None:
    assert ragstack(indexed, "verify", "chain.json").returncode == 0
    (indexed / "docs" / "a.md").write_text("Other words.")
    done = ragstack(indexed, "verify", "chain.json")
    assert done.returncode == 3
    assert "source changed" in done.stdout
    (indexed / "docs" / "a.md").unlink()
    done = ragstack(indexed, "verify", "chain.json", "--json")
    assert done.returncode == 3
    assert json.loads(done.stdout)["counts"]["source_missing"] >= 1


@pytest.mark.parametrize("name", ["ledger.db", "archive.db", "tokens-1.db"])
def test_damaged_files_are_one_message_with_a_way_back(name: str, indexed: Path) -> None:
    (indexed / ".ragstack" / name).write_bytes(b"this is no database, not any more" * 200)
    for suffix in ("-wal", "-shm"):
        (indexed / ".ragstack" / (name + suffix)).unlink(missing_ok=True)
    (indexed / "docs" / "c.txt").write_text("The gasket of the boiler was renewed.")
    done = ragstack(indexed, "index", "docs")
    assert done.returncode == 2
    assert name in done.stderr
    # The hint is taken at its word: what it names mends the index.
    if name == "ledger.db":
        assert "Delete the state directory and run `ragstack index PATH` again" in done.stderr
        shutil.rmtree(indexed / ".ragstack")
    else:
        assert "Mend the index with: ragstack fsck --repair" in done.stderr
        assert ragstack(indexed, "fsck", "--repair").returncode == 0
    assert ragstack(indexed, "index", "docs").returncode == 0
    assert "docs/c.txt" in ragstack(indexed, "query", "Was the gasket of the boiler renewed?").stdout
    assert ragstack(indexed, "fsck").returncode == 0


def test_a_list_on_standard_input(folder: Path) -> None:
    done = ragstack(folder, "index", "-", "--json", stdin=b"docs/a.md\0docs/b.txt\0")
    assert done.returncode == 0
    assert json.loads(done.stdout)["added"] == 2


def test_piped_output_is_plain(shared: Path) -> None:
    done = ragstack(shared, "query", "How is the pump primed?")
    assert "\x1b" not in done.stdout
    assert "docs/a.md:" in done.stdout
    assert "»" in done.stdout


def test_a_state_directory_that_cannot_be_made(folder: Path) -> None:
    (folder / "taken").write_text("a file")
    (folder / "ragstack.yaml").write_text(CONFIG.replace("indexer: {", "indexer: {state_dir: taken, "))
    done = ragstack(folder, "index", "docs")
    assert done.returncode == 2
    assert "taken" in done.stderr


def test_a_filter_nested_without_end(shared: Path) -> None:
    done = ragstack(shared, "query", "x", "--filter", '{"not": ' * 3000 + "1" + "}" * 3000)
    assert done.returncode == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
@pytest.mark.parametrize("arguments", [["query", "x", "--json"], ["--help"], ["verify", "nothing.json", "--json"]])
def test_output_that_cannot_be_written(arguments: list[str], shared: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "ragstack", *arguments],
            cwd=shared,
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
            timeout=60,
        )
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    assert b"cannot be written" in done.stderr or b"no space is left" in done.stderr


def test_store_files_that_would_end_the_process(indexed: Path) -> None:
    """The engine trusts its files; scribbled ones abort it (SIGABRT) unless they are noticed before."""
    mappings = list((indexed / ".ragstack" / "store").rglob("mutable_id_tracker.mappings"))
    assert mappings
    for path in mappings:
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.seek(size // 4)
            file.write(random.Random(5).randbytes(size // 2))
    for command in (["query", "How is the pump primed?"], ["index", "docs"]):
        (indexed / "docs" / "c.txt").write_text("A new one.")
        done = ragstack(indexed, *command)
        assert done.returncode == 1, (command, done.stderr)
        assert "is damaged" in done.stderr
        assert "ragstack" in done.stderr.split("hint:")[1]
    assert ragstack(indexed, "fsck", "--repair").returncode == 0
    assert "docs/a.md" in ragstack(indexed, "query", "How is the pump primed?").stdout
