"""Data sets in the layout of BEIR (Thakur et al. 2021): corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from ragstack.errors import InputError
from ragstack.evaluation.dataset import Complaints, Corpus, Dataset, Question, clean_text, told
from ragstack.evaluation.json_lines import id_of, read_lines, read_objects, text_of

_LAYOUT = "A BEIR folder holds corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv."


def read_beir(folder: Path, split: str | None) -> Dataset:
    """The questions that ``qrels/<split>.tsv`` judges, and all documents.

    Without ``split``: ``test`` if there is one, else the only one. A document is its title, an empty line and its text,
    as benchmarks embed it. Lines of the qrels that name unknown queries or documents are left out and told, as are
    questions without a relevant document. Raises InputError with file and line for a mistake in the files.
    """
    corpus_file = folder / "corpus.jsonl"
    qrels_file = _qrels_file(folder, split)
    corpus = _corpus(corpus_file)
    texts = _queries(folder / "queries.jsonl")
    unknown_queries = Complaints("lines of the qrels that name a query not in queries.jsonl, left out")
    unknown_documents = Complaints("lines of the qrels that name a document not in corpus.jsonl, left out")
    judged: dict[str, dict[str, int]] = {}
    for number, query_id, document_id, grade in _judgements(qrels_file):
        if query_id not in texts:
            unknown_queries.add(f"{qrels_file}:{number} {query_id:.40}")
        elif document_id not in corpus.ids:
            unknown_documents.add(f"{qrels_file}:{number} {document_id:.40}")
            judged.setdefault(query_id, {})
        else:
            judged.setdefault(query_id, {})[document_id] = grade
    nothing_relevant = Complaints("questions without a relevant document in the corpus, left out")
    questions = []
    for query_id, grades in judged.items():
        relevant = {document_id: grade for document_id, grade in grades.items() if grade > 0}
        if relevant:
            questions.append(Question(query_id, texts[query_id], relevant))
        else:
            nothing_relevant.add(query_id[:40])
    reasons = told(unknown_queries, unknown_documents, nothing_relevant)
    if not questions:
        raise InputError(
            f"{qrels_file}: no question is left: {'; '.join(reasons) or 'it judges nothing'}.",
            hint="Are the ids those of queries.jsonl and corpus.jsonl?",
        )
    return Dataset(folder.name, str(folder), "beir", tuple(questions), corpus, qrels_file.stem, reasons)


def _qrels_file(folder: Path, split: str | None) -> Path:
    found = {path.stem: path for path in sorted((folder / "qrels").glob("*.tsv"))}
    if not found:
        raise InputError(f"{folder}: there are no qrels: no file qrels/*.tsv.", hint=_LAYOUT)
    names = ", ".join(found)
    if split is not None:
        if split not in found:
            raise InputError(f"{folder}: no qrels/{split}.tsv.", hint=f"--split may be: {names}.")
        return found[split]
    if "test" in found:
        return found["test"]
    if len(found) > 1:
        raise InputError(f"{folder} has several splits and none is called test.", hint=f"Give --split: {names}.")
    return next(iter(found.values()))


def _corpus(file: Path) -> Corpus:
    lines: dict[str, int] = {}
    digest = hashlib.sha256()
    for number, document_id, text in _documents(file):
        if document_id in lines:
            raise InputError(
                f"{file}:{number}: the id {document_id!r} is on line {lines[document_id]} too.",
                hint="Each document needs an id of its own.",
            )
        lines[document_id] = number
        for part in (document_id, text):
            data = part.encode()
            digest.update(len(data).to_bytes(8, "big") + data)
    if not lines:
        raise InputError(f"{file} holds no documents.", hint=_LAYOUT)
    return Corpus(partial(_pairs, file), frozenset(lines), digest.hexdigest())


def _pairs(file: Path) -> Iterator[tuple[str, str]]:
    return ((document_id, text) for _, document_id, text in _documents(file))


def _documents(file: Path) -> Iterator[tuple[int, str, str]]:
    for number, row in read_objects(file, "the documents"):
        where = f"{file}:{number}"
        title, text = text_of(row, "title", where, ""), text_of(row, "text", where, "")
        yield number, clean_text(id_of(row, "_id", where)), clean_text(f"{title}\n\n{text}" if title else text)


def _queries(file: Path) -> dict[str, str]:
    texts: dict[str, str] = {}
    for number, row in read_objects(file, "the questions"):
        query_id = clean_text(id_of(row, "_id", f"{file}:{number}"))
        if query_id in texts:
            raise InputError(f"{file}:{number}: the id {query_id!r} is there twice.", hint="Give each its own.")
        texts[query_id] = clean_text(text_of(row, "text", f"{file}:{number}"))
    return texts


def _judgements(file: Path) -> Iterator[tuple[int, str, str, int]]:
    """Line, query id, document id and grade; BEIR's three columns or the four of TREC, with or without a header."""
    for number, line in read_lines(file, "the relevant documents"):
        # By tabs where there are any: an id may hold spaces.
        cells = [cell.strip() for cell in line.split("\t")] if "\t" in line else line.split()
        if len(cells) == 4:
            del cells[1]
        try:
            query_id, document_id, grade = cells
            yield number, query_id, document_id, int(float(grade))
        except (ValueError, OverflowError) as error:
            if number == 1 and len(cells) == 3:
                continue  # the header
            raise InputError(
                f"{file}:{number}: expected query-id, corpus-id and score, got {line.strip()!r:.80}.",
                hint="Three columns with tabs between them, or the four of TREC.",
            ) from error
