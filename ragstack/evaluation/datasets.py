"""Reads a data set, whichever of the known formats it is in."""

from __future__ import annotations

from pathlib import Path

from ragstack.errors import InputError
from ragstack.evaluation.beir import read_beir
from ragstack.evaluation.dataset import Dataset
from ragstack.evaluation.questions import read_questions
from ragstack.evaluation.squad import read_squad

_HINT = "A data set is a BEIR folder, a SQuAD .json file, or a .jsonl file of questions; see docs/evaluation.md."


def read_dataset(path: Path, split: str | None = None) -> Dataset:
    """A folder is read as BEIR, ``*.json`` as SQuAD, ``*.jsonl`` as a user's own questions.

    Raises InputError for a missing path, another kind of file, ``split`` with anything but BEIR, and mistakes inside.
    """
    if not path.exists():
        raise InputError(f"{path}: there is no such data set.", hint=_HINT)
    if path.is_dir():
        return read_beir(path, split)
    if split is not None:
        raise InputError(f"--split chooses qrels of a BEIR folder; {path} is a file.", hint=_HINT)
    if path.suffix.lower() == ".jsonl":
        return read_questions(path)
    if path.suffix.lower() == ".json":
        return read_squad(path)
    raise InputError(f"{path}: not a data set that ragstack reads.", hint=_HINT)
