"""A data set's documents as files, so that they take the same way into an index as a user's."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from uuid import uuid4

from ragstack.errors import InputError
from ragstack.evaluation.dataset import Corpus

LABEL = "corpus"
"""The label of the root, the first part of every source id."""

_NOT_PLAIN = re.compile(r"[^0-9A-Za-z]+")


def relative_path(document_id: str) -> str:
    """The document's file below the corpus folder, a function of the id alone.

    Ids may be anything: long, with slashes, equal but for upper case. The digest keeps their files apart, and the
    folders named by its first two digits keep each folder small.
    """
    digest = hashlib.sha256(document_id.encode()).hexdigest()
    readable = _NOT_PLAIN.sub("-", document_id)[:40].strip("-")
    return f"{digest[:2]}/{readable}-{digest[:16]}.txt" if readable else f"{digest[:2]}/{digest[:16]}.txt"


def source_id(document_id: str) -> str:
    """The source id of the document once its folder is indexed under :data:`LABEL`."""
    return f"{LABEL}/{relative_path(document_id)}"


def write_corpus(corpus: Corpus, folder: Path) -> Path:
    """The folder with one UTF-8 file a document; what an earlier run wrote is used again. Returns ``folder``/corpus.

    The folder appears whole or not at all. A byte-order mark at a document's start is left out: it would not belong to
    the text that spans count in. Raises InputError where the files cannot be written.
    """
    target = folder / LABEL
    if target.is_dir():
        return target
    staging = folder / f"{LABEL}.{uuid4().hex[:8]}"
    try:
        for document_id, text in corpus.documents():
            file = staging / relative_path(document_id)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(text.removeprefix("\ufeff").encode())
        try:
            staging.rename(target)
        except OSError:
            if not target.is_dir():  # else another process was quicker
                raise
    except OSError as error:
        raise InputError(
            f"{folder}: the data set's documents cannot be written: {error.strerror or error}.",
            hint="Name another folder with --state-dir.",
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return target


def document_ids(source_ids: Iterable[str], corpus: Corpus) -> dict[str, str]:
    """The document of each source of an index that somebody else made from the corpus: by path, or by file name.

    A source fits when its path ends as :func:`relative_path` says, or its file name without the suffix is the id.
    """
    by_path = {relative_path(document_id): document_id for document_id in corpus.ids}
    found: dict[str, str] = {}
    for source in source_ids:
        tail = "/".join(source.split("/")[-2:])
        stem = os.path.splitext(source.rsplit("/", 1)[-1])[0]  # noqa: PTH122 - a source id is no path of this system
        if tail in by_path:
            found[source] = by_path[tail]
        elif stem in corpus.ids:
            found[source] = stem
    return found
