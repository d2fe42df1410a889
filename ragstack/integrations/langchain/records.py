"""LangChain's documents as records of ragstack's stores and back. Pure."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.documents import Document

from ragstack.adapters.base import Payload, Record, empty_sparse
from ragstack.adapters.checks import payload_text
from ragstack.errors import IndexFormatError, InputError
from ragstack.filters import FieldType, typed_values
from ragstack.types import Float32Array

ID, TEXT, METADATA = "document_id", "page_content", "metadata"
"""Payload keys; declared fields stand beside them, where filters find them."""

_ID_NAMESPACE = uuid.UUID("5a0c7a52-3f0f-5a37-9f52-1a7b8f0a9d11")


def check_fields(fields: Mapping[str, FieldType]) -> dict[str, FieldType]:
    """The declared fields; InputError for a name that a record uses itself."""
    taken = sorted({ID, TEXT, METADATA} & set(fields))
    if taken:
        raise InputError(f"the field {taken[0]!r} cannot be declared: a record has a key of that name.")
    return dict(fields)


def record_id(id_: str) -> str:
    """The UUID under which a document is stored: its id where that is one, else a function of it."""
    if not isinstance(id_, str) or not id_:
        raise InputError(f"a document's id is a string that is not empty; got {id_!r}.")
    try:
        if str(uuid.UUID(id_)) == id_:
            return id_
    except ValueError:
        pass  # any other string is a name
    return str(uuid.uuid5(_ID_NAMESPACE, id_))


@dataclass(frozen=True)
class Entry:
    """A document that was checked and has its id, but no vector yet."""

    id: str
    text: str
    payload: Payload

    def record(self, vector: Float32Array) -> Record:
        """What is stored."""
        return Record(record_id(self.id), vector, empty_sparse(), self.payload)


def entries_of(
    texts: Sequence[str],
    metadatas: Sequence[Mapping[str, Any]] | None,
    ids: Sequence[str | None] | None,
    fields: Mapping[str, FieldType],
) -> list[Entry]:
    """An entry a text; those without an id get a new UUID.

    Raises InputError for lists of other lengths, an empty id, metadata that JSON would change and values of a declared
    field that are not of its type.
    """
    for name, values in (("metadatas", metadatas), ("ids", ids)):
        if values is not None and len(values) != len(texts):
            raise InputError(f"there are {len(texts)} texts and {len(values)} {name}.", hint=f"Pass as many {name}.")
    entries = []
    for index, text in enumerate(texts):
        given = ids[index] if ids else None
        id_ = str(uuid.uuid4()) if given is None else given
        metadata = dict(metadatas[index] or {}) if metadatas else {}
        _check_json(metadata, f"metadata of document {id_!r}")
        declared = {name: metadata[name] for name in fields if metadata.get(name) is not None}
        for name, value in declared.items():
            typed_values(name, fields[name], value)
        payload = {**declared, ID: id_, TEXT: text, METADATA: metadata}
        payload_text(payload, record_id(id_))
        entries.append(Entry(id_, text, payload))
    return entries


def document_of(payload: Payload) -> Document:
    """The document in a stored payload. Raises IndexFormatError for a record that was not written from one."""
    try:
        return Document(id=payload[ID], page_content=payload[TEXT], metadata=dict(payload[METADATA]))
    except (KeyError, TypeError) as error:
        raise IndexFormatError(
            f"the collection holds a record that is no document: {error} is missing.",
            hint="Give RagstackVectorStore a collection of its own.",
        ) from error


def _check_json(value: Any, where: str) -> None:
    """InputError for what JSON has no form for, or would give back as something else (a key that is a number)."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise InputError(f"{where}: the key {key!r} is not a string.", hint="Write it as a string.")
            _check_json(item, f"{where}, key {key!r}")
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check_json(item, where)
    elif value is not None and not isinstance(value, (str, int, float, bool)):
        raise InputError(
            f"{where}: a {type(value).__name__} is not JSON.",
            hint="Metadata holds strings, numbers, booleans, None, and lists and objects of them.",
        )
