"""Documents: upload, list, erase, index again. All changes are jobs (:mod:`ragstack.api.routes.jobs`)."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime, timezone
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from ragstack.api.errors import errors
from ragstack.api.request_errors import ForbiddenError
from ragstack.api.routes.jobs import JobStarted
from ragstack.api.security import Caller, QueryCaller, WriteCaller
from ragstack.api.state import AppState, State
from ragstack.api.upload_reader import ReceivedFile, receive_files
from ragstack.api.uploads import folder_of
from ragstack.api.visibility import require_own_document, visible_sources
from ragstack.errors import InputError
from ragstack.indexer.disk import reserve_bytes
from ragstack.ledger.listing import ListedSource, list_sources

router = APIRouter(prefix="/v1/documents", tags=["documents"])
_PAGES_LOOKED_AT = 20
"""Pages of the ledger that one request looks through for documents that the caller may see."""


class DocumentBody(BaseModel):
    """One indexed source. ``indexed_at``: when these bytes were last read; ``skipped``: why it has no chunks."""

    source_id: str
    source_version: str
    source_uri: str
    media_type: str
    size_bytes: int
    chunk_count: int
    indexed_at: datetime
    skipped: str | None
    uploaded: bool


class DocumentList(BaseModel):
    """A page of documents in the order of their ids. ``next_cursor`` asks for the page after it; null at the end."""

    documents: list[DocumentBody]
    next_cursor: str | None


class ReindexRequest(BaseModel):
    """Without paths, everything that was indexed before is looked at; paths need the scope admin."""

    model_config = ConfigDict(extra="forbid")

    paths: list[Annotated[str, Field(min_length=1)]] = Field(default=[], max_length=10_000)


_UPLOAD_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["files"],
                    "properties": {"files": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                }
            }
        },
    }
}


@router.post(
    "",
    status_code=202,
    response_model=JobStarted,
    responses=errors(401, 403, 408, 413, 422, 429, 507),
    openapi_extra=_UPLOAD_BODY,
)
async def upload(request: Request, state: State, caller: WriteCaller) -> dict[str, str]:
    """Upload files and index them. A file of the same name is replaced.

    Each part of the body is named `files` and carries a file name: `curl -F files=@report.md URL`.
    """
    state.jobs.require_room()  # before the body is read
    config = state.pipeline.config
    folder = state.documents.folder
    reserve = reserve_bytes(config, state.pipeline.state_dir)
    folder.require_room(int(request.headers.get("content-length", 0)), reserve)
    files = await receive_files(
        request.headers.get("content-type", ""),
        request.stream(),
        folder,
        min(config.server.documents.max_file_bytes, config.sources.max_file_bytes),
        config.server.documents.max_files,
        reserve,
        state.threads,
    )
    job = await anyio.to_thread.run_sync(_begin_upload, state, caller, files, limiter=state.threads)
    return {"job_id": job}


def _begin_upload(state: AppState, caller: Caller, files: list[ReceivedFile]) -> str:
    try:
        for file in files:
            source_id = state.documents.folder.source_id(folder_of(caller.filter), file.name)
            require_own_document(state.pipeline.config, caller, source_id, file.sha256, file.path)
    except BaseException:
        for file in files:
            file.path.unlink(missing_ok=True)
        raise
    return state.documents.upload(caller, files).job_id


@router.get("", response_model=DocumentList, responses=errors(401, 403, 422, 429, 503))
async def list_documents(
    state: State,
    caller: QueryCaller,
    limit: Annotated[int, Query(ge=1, le=1000, description="Most documents on a page.")] = 100,
    cursor: Annotated[str | None, Query(max_length=8192, description="`next_cursor` of the page before.")] = None,
) -> DocumentList:
    """What is indexed, as far as the caller may see it. A page may hold fewer than `limit` before the end."""
    after = "" if cursor is None else _read_cursor(cursor)
    return await anyio.to_thread.run_sync(_page, state, caller, after, limit, limiter=state.threads)


def _page(state: AppState, caller: Caller, after: str, limit: int) -> DocumentList:
    shown: list[ListedSource] = []
    for _ in range(_PAGES_LOOKED_AT):
        rows = list_sources(state.pipeline.state_dir, after, limit)
        visible = visible_sources(state.pipeline, caller, rows)
        for row in rows:
            after = row.source_id
            if row.source_id in visible:
                shown.append(row)
            if len(shown) == limit:
                break
        is_end = len(rows) < limit and (not rows or after == rows[-1].source_id)
        if is_end or len(shown) == limit:
            break
    else:
        is_end = False
    documents = [_document(row, state) for row in shown]
    return DocumentList(documents=documents, next_cursor=None if is_end else _cursor(after))


def _document(row: ListedSource, state: AppState) -> DocumentBody:
    return DocumentBody(
        source_id=row.source_id,
        source_version=row.source_version,
        source_uri=row.source_uri,
        media_type=row.media_type,
        size_bytes=row.size_bytes,
        chunk_count=row.chunk_count,
        indexed_at=datetime.fromtimestamp(row.checked_at_ns / 1e9, timezone.utc),
        skipped=row.skipped or None,
        uploaded=state.documents.folder.exists(row.source_id),
    )


@router.post("/reindex", status_code=202, response_model=JobStarted, responses=errors(401, 403, 413, 422, 429))
async def reindex(state: State, caller: WriteCaller, request: ReindexRequest | None = None) -> dict[str, str]:
    """Bring the index in line with the files as they are now."""
    paths = [] if request is None else request.paths
    if caller.filter is not None:
        raise ForbiddenError("a key with a filter cannot index again what its filter hides.", hint="Use another key.")
    if paths and not caller.may("admin"):
        raise ForbiddenError(
            "paths of the server's machine need the scope 'admin'.", hint="Leave `paths` out to index everything again."
        )
    return {"job_id": state.documents.index(caller, paths).job_id}


@router.delete(
    "/{source_id:path}",
    status_code=202,
    response_model=JobStarted,
    responses=errors(401, 403, 404, 422, 429, 503),
)
async def delete_document(
    source_id: Annotated[str, Path(description="As the list shows it.", max_length=8192)],
    state: State,
    caller: WriteCaller,
) -> dict[str, str]:
    """Erase a document from the index, down to the last byte; an uploaded file is deleted too.

    A file in a folder of the server's own is not touched: the job's report says whether the next run brings it back.
    """
    job = await anyio.to_thread.run_sync(state.documents.erase_document, caller, source_id, limiter=state.threads)
    return {"job_id": job.job_id}


def _cursor(source_id: str) -> str:
    return base64.urlsafe_b64encode(source_id.encode()).decode("ascii").rstrip("=")


def _read_cursor(cursor: str) -> str:
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        return base64.b64decode(padded, altchars=b"-_", validate=True).decode("utf-8")
    except (UnicodeError, binascii.Error) as error:
        raise InputError("`cursor` is not one that a list of documents gave.", hint="Leave it out to begin.") from error
