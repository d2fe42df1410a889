"""tiktoken's encodings: their tables from its cache, the network, or a file."""

from __future__ import annotations

import base64
import hashlib
import os
import queue
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ragstack.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    import tiktoken

_DOWNLOAD_TIMEOUT_S = 60.0
_HOST = "https://openaipublic.blob.core.windows.net/encodings"
_O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_R50K = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
# How an encoding cuts text into words before it looks up its table (tiktoken_ext/openai_public.py, MIT). tiktoken
# gives these only together with the table, which it fetches.
_PATTERNS = {
    "r50k_base": _R50K,
    "p50k_base": _R50K,
    "cl100k_base": (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]"
        r"|\s+(?!\S)|\s"
    ),
    "o200k_base": _O200K,
    "o200k_harmony": _O200K,
}
# Those of two names share a table.
_TABLES = {"o200k_harmony": "o200k_base"}


def require_tiktoken(key: str) -> None:
    """Raise MissingExtraError where tiktoken, which ``key`` of the config asks for, is not installed."""
    try:
        import tiktoken  # noqa: F401, PLC0415 - an extra
    except ImportError as error:
        raise MissingExtraError(f"{key} by tiktoken", "llm") from error


def load_encoding(name: str, file: str | None, key: str, advice: str) -> tiktoken.Encoding:
    """The encoding ``name``, its table read from ``file``, else from tiktoken's cache, else from the network.

    ``key`` is the config's for it in messages; ``advice`` what else would do where there is no table. Raises InputError
    for an unknown encoding, a file that cannot be read, or a table that is not here and cannot be fetched;
    MissingExtraError without tiktoken.
    """
    require_tiktoken(key)
    import tiktoken  # noqa: PLC0415 - an extra

    if name not in tiktoken.list_encoding_names():
        known = ", ".join(tiktoken.list_encoding_names())
        raise InputError(f"{key}.encoding: {name!r} is not known to tiktoken.", hint=f"Known: {known}.")
    if file is None:
        return _fetched(name, lambda: tiktoken.get_encoding(name), key, advice)
    if name not in _PATTERNS:
        raise InputError(
            f"{key}.file: a rank file of {name} is not enough to count by.",
            hint=f"Leave file out, or use one of: {', '.join(_PATTERNS)}.",
        )
    try:
        ranks = _ranks(Path(file))
        return tiktoken.Encoding(name, pat_str=_PATTERNS[name], mergeable_ranks=ranks, special_tokens={})
    except (OSError, ValueError) as error:
        raise InputError(
            f"{key}.file: {file} cannot be read as a rank file of {name}: {error}.",
            hint=f"Get the file from {table_url(name)}.",
        ) from error


def _ranks(file: Path) -> dict[bytes, int]:
    """The table in a rank file: lines of a token in base64 and its rank. tiktoken's reader would keep a copy of it."""
    lines = (line.split() for line in file.read_bytes().splitlines() if line)
    ranks = {base64.b64decode(token, validate=True): int(rank) for token, rank in lines}
    if any(bytes([byte]) not in ranks for byte in range(256)):
        raise ValueError("it lacks tokens of single bytes")
    return ranks


def table_url(encoding: str) -> str:
    """Where OpenAI publishes the table of an encoding."""
    return f"{_HOST}/{_TABLES.get(encoding, encoding)}.tiktoken"


def cache_file(encoding: str) -> Path:
    """Where tiktoken keeps the table of an encoding once it was fetched."""
    folder = os.environ.get("TIKTOKEN_CACHE_DIR") or os.environ.get("DATA_GYM_CACHE_DIR")
    name = hashlib.sha1(table_url(encoding).encode(), usedforsecurity=False).hexdigest()
    return Path(folder or Path(tempfile.gettempdir()) / "data-gym-cache") / name


def _fetched(name: str, load: Callable[[], tiktoken.Encoding], key: str, advice: str) -> tiktoken.Encoding:
    """The encoding, from tiktoken's cache or the network.

    tiktoken fetches without a time limit, so it is not waited for longer than a minute.
    """
    outcome: queue.SimpleQueue[tiktoken.Encoding | Exception] = queue.SimpleQueue()

    def run() -> None:
        try:
            outcome.put(load())
        except Exception as error:
            outcome.put(error)

    threading.Thread(target=run, name="tiktoken", daemon=True).start()
    try:
        found = outcome.get(timeout=_DOWNLOAD_TIMEOUT_S)
    except queue.Empty:
        found = TimeoutError(f"no answer within {_DOWNLOAD_TIMEOUT_S:.0f} s")
    if not isinstance(found, Exception):
        return found
    raise InputError(
        f"{key}: the table of {name} is not in tiktoken's cache and cannot be fetched ({_brief(found)}).",
        hint=f"On a machine with a network get {table_url(name)}; then put it at {cache_file(name)}"
        f" (TIKTOKEN_CACHE_DIR chooses that folder), or {advice}.",
    ) from found


def _brief(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:160]}" if text else type(error).__name__
