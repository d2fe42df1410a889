"""The commands init, config, models and doctor, in process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ragstack.cli.main import main
from ragstack.config.loader import load_config
from ragstack.config.models import PipelineConfig


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_init_writes_a_config_that_equals_the_default(in_empty_folder: Path) -> None:
    assert main(["init"]) == 0
    assert load_config(in_empty_folder / "ragstack.yaml", {}).config == PipelineConfig()


def test_init_overwrites_only_when_told(in_empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = in_empty_folder / "ragstack.yaml"
    file.write_text("mine")
    assert main(["init"]) == 2
    assert file.read_text() == "mine"
    assert "--force" in capsys.readouterr().err
    assert main(["init", "--force"]) == 0
    assert file.read_text() != "mine"
    assert main(["init", "-o", "no/such/folder.yaml"]) == 2


def test_config_check(in_empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (in_empty_folder / "ragstack.yaml").write_text("retrieval:\n  top_k: many\n  topn: 3\n")
    assert main(["config", "check"]) == 2
    err = capsys.readouterr().err
    assert "ragstack.yaml:2:10: retrieval.top_k: expected an integer" in err
    assert "ragstack.yaml:3:3: retrieval.topn: unknown key" in err
    assert main(["config", "check", "other.yaml"]) == 2
    (in_empty_folder / "other.yaml").write_text("")
    assert main(["config", "check", "other.yaml", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"ok": True, "origin": "other.yaml"}


def test_config_show_prints_what_loads_back(in_empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (in_empty_folder / "a.yaml").write_text("chunker: {max_tokens: 77}\n")
    assert main(["config", "show", "-c", "a.yaml"]) == 0
    (in_empty_folder / "b.yaml").write_text(capsys.readouterr().out)
    assert load_config(Path("b.yaml"), {}).config == load_config(Path("a.yaml"), {}).config
    assert main(["config", "show", "-c", "a.yaml", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["config"]["chunker"]["max_tokens"] == 77


def test_config_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "schema"]) == 0
    assert json.loads(capsys.readouterr().out)["properties"]["chunker"]


def test_models_lists_the_default_as_installed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["models"]}
    default = rows["all-MiniLM-L6-v2"]
    assert (default["dim"], default["runs_here"]) == (384, True)
    assert main(["models"]) == 0
    assert "all-MiniLM-L6-v2" in capsys.readouterr().out


def findings(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, str]]:
    return {found["check"]: found for found in json.loads(capsys.readouterr().out)["findings"]}


def test_doctor_is_content_with_a_fresh_installation(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    found = findings(capsys)
    assert {name for name, finding in found.items() if finding["verdict"] == "fail"} == set()
    assert found["index"]["verdict"] == "warn"
    assert "ragstack index" in found["index"]["advice"]
    assert "SHA-256" in found["model"]["found"]


def test_doctor_names_what_is_wrong(in_empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (in_empty_folder / "bad.yaml").write_text("nope: 1\n")
    assert main(["doctor", "-c", "bad.yaml", "--json"]) == 1
    assert findings(capsys)["config"]["verdict"] == "fail"
    (in_empty_folder / "full.yaml").write_text("indexer: {min_free_bytes: 1000000000000000000}\n")
    assert main(["doctor", "-c", "full.yaml", "--json"]) == 1
    assert findings(capsys)["disk"]["verdict"] == "fail"
    (in_empty_folder / "model.yaml").write_text("embedder: {model: ./nowhere}\n")
    main(["doctor", "-c", "model.yaml", "--json"])
    assert findings(capsys)["model"]["verdict"] == "fail"


def test_doctor_notices_damaged_weights(capsys, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    from dataclasses import replace

    from ragstack.embedding.models import MODELS, PackagedFiles

    card = MODELS["all-MiniLM-L6-v2"]
    assert isinstance(card.files, PackagedFiles)
    monkeypatch.setitem(MODELS, card.name, replace(card, files=replace(card.files, weights_sha256="0" * 64)))
    assert main(["doctor", "--json"]) == 1
    assert findings(capsys)["model"]["verdict"] == "fail"


def test_config_check_knows_what_the_model_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "ragstack.yaml"
    file.write_text("version: 1\nchunker:\n  max_tokens: 5000\n")
    assert main(["config", "check", str(file)]) == 2
    error = capsys.readouterr().err
    assert f"{file}:3" in error
    assert "chunker.max_tokens" in error
    file.write_text("version: true\n")
    assert main(["config", "check", str(file)]) == 2
    assert f"{file}:1" in capsys.readouterr().err
