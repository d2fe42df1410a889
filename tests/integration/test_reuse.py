"""What is embedded already is not embedded again, and the index is the same as if it were."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.integration.harness import Index


def clean_content(tmp_path: Path, corpus: Path, idx: Index) -> object:
    other = Index(tmp_path / "clean", idx.config)
    other.run(corpus)
    return other.content()


def test_a_line_appended_to_a_large_file(idx: Index, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    idx.config = {**idx.config, "indexer": {**idx.config["indexer"], "group_chunks": 500}}
    lines = [f"Entry {i}: the pressure at valve {i * 7919 % 1000} was {i % 97} bar." for i in range(6000)]
    (corpus / "large.txt").write_text("\n\n".join(lines))
    first = idx.run(corpus)
    assert first.chunks_reused == 0
    with (corpus / "large.txt").open("a") as file:
        file.write("\n\nOne more line.")
    second = idx.run(corpus)
    assert second.changed == 1
    assert second.tokens_embedded < 0.01 * first.tokens_embedded
    assert second.chunks_written == second.chunk_count
    assert idx.content() == clean_content(tmp_path, corpus, idx)


def test_renamed_and_copied_files(idx: Index, corpus: Path, tmp_path: Path) -> None:
    idx.run(corpus)
    (corpus / "guide.md").rename(corpus / "manual.md")
    shutil.copy(corpus / "tool.py", corpus / "tool2.py")
    report = idx.run(corpus)
    assert (report.added, report.deleted) == (2, 1)
    assert report.chunks_reused == report.chunks_written
    assert report.tokens_embedded == 0
    assert idx.content() == clean_content(tmp_path, corpus, idx)


def test_a_new_generation_of_the_same_model(idx: Index, corpus: Path, tmp_path: Path) -> None:
    first = idx.run(corpus)
    idx.config = {**idx.config, "fields": {"team": {"type": "keyword"}}}
    second = idx.run(corpus)
    assert "fields" in second.rebuilt_because
    assert second.chunks_reused == second.chunks_written == first.chunks_written
    assert idx.content() == clean_content(tmp_path, corpus, idx)
    third = idx.run(corpus)
    assert third.chunks_written == 0


def test_another_model_and_a_rebuild_that_was_asked_for_make_every_vector(idx: Index, corpus: Path) -> None:
    idx.run(corpus)
    assert idx.run(corpus, rebuild=True).chunks_reused == 0
    idx.config = {**idx.config, "embedder": {"type": "hashing", "dim": 48}}
    assert idx.run(corpus).chunks_reused == 0


def test_without_token_vectors(idx: Index, corpus: Path, tmp_path: Path) -> None:
    idx.config = {**idx.config, "reranker": {"type": "none"}}
    idx.run(corpus)
    (corpus / "guide.md").rename(corpus / "manual.md")
    report = idx.run(corpus)
    assert report.chunks_reused == report.chunks_written > 0
    content = idx.content()
    assert content["token_ids"] == []
    assert content == clean_content(tmp_path, corpus, idx)


def test_what_left_the_index_left_the_cache(idx: Index, corpus: Path) -> None:
    idx.run(corpus)
    guide = (corpus / "guide.md").read_bytes()
    (corpus / "guide.md").unlink()
    idx.run(corpus)
    (corpus / "guide.md").write_bytes(guide)
    report = idx.run(corpus)
    assert report.chunks_reused == 0
