"""Every error of the family crosses a process boundary whole."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import pytest

from ragstack import errors
from ragstack.errors import (
    ConfigError,
    ConfigProblem,
    MissingExtraError,
    PartialWriteError,
    RagstackError,
    RemoteError,
    ServerTextError,
    TextError,
)

OTHERS: dict[type[RagstackError], RagstackError] = {
    ConfigError: ConfigError([ConfigProblem("a.yaml", 3, 1, "store", "unknown key")], hint="Mend it."),
    MissingExtraError: MissingExtraError("the store 'milvus'", "milvus"),
    PartialWriteError: PartialWriteError("2 records were refused.", {"a": "too long"}, hint="Cut it."),
    ServerTextError: ServerTextError(3, "the embedder gave a vector that is zero.", hint="Ask again."),
    TextError: TextError(3, "the dense vector is zero.", hint="Choose another profile."),
    RemoteError: RemoteError("it is full.", hint="Wait.", status=429, request_id="r-1"),
}


def family(kind: type[RagstackError] = RagstackError) -> Iterator[type[RagstackError]]:
    yield kind
    for inner in kind.__subclasses__():
        if inner.__module__ == errors.__name__:
            yield from family(inner)


@pytest.mark.parametrize("kind", sorted(set(family()), key=lambda kind: kind.__name__))
def test_an_error_is_unpickled_as_it_was(kind: type[RagstackError]) -> None:
    error = OTHERS.get(kind) or kind("it failed.", hint="Do this.")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert (str(again), vars(again), again.args) == (str(error), vars(error), error.args)
