"""The frame of the command line, in process: dispatch, errors, exit status."""

from __future__ import annotations

import json
import sys
from types import ModuleType

import pytest
import typer

from ragstack.cli import main as frame
from ragstack.cli.main import COMMANDS, Entry, main
from ragstack.cli.options import JsonOption
from ragstack.errors import ConfigError, ConfigProblem, IndexNotFoundError, InterruptedRunError, SourceError


@pytest.fixture
def run_raising(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Runs a command `boom` whose function raises, or returns, what it is given."""

    def run(outcome: object, *arguments: str) -> int:
        def boom(as_json: JsonOption = False) -> int:
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome  # type: ignore[return-value]

        module = ModuleType("boom_command")
        module.boom = boom  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "boom_command", module)
        monkeypatch.setitem(COMMANDS, "boom", Entry("boom_command:boom", "For a test."))
        return main(["boom", *arguments])

    return run


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--help"], ["-h"], ["help"]):
        assert main(arguments) == 0
        out = capsys.readouterr().out
        assert all(name.split(" ")[0] in out for name in COMMANDS)
        assert max(map(len, out.splitlines())) <= 110


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*name.split(" "), "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"Usage: ragstack {name}")
    examples = out.split("Options:")[1]
    assert f"ragstack {name}" in examples or "ragstack.yaml" in examples


@pytest.mark.parametrize("name", list(COMMANDS))
def test_each_command_offers_json(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    main([*name.split(" "), "--help"])
    assert "--json" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    from importlib.metadata import version

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"ragstack {version('ragstack')}\n"


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["indx"], "no such command: indx", "Did you mean 'index'?"),
        (["-c", "x"], "no such option before a command", "Options follow the command"),
        (["config", "chek"], "chek", "ragstack config --help"),
        (["config", "check", "--nope"], "--nope", "ragstack config check --help"),
        (["config", "check", "a", "b"], "b", "ragstack config check --help"),
    ],
)
def test_a_wrong_argument_is_status_2(
    arguments: list[str], message: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert message in err
    assert hint in err


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (None, 0), (0, 0), (3, 3),
        (IndexNotFoundError("no index", hint="make one"), 2),
        (SourceError("bad file"), 3),
        (InterruptedRunError("stopped"), 130),
        (KeyboardInterrupt(), 130),
        (ValueError("surprise"), 1),
        (typer.Exit(3), 3),
    ],
)  # fmt: skip
def test_what_a_command_ends_with_decides_the_status(run_raising, outcome: object, status: int) -> None:  # type: ignore[no-untyped-def]
    assert run_raising(outcome) == status


def test_an_error_is_message_and_hint_without_control_characters(run_raising, capsys) -> None:  # type: ignore[no-untyped-def]
    run_raising(IndexNotFoundError("no index in [red]\x1b]0;x\x07 \udcff", hint="make one"))
    assert capsys.readouterr().err == "error: no index in [red]\\x1b]0;x\\x07 \\udcff\nhint: make one\n"


def test_config_problems_are_listed(run_raising, capsys) -> None:  # type: ignore[no-untyped-def]
    problems = [ConfigProblem("f.yaml", line, 1, "a.b", "bad") for line in (1, 2)]
    assert run_raising(ConfigError(problems)) == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: the config has 2 mistakes", "  f.yaml:1:1: a.b: bad", "  f.yaml:2:1: a.b: bad",
    ]  # fmt: skip


def test_with_json_an_error_is_json_on_stdout(run_raising, capsys) -> None:  # type: ignore[no-untyped-def]
    assert run_raising(ConfigError([ConfigProblem("f", 1, 2, "k", "bad")], hint="h"), "--json") == 2
    out, err = capsys.readouterr()
    assert err == ""
    assert json.loads(out)["error"] == {
        "type": "ConfigError", "message": "f:1:2: k: bad", "hint": "h",
        "problems": [{"file": "f", "line": 1, "column": 2, "key": "k", "message": "bad"}],
    }  # fmt: skip
    assert run_raising(ValueError("x"), "--json") == 1
    assert json.loads(capsys.readouterr().out)["error"]["message"] == "ValueError: x"


def test_a_usage_error_is_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "show", "--json", "--nope"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["type"] == "UserError"


def test_a_surprise_is_one_line_and_a_traceback_on_request(run_raising, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    assert run_raising(ValueError("line one\nline two")) == 1
    err = capsys.readouterr().err
    assert err.startswith("internal error: ValueError: line one. ")
    assert "RAGSTACK_DEBUG=1" in err
    assert len(err.splitlines()) == 1
    monkeypatch.setenv("RAGSTACK_DEBUG", "1")
    with pytest.raises(ValueError, match="line one"):
        run_raising(ValueError("line one\nline two"))


def test_every_command_of_the_table_can_be_imported() -> None:
    for entry in COMMANDS.values():
        assert callable(frame._load(entry.target))
