"""What ``eval`` and ``tune`` print, and where."""

from __future__ import annotations

import io
import sys
from typing import get_args

import pytest

from ragstack.cli.eval_progress import EvalProgress
from ragstack.cli.main import _prints_json
from ragstack.cli.tune import Measure
from ragstack.evaluation.tuning.trials import MEASURES


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("eval --dataset x --json -", True),
        ("eval --json=- --dataset x", True),
        ("eval --dataset x --json out.json", False),
        ("eval --json out.json --html -", False),
        ("eval --dataset x", False),
        ("tune --json -", True),
        ("query text --json", True),
        ("query text", False),
        ("--json", True),
        ("", False),
    ],
)
def test_errors_are_json_where_the_result_would_be(arguments: str, expected: bool) -> None:
    assert _prints_json(arguments.split()) is expected


def test_the_command_offers_the_measures_that_there_are() -> None:
    assert get_args(Measure) == MEASURES


def test_progress_in_a_pipe_ends_with_the_last_question(capsys: pytest.CaptureFixture[str]) -> None:
    with EvalProgress(quiet=False) as progress:
        progress.planned(0, 0)
        for done in range(1, 4):
            progress.asked(done, 3)
    assert capsys.readouterr().err == "3/3 questions asked\n"
    with EvalProgress(quiet=True) as progress:
        progress.planned(2, 10)
        progress.note("something")
        progress.asked(3, 3)
    assert capsys.readouterr().err == ""


def test_progress_on_a_terminal_stays_on_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with EvalProgress(quiet=False) as progress:
        progress.asked(1, 2)
        progress.asked(2, 2)
        progress.note("something")
    assert terminal.getvalue() == "\r2/2 questions asked\nsomething\n"
