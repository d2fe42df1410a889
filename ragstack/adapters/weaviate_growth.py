"""Fields that a collection gets after records are in it.

Weaviate indexes a new property for what is written from then on. So the records that have a value are
written again, under a property that says it is not ready; it says so until the last of them is, and a process
that is killed meanwhile leaves a field that no filter may name, and that the next ``ensure_collection`` finishes.
"""

from __future__ import annotations

from collections.abc import Iterator

from ragstack.adapters.base import CollectionSpec
from ragstack.adapters.weaviate_collection import OpenCollection
from ragstack.adapters.weaviate_errors import Redaction
from ragstack.adapters.weaviate_records import field_values, to_object
from ragstack.adapters.weaviate_schema import describe_field, field_property
from ragstack.adapters.weaviate_writes import write
from ragstack.errors import CollectionError, InputError
from ragstack.filters import FieldType

_PAGE = 200


def add_fields(opened: OpenCollection, spec: CollectionSpec, max_bytes: int, connection: Redaction) -> bool:
    """Index the fields of ``spec`` that are not yet; whether there were any.

    CollectionError, and nothing changed, when a record holds a value of another type.
    """
    stored = opened.stored
    new = {name: type_ for name, type_ in spec.fields.items() if name not in stored.fields}
    unready = {name: field.type for name, field in stored.fields.items() if not field.ready and name in spec.fields}
    wanted: dict[str, FieldType] = {**unready, **new}
    if not wanted:
        return False
    holders = list(_holders(opened, wanted))
    taken = {field.key for field in stored.fields.values()}
    free = (key for number in range(len(taken) + len(new)) if (key := f"f{number}") not in taken)
    keys = {name: (field.key, field.type) for name, field in stored.fields.items()}
    for name, type_ in new.items():
        keys[name] = (next(free), type_)
        opened.handle.config.add_property(field_property(keys[name][0], name, type_, ready=not holders))
    parts = opened.parts() if holders else []
    for part in parts:
        for start in range(0, len(holders), _PAGE):
            records = opened.fetched(part, holders[start : start + _PAGE])
            objects = [to_object(record, keys) for record in records]
            if objects:
                write(part, objects, stored.dim, max_bytes, connection)
    pending = wanted if holders else unready
    if pending:
        opened.handle.config.update(
            property_descriptions={
                keys[name][0]: describe_field(name, type_, ready=True) for name, type_ in pending.items()
            }
        )
    return True


def _holders(opened: OpenCollection, wanted: dict[str, FieldType]) -> Iterator[str]:
    """Ids of the records with a value for one of the fields; CollectionError when it is of another type."""
    for page in opened.merged(opened.parts(), "everything", _PAGE):
        for hit in page:
            try:
                values = [field_values(name, type_, hit.payload.get(name), hit.id) for name, type_ in wanted.items()]
            except InputError as error:
                raise CollectionError(
                    f"the collection {opened.stored.name!r} cannot get the new fields: {error.message}", hint=error.hint
                ) from error
            if any(values):
                yield hit.id
