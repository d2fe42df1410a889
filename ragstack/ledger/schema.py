"""Tables of the ledger, shared by its one writer and its readers."""

from __future__ import annotations

FORMAT_VERSION = 3
LEDGER_FILE = "ledger.db"
ARCHIVE_FILE = "archive.db"
CITATIONS_FILE = "citations.db"
LOCK_FILE = "index.lock"
# Lies there from the first step of an erasure to its last; holds a hash of what was named.
ERASING_FILE = "erasing"
# Lies there, empty, from the first change of a repair until the dropped sources were read again.
REPAIRING_FILE = "repairing"
WHAT = "ledger"

# In how many chunks something occurs is counted for BM25 terms (sparse leg), for word pieces (late interaction), for
# lengths and for languages. The id of a length is a number of terms, so that average and longest are exact whatever
# comes and goes; that of a language is :func:`language_number`.
TERMS, TOKENS, LENGTHS, LANGUAGES = 0, 1, 2, 3

SCHEMA = """
CREATE TABLE generations (
    generation INTEGER PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    config TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('building', 'active', 'retired')),
    created_at REAL NOT NULL,
    committed_seq INTEGER NOT NULL DEFAULT 0,
    group_open INTEGER NOT NULL DEFAULT 0,
    chunk_count INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE roots (
    label TEXT PRIMARY KEY,
    path TEXT NOT NULL
);
CREATE TABLE scopes (
    label TEXT NOT NULL REFERENCES roots(label) ON DELETE CASCADE,
    relative TEXT NOT NULL,
    PRIMARY KEY (label, relative)
) WITHOUT ROWID;
CREATE TABLE sources (
    generation INTEGER NOT NULL,
    source_id TEXT NOT NULL,
    source_version TEXT NOT NULL,
    source_uri TEXT NOT NULL,
    label TEXT NOT NULL,
    relative TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    checked_at_ns INTEGER NOT NULL,
    media_type TEXT NOT NULL,
    parser TEXT NOT NULL,
    skipped TEXT NOT NULL,
    language TEXT NOT NULL,
    seq INTEGER NOT NULL,
    spans BLOB NOT NULL,
    PRIMARY KEY (generation, source_id)
) WITHOUT ROWID;
CREATE TABLE superseded (
    generation INTEGER NOT NULL,
    source_id TEXT NOT NULL,
    source_version TEXT NOT NULL,
    parser TEXT NOT NULL,
    spans BLOB NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (generation, source_id, source_version)
) WITHOUT ROWID;
CREATE TABLE versions (
    source_id TEXT NOT NULL,
    source_version TEXT NOT NULL,
    PRIMARY KEY (source_id, source_version)
) WITHOUT ROWID;
CREATE TABLE embedded (
    generation INTEGER NOT NULL,
    digest BLOB NOT NULL,
    chunk_id TEXT NOT NULL,
    PRIMARY KEY (generation, digest)
) WITHOUT ROWID;
CREATE TABLE frequencies (
    generation INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    id INTEGER NOT NULL,
    frequency INTEGER NOT NULL,
    PRIMARY KEY (generation, kind, id)
) WITHOUT ROWID;
CREATE TABLE runs (
    run INTEGER PRIMARY KEY,
    started_at REAL NOT NULL,
    ended_at REAL,
    exit_status INTEGER,
    report TEXT
)
"""


def language_number(code: str) -> int:
    """The id of a language's count: the bytes of its ISO 639 code as a number; 0 where it is not known."""
    return int.from_bytes(code.encode("ascii"), "big")


def language_code(number: int) -> str:
    """The inverse of :func:`language_number`."""
    return number.to_bytes((number.bit_length() + 7) // 8, "big").decode("ascii")


def collection_name(generation: int) -> str:
    """The physical collection that holds a generation's chunks."""
    return f"gen-{generation}"


def token_vectors_file(generation: int) -> str:
    """The file, in the state directory, that holds a generation's token vectors."""
    return f"tokens-{generation}.db"
