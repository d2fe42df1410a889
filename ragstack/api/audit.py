"""What is kept of every answer: who asked, and which versions of which sources it rests on.

Ids and hashes only, unless ``server.audit.include_text`` asks for more: after a document was erased, nothing here tells
what it said. The hash of a question is keyed (HMAC-SHA256, the key lies beside the log): short questions could be found
from a plain hash by trying.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path
from typing import Any

from ragstack.api.audit_log import AuditLog
from ragstack.api.redaction import redacted
from ragstack.api.security import Caller
from ragstack.citations.chain import Chain
from ragstack.config.models import PipelineConfig
from ragstack.config.server_audit import audit_dir
from ragstack.errors import StoreError
from ragstack.retrieval.explain.explanation import Explanation

_KEY_FILE = "hmac.key"
_KEY_BYTES = 32


class ChainAudit:
    """Writes a line for each chain. Opened once; safe to use from several threads."""

    def __init__(self, folder: Path, rotate_bytes: int, keep_files: int | None, *, include_text: bool) -> None:
        """Raises StoreError where the folder cannot be written."""
        self._log = AuditLog(folder, rotate_bytes, keep_files)
        self._key = _hmac_key(folder / _KEY_FILE)
        self._include_text = include_text

    @classmethod
    def open(cls, config: PipelineConfig, state_dir: Path) -> ChainAudit | None:
        """The log that the config asks for, or None when it is switched off."""
        audit = config.server.audit
        if not audit.enabled:
            return None
        folder = audit_dir(audit, state_dir)
        return cls(folder, audit.rotate_bytes, audit.keep_files, include_text=audit.include_text)

    def record(self, caller: Caller, chain: Chain, request_id: str, *, is_whole: bool = True) -> None:
        """Write the line of one chain; it is on the disk on return. Raises StoreError when it cannot be written."""
        answer = chain.answer
        places = [passage.place for passage in chain.passages]
        places += [duplicate.place for passage in chain.passages for duplicate in passage.duplicates]
        entry: dict[str, Any] = {
            "kind": "chain",
            "request_id": redacted(request_id)[:128],
            "caller": caller.name,
            "key_id": caller.key_id,
            "query_hmac_sha256": self._hash(chain.query.text),
            "chain_digest": chain.digest,
            "generation": chain.index.generation,
            "fingerprint": chain.index.fingerprint,
            "committed_seq": chain.index.committed_seq,
            "sources": sorted({(place.source_id, place.source_version) for place in places}),
            "citation_ids": [] if answer is None else [citation.citation_id for citation in answer.citations],
            "status": _status(chain) if is_whole else "broken_off",
        }
        if self._include_text:
            entry["text"] = {
                "query": redacted(chain.query.text),
                "answer": None if answer is None else redacted(answer.text),
                "quotes": [] if answer is None else [redacted(citation.place.text) for citation in answer.citations],
            }
        self._log.append(entry)

    def record_explanation(self, caller: Caller, explanation: Explanation, request_id: str) -> None:
        """Write the line of what an explanation shows. Raises StoreError when it cannot be written."""
        chain = explanation.chain
        self._log.append(
            {
                "kind": "explanation",
                "request_id": redacted(request_id)[:128],
                "caller": caller.name,
                "key_id": caller.key_id,
                "query_hmac_sha256": self._hash(chain.query.text),
                "chain_digest": chain.digest,
                "sources": sorted({(chunk.source_id, chunk.source_version) for chunk in explanation.chunks}),
            }
        )

    def _hash(self, text: str) -> str:
        return hmac.new(self._key, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def audit_chain(
    audit: ChainAudit | None, caller: Caller, chain: Chain, request_id: str, *, is_whole: bool = True
) -> None:
    """Record a chain before it is sent; one that is not whole broke off after some of it may have been sent.
     Blocking (it waits for the disk): call it from a thread of the pool.

    ``audit`` is ``state.audit``; None does nothing. Raises StoreError when the line cannot be written: an answer that
    leaves no trace is not given.
    """
    if audit is not None:
        audit.record(caller, chain, request_id, is_whole=is_whole)


def _status(chain: Chain) -> str:
    if chain.answer is None:
        return "retrieved"
    if chain.answer.error is not None:
        return "error"
    return "answered" if chain.answer.text else "no_answer"


def _hmac_key(path: Path) -> bytes:
    try:
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            key = path.read_bytes()
            if len(key) == _KEY_BYTES:
                return key
            fd = os.open(path, os.O_WRONLY | os.O_TRUNC)  # cut off by a crash before its first use
        with os.fdopen(fd, "wb") as file:
            key = secrets.token_bytes(_KEY_BYTES)
            file.write(key)
            file.flush()
            os.fsync(file.fileno())
        return key
    except OSError as error:
        raise StoreError(
            f"{path}: the key of the audit log cannot be used: {error.strerror or error}.",
            hint="Make the folder writable, or set server.audit.enabled: false.",
        ) from error
