"""What a caller whose key has a filter may see, and may bring in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ragstack.api.request_errors import ForbiddenError, NotFoundError
from ragstack.api.security import Caller
from ragstack.api.uploads import UploadFolder
from ragstack.config.models import PipelineConfig
from ragstack.errors import IndexNotFoundError, InputError, RagstackError, SourceError
from ragstack.filters import And, Condition, bind_filter, conditions
from ragstack.indexer.fields import field_values
from ragstack.ledger.listing import ListedSource, find_source
from ragstack.parsing.base import RawSource
from ragstack.parsing.registry import is_supported, media_type_of, parser_for, sniff
from ragstack.pipeline import Pipeline
from ragstack.retrieval.filter_check import matches
from ragstack.types import Source


def visible_sources(pipeline: Pipeline, caller: Caller, sources: Iterable[ListedSource]) -> set[str]:
    """The ids of those sources that the caller's queries can find; all of them for a caller without a filter.

    A source without chunks (empty, binary) has nothing that a filter could match, so it is not visible to callers
    with one. Raises FilterError when the key's filter names a field that the index does not know.
    """
    return {source.source_id for source, seen, _ in _chunks_seen(pipeline, caller, sources) if seen}


def _chunks_seen(
    pipeline: Pipeline, caller: Caller, sources: Iterable[ListedSource]
) -> list[tuple[ListedSource, bool, bool]]:
    """Each source, whether the caller sees any chunk of it, and whether all."""
    if caller.filter is None:
        return [(source, True, True) for source in sources]
    seen = []
    try:
        with pipeline.engine.reading() as (store, collection):
            for source in sources:
                # The version keeps chunks out that are staged, or replaced and not purged yet.
                is_current = (
                    Condition("source_id", "eq", source.source_id),
                    Condition("source_version", "eq", source.source_version),
                )
                count = store.count(collection, And((*is_current, caller.filter)))
                seen.append((source, count > 0, count >= source.chunk_count > 0))
    except IndexNotFoundError:
        return []
    return seen


def require_erasable(pipeline: Pipeline, caller: Caller, source_id: str) -> None:
    """Raise NotFoundError unless the caller may see the source, ForbiddenError where parts of it are hidden."""
    found = find_source(pipeline.state_dir, source_id)
    chunks = _chunks_seen(pipeline, caller, [found] if found is not None else [])
    if not any(seen for _, seen, _ in chunks):
        raise no_such_document()
    if not all(whole for _, _, whole in chunks):
        raise ForbiddenError(
            "parts of the document are hidden by the filter of the API key, so it cannot be erased with it.",
            hint="Use a key without a filter.",
        )


def no_such_document() -> NotFoundError:
    """The error for a source that is not indexed, or that the caller may not see."""
    return NotFoundError("there is no such document.", hint="GET /v1/documents lists those that there are.")


def owns_upload(folder: UploadFolder, caller_folder: str, source_id: str) -> bool:
    """True when an uploaded file with this id lies in the caller's own folder, indexed or not."""
    path = folder.path_of(source_id)
    return path is not None and path.parent == folder.root / caller_folder and folder.exists(source_id)


def require_own_document(config: PipelineConfig, caller: Caller, source_id: str, sha256: str, path: Path) -> None:
    """Raise ForbiddenError unless the caller's own filter will match every part of the file once it is indexed.

    Otherwise a caller could write into what only others may see.
    """
    if caller.filter is None:
        return
    refused = ForbiddenError(
        "the document does not match the filter of the API key, so its sender could not see it.",
        hint="Set the fields that the filter names in the document's front matter.",
    )
    if any(condition.field == "seq" for condition in conditions(caller.filter)):
        raise refused  # known only once it is indexed
    types = config.field_types()
    bound = bind_filter(caller.filter, types)
    data = path.read_bytes()
    name = source_id.rpartition("/")[2]
    media_type = media_type_of(name) or sniff(data)
    if not data or media_type is None or not is_supported(media_type):
        raise refused
    source = Source(source_id, path.as_uri(), sha256)
    try:
        documents = list(parser_for(media_type).parse(RawSource(source, data, media_type)))
        payloads = [_payload(config, document.metadata, source, media_type) for document in documents]
    except (SourceError, InputError) as error:
        raise InputError(
            "the document cannot be read, so the filter of the API key cannot be checked on it.",
            hint=error.hint,
        ) from error
    except RagstackError:
        raise
    except Exception as error:  # a third party's parser
        raise InputError("the document cannot be read: its parser failed.") from error
    if not payloads or not all(matches(bound, payload, types) for payload in payloads):
        raise refused
    # A field with two values would show the document to those whose filter asks for the second one, too.
    named = {condition.field for condition in conditions(bound)}
    if any(isinstance(payload.get(name), list) and len(payload[name]) > 1 for payload in payloads for name in named):
        raise refused


def _payload(config: PipelineConfig, metadata: Mapping[str, Any], source: Source, media_type: str) -> dict[str, Any]:
    built_in = {"source_id": source.source_id, "source_version": source.source_version, "media_type": media_type}
    return {**field_values(metadata, config.fields), **built_in}
