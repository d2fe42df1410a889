"""Reads a data set, whichever of the known formats it is in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ragstack.errors import InputError
from ragstack.evaluation.beir import read_beir
from ragstack.evaluation.dataset import Complaints, Dataset, told
from ragstack.evaluation.questions import read_questions
from ragstack.evaluation.squad import read_squad

_HINT = "A data set is a BEIR folder, a SQuAD .json file, or a .jsonl file of questions; see docs/evaluation.md."


def read_dataset(path: Path, split: str | None = None) -> Dataset:
    """A folder is read as BEIR, ``*.json`` as SQuAD, ``*.jsonl`` as a user's own questions.

    Raises InputError for a missing path, another kind of file, ``split`` with anything but BEIR, and mistakes inside.
    """
    try:
        path.stat()
    except OSError as error:
        reason = "there is no such data set" if isinstance(error, FileNotFoundError) else error.strerror or error
        raise InputError(f"{path}: {reason}.", hint=_HINT) from error
    if path.is_dir():
        return read_beir(path, split)
    if split is not None:
        raise InputError(f"--split chooses qrels of a BEIR folder; {path} is a file.", hint=_HINT)
    if path.suffix.lower() == ".jsonl":
        return read_questions(path)
    if path.suffix.lower() == ".json":
        return read_squad(path)
    raise InputError(f"{path}: not a data set that ragstack reads.", hint=_HINT)


def asked_in(dataset: Dataset, path: Path) -> Dataset:
    """The data set with the wording that its questions, by id, have in another file: XQuAD in German asked in English.

    Questions that the other file lacks are left out and told. Raises InputError when it has none of them.
    """
    wording = {question.question_id: question.text for question in read_dataset(path).questions}
    missing = Complaints(f"questions that are not in {path}, left out")
    kept = []
    for question in dataset.questions:
        if question.question_id in wording:
            kept.append(replace(question, text=wording[question.question_id]))
        else:
            missing.add(question.question_id)
    if not kept:
        raise InputError(
            f"{path} has none of the questions of {dataset.path}.", hint="Their ids must be the same in both files."
        )
    return replace(dataset, questions=tuple(kept), warnings=(*dataset.warnings, *told(missing)))
