"""The error family of ragstack.

    RagstackError                      something went wrong; exit status 1
    ├── UserError                      a mistake the user can mend; exit status 2
    │   ├── ConfigError                the YAML pipeline config: every problem at once, file:line:column
    │   ├── InputError                 an argument, a path, a query text, a chain file
    │   │   └── FilterError            a metadata filter that is malformed or names an undeclared field
    │   ├── MissingExtraError          an optional dependency is not installed; names the extra
    │   └── IndexStateError            the index on disk is not in the state that the command needs
    │       ├── IndexNotFoundError     there is no index yet
    │       ├── IndexLockedError       another process holds it; names the holder
    │       ├── IndexFormatError       written by another format version, or damaged
    │       └── EmptyRootError         a root is missing or suddenly empty; nothing was deleted
    ├── SourceError                    one source could not be read or parsed; the run goes on, exit status 3
    ├── EmbeddingError                 the model failed: bad weights, a runtime's fault
    │   ├── TextError                  one of the texts cannot be embedded: too long, NaN; names it
    │   └── EmbeddingServerError       the server of a remote model cannot be reached, or gave what cannot be used
    │       └── ServerTextError        it refused one text, or gave no usable vector for it; a TextError too
    ├── RerankingError                 a reranker's model or server failed, or gave what cannot be used
    ├── DeviceMemoryError              a batch was too large for a device; caught where batches are made
    ├── StoreError                     the vector store failed
    │   ├── StoreUnavailableError      not reachable, locked, or shut
    │   │   └── StoreLockedError       held by another process; an IndexLockedError too, so exit status 2
    │   ├── CollectionError            missing, or of another dimension or metric
    │   └── CapabilityError            the store can't do what was asked
    ├── GenerationError                the language model cannot be reached, is slow or gave an error
    ├── RemoteError                    a ragstack server cannot be reached, or says what has no class here
    ├── CitationError                  a citation or chain that does not hold
    └── InterruptedRunError            stopped by the user at a consistent point; exit status 130

Every error carries ``message`` (what was wrong and where) and ``hint`` (what to do next). The command
line prints both and exits with ``exit_status``; no error of this family is ever shown as a traceback.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


class RagstackError(Exception):
    """Base of every error that ragstack raises on purpose.

    ``message`` says what was wrong and where; ``hint`` says what to do next (may be empty).
    """

    exit_status: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".rstrip() if self.hint else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled whole, whatever the constructor of its class takes: errors leave worker processes so."""
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[RagstackError], args: tuple[Any, ...], state: dict[str, Any]) -> RagstackError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class UserError(RagstackError):
    """A mistake the user can mend; the process exits with status 2."""

    exit_status: ClassVar[int] = 2


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """One mistake in a config file.

    ``line`` and ``column`` are 1-based; 0 where the file as a whole is meant.
    ``key_path`` is dotted (``chunker.max_tokens``).
    """

    file: str
    line: int
    column: int
    key_path: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        key = f"{self.key_path}: " if self.key_path else ""
        return f"{place}: {key}{self.message}"


class ConfigError(UserError):
    """All problems found in one pipeline config, in file order."""

    def __init__(self, problems: Sequence[ConfigProblem], *, hint: str = "") -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems), hint=hint)


class InputError(UserError):
    """An argument, path, query text or file that the user gave cannot be used."""


class FilterError(InputError):
    """A metadata filter that is malformed, or names a field that the config does not declare."""


class MissingExtraError(UserError):
    """An optional dependency is not installed.

    ``extra`` is the extra of this package that brings it; the ImportError is kept as ``__cause__``.
    """

    def __init__(self, what: str, extra: str) -> None:
        self.extra = extra
        super().__init__(
            f"{what} needs a package that is not installed.",
            hint=f"Install it with: pip install 'ragstack[{extra}]'",
        )


class IndexStateError(UserError):
    """The index on disk is not in the state that the command needs."""


class IndexNotFoundError(IndexStateError):
    """There is no index at the state directory yet."""


class IndexLockedError(IndexStateError):
    """Another process holds the index; the message names its pid, host and start time."""


class IndexFormatError(IndexStateError):
    """The index was written by another format version, or its files are damaged."""


class EmptyRootError(IndexStateError):
    """A root that held sources is missing or empty now; nothing was deleted."""


class SourceError(RagstackError):
    """One source could not be read or parsed; it is reported and the run goes on (exit status 3)."""

    exit_status: ClassVar[int] = 3


class EmbeddingError(RagstackError):
    """A model could not be loaded or gave an unusable result."""


class TextError(EmbeddingError):
    """One of the texts of a request cannot be embedded, or its vector cannot be used.

    ``text_index`` is its position in the request; ``fault`` is the message without it, for callers that know the text
    by another name.
    """

    def __init__(self, text_index: int, fault: str, *, hint: str = "") -> None:
        super().__init__(f"text {text_index}: {fault}", hint=hint)
        self.text_index = text_index
        self.fault = fault


class EmbeddingServerError(EmbeddingError):
    """The server of a remote embedding model cannot be reached, refused a request, or gave an unusable result."""


class ServerTextError(TextError, EmbeddingServerError):
    """The server of a remote embedding model refused one text, or gave a vector for it that cannot be used."""


class RerankingError(RagstackError):
    """A reranker's model could not be loaded or its server not be asked, or it gave an unusable result."""


class DeviceMemoryError(RagstackError):
    """A batch did not fit into a device's memory; a smaller one may. Caught where batches are made."""


class StoreError(RagstackError):
    """The vector store failed."""


class StoreUnavailableError(StoreError):
    """The vector store cannot be reached, is held by another process, or was closed."""


class StoreLockedError(StoreUnavailableError, IndexLockedError):
    """Another process holds the embedded store; the message names its pid, host and start time."""


class CollectionError(StoreError):
    """A collection is missing, or exists with another dimension or metric."""


class PartialWriteError(StoreError):
    """A store took some records of a write and refused others.

    ``failed`` gives the store's reason by record id. Writing the same records again is safe.
    """

    def __init__(self, message: str, failed: Mapping[str, str], *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.failed = dict(failed)


class CapabilityError(StoreError):
    """The store cannot do what was asked of it."""


class GenerationError(RagstackError):
    """A language model could not be asked: not reachable, too slow, or it answered with an error."""


class RemoteError(RagstackError):
    """A ragstack server could not be reached, or answered with an error that has no class in this family.

    ``status`` is that of the answer, 0 without one; ``request_id`` is the server's name for the request.
    """

    def __init__(self, message: str, *, hint: str = "", status: int = 0, request_id: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.request_id = request_id


class CitationError(RagstackError):
    """A citation or a chain does not hold."""


class InterruptedRunError(RagstackError):
    """The user stopped a run; it ended at a consistent point."""

    exit_status: ClassVar[int] = 130
