"""``ragstack query --explain`` as it is typed."""

from __future__ import annotations

import json

import pytest

import ragstack
from ragstack.cli.main import main
from ragstack.retrieval.explain.explanation import Explanation
from tests.integration.harness import SMALL_CONFIG, Index, write_corpus

_QUESTION = "When is the red lever of the pump turned?"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    folder = tmp_path_factory.mktemp("command")
    write_corpus(folder / "corpus")
    made = Index(folder / "index", {**SMALL_CONFIG, "retrieval": {"min_relevance": 0.0}})
    made.run(folder / "corpus")
    return made


@pytest.fixture(autouse=True)
def beside_the_corpus(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(index.directory.parent)
    monkeypatch.setenv("NO_COLOR", "1")


def _printed(index: Index, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["query", _QUESTION, "-c", str(index.config_file), *arguments]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    "expected", ["corpus/guide.md:7", "corpus/notes/log3.txt", "corpus/picture.bin", "text:kelvin"]
)
def test_what_is_printed_fits_80_columns(index: Index, capsys: pytest.CaptureFixture[str], expected: str) -> None:
    printed = _printed(index, capsys, "--explain", expected)
    assert max(map(len, printed.splitlines())) <= 80
    assert "Stage by stage" in printed


def test_the_stages_of_a_line(index: Index, capsys: pytest.CaptureFixture[str]) -> None:
    printed = _printed(index, capsys, "--explain", "corpus/guide.md:7")
    assert printed.startswith("It is in passage 1, and the answer cites it.\n")
    stages = [line.split()[0] for line in printed.splitlines() if line.split()[1:2] == ["ok"]]
    assert stages == ["source", "chunk", "filter", "retrieve", "fuse", "rerank", "relevance", "passages", "answer"]
    assert "> corpus/guide.md:" in printed


@pytest.mark.parametrize("order", [["--explain"], ["--explain", "--no-answer"]])
def test_alone_it_tells_how_the_passages_were_found(
    index: Index, capsys: pytest.CaptureFixture[str], order: list[str]
) -> None:
    printed = _printed(index, capsys, *order)
    assert "Chunks  " in printed
    assert "Stage by stage" not in printed
    assert "passage 1" in printed


def test_json_is_the_model(index: Index, capsys: pytest.CaptureFixture[str]) -> None:
    printed = _printed(index, capsys, "--explain", "corpus/guide.md:7", "--json")
    explanation = Explanation.model_validate_json(printed)
    assert explanation.outcome == "cited"
    alone = json.loads(_printed(index, capsys, "--explain", "--json", "--top-n", "2"))
    assert alone["outcome"] is None
    assert len(alone["chain"]["passages"]) == 2


def test_mistakes_are_told(index: Index, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["query", _QUESTION, "-c", str(index.config_file), "--explain", "corpus/guide.md:400"]) == 2
    assert "ends with line 11" in capsys.readouterr().err


def test_names_drive_no_terminal(index: Index, capsys: pytest.CaptureFixture[str]) -> None:
    assert "\x1b" not in _printed(index, capsys, "--explain", "no\x1b[31mfile")


def test_through_the_server_that_holds_the_index(index: Index, capsys: pytest.CaptureFixture[str]) -> None:
    from tests.servers.rest import serving

    plain = Explanation.model_validate_json(_printed(index, capsys, "--explain", "corpus/guide.md:7", "--json"))
    with ragstack.open(index.config_file) as pipeline, serving(pipeline):
        served = Explanation.model_validate_json(_printed(index, capsys, "--explain", "corpus/guide.md:7", "--json"))
        lost = _printed(index, capsys, "--explain", "corpus/picture.bin")
    assert served.model_copy(update={"chain": plain.chain, "expected": plain.expected}) == plain
    assert "its bytes are no text" in " ".join(lost.split())
