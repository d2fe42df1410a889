"""The options that ``eval`` and ``tune`` share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from ragstack.errors import InputError

if TYPE_CHECKING:
    from ragstack.evaluation.dataset import Dataset
    from ragstack.evaluation.target import IndexPlace

DatasetOption: TypeAlias = Annotated[
    Path,
    typer.Option(
        "--dataset",
        metavar="PATH",
        help="A BEIR folder, a SQuAD .json file, or a .jsonl file of questions.",
        show_default=False,
    ),
]
SplitOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--split", metavar="NAME", help="Which qrels of a BEIR folder; without it: test.", show_default=False),
]
AskedInOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--asked-in",
        metavar="FILE",
        help="Take the questions' wording, by id, from another data set: the same in another language.",
        show_default=False,
    ),
]
CorpusOption: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option(
        "--corpus",
        metavar="PATH",
        help="Files or folders that .jsonl questions are about; without it: the config's sources.paths.",
        show_default=False,
    ),
]
NoIndexOption: TypeAlias = Annotated[
    bool, typer.Option("--no-index", help="Ask the index that the config has, as it is.")
]
LimitOption: TypeAlias = Annotated[
    int | None,
    typer.Option("--limit", min=1, metavar="N", help="Ask only N questions, drawn by --seed.", show_default=False),
]
SeedOption: TypeAlias = Annotated[int, typer.Option("--seed", min=0, help="Decides every random choice.")]
StateDirOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--state-dir", metavar="DIR", help="Where indexes for evaluation are kept: .ragstack-eval.", show_default=False
    ),
]
JsonFileOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--json", metavar="FILE", help="Write every figure as JSON; - prints it instead of tables.", show_default=False
    ),
]
HtmlOption: TypeAlias = Annotated[
    Path | None,
    typer.Option("--html", metavar="FILE", help="Write a page with tables and plots.", show_default=False),
]


def place_of(corpus: list[Path] | None, state_dir: Path | None, *, no_index: bool) -> IndexPlace | None:
    """Where to index, or None for the index that is there. Raises InputError for options that exclude each other."""
    from ragstack.evaluation.target import DEFAULT_STATE_DIR, IndexPlace

    if no_index:
        if corpus or state_dir is not None:
            raise InputError(
                "--no-index asks the index that the config has.", hint="Leave --corpus and --state-dir out."
            )
        return None
    for path in corpus or ():
        if not os.path.lexists(path):
            raise InputError(f"--corpus {path}: there is no such file or folder.", hint="Check the path.")
    return IndexPlace(state_dir or DEFAULT_STATE_DIR, tuple(corpus or ()))


def data_of(dataset: Path, split: str | None, other_wording: Path | None, limit: int | None, seed: int) -> Dataset:
    """The data set that the options name. Raises InputError."""
    from ragstack.evaluation.datasets import asked_in, read_dataset

    data = read_dataset(dataset, split)
    if other_wording is not None:
        data = asked_in(data, other_wording)
    return data.sample(limit, seed)


def require_writable(*files: Path | str | None) -> None:
    """Raise InputError where a result could not be written: before an hour of work rather than after it."""
    for file in files:
        if file is None or str(file) == "-":
            continue
        folder = Path(file).parent
        if not folder.is_dir() or not os.access(folder, os.W_OK) or Path(file).is_dir():
            raise InputError(f"{file} cannot be written.", hint="Name a file in a folder that exists.")


def write_text(file: Path, text: str) -> None:
    """Write a result, its line ends as they are. Raises InputError."""
    try:
        file.write_bytes(text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise InputError(f"{file} cannot be written: {error.strerror or error}.", hint="Name another file.") from error
