"""The Weaviate store without a server: connections, and the errors of its driver."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import grpc
import httpx
import pytest
from pydantic import ValidationError
from weaviate import exceptions as driver

from ragstack.adapters.weaviate import WeaviateStore
from ragstack.adapters.weaviate_client import addresses
from ragstack.adapters.weaviate_errors import Redaction, driver_errors, is_transient
from ragstack.adapters.weaviate_writes import patiently
from ragstack.config.stores.weaviate import WeaviateStoreConfig
from ragstack.errors import CapabilityError, CollectionError, StoreError, StoreUnavailableError

# Connections


@pytest.mark.parametrize(
    ("settings", "rest", "grpc_"),
    [
        ({}, "http://127.0.0.1:8080", "http://127.0.0.1:50051"),
        ({"uri": "http://h"}, "http://h:80", "http://h:50051"),
        ({"uri": "https://h", "grpc_port": 7}, "https://h:443", "https://h:7"),
        ({"uri": "http://h:1", "grpc_uri": "https://g"}, "http://h:1", "https://g:443"),
        (
            {"uri": "https://x.c0.weaviate.cloud"},
            "https://x.c0.weaviate.cloud:443",
            "https://grpc-x.c0.weaviate.cloud:443",
        ),
        ({"uri": "http://[::1]:8080"}, "http://[::1]:8080", "http://[::1]:50051"),
    ],
)
def test_addresses(settings: dict[str, Any], rest: str, grpc_: str) -> None:
    assert [str(address) for address in addresses(WeaviateStoreConfig(**settings))] == [rest, grpc_]


@pytest.mark.parametrize(
    "settings",
    [
        {"uri": "h:8080"},
        {"uri": "ftp://h"},
        {"uri": "http://"},
        {"uri": "http://u:p@h"},
        {"uri": "http://h/path"},
        {"uri": "http://h?key=1"},
        {"uri": "http://h:0"},
        {"grpc_uri": "h:1"},
        {"grpc_uri": "http://h:1", "grpc_port": 1},
        {"index": {"type": "flat", "quantizer": {"type": "pq"}}},
        {"index": {"type": "ivf"}},
        {"consistency": "some"},
        {"prefix": "a_b"},
        {"timeout_s": 0},
    ],
)
def test_settings_that_contradict_or_are_malformed(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        WeaviateStoreConfig(**settings)


def test_nothing_is_connected_before_it_is_used() -> None:
    with WeaviateStore(WeaviateStoreConfig(uri="http://nowhere.invalid")) as store:
        assert store.capabilities.exact_search
    with pytest.raises(StoreUnavailableError, match="closed"):
        store.collections()


# Errors


class _Call(grpc.RpcError):  # type: ignore[misc]
    """A failed call as grpc raises it."""

    def __init__(self, code: grpc.StatusCode) -> None:
        super().__init__("call failed")
        self._code = code

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return "call failed"


def instances() -> list[BaseException]:
    """One of every exception class of the driver, and those of the libraries that it lets through."""
    found: list[BaseException] = []
    for _, class_ in inspect.getmembers(driver, inspect.isclass):
        if issubclass(class_, Exception) and class_.__module__ == driver.__name__:
            error = class_.__new__(class_)
            Exception.__init__(error, "the key is s3cret")
            error.message = "the key is s3cret"
            if isinstance(error, driver.UnexpectedStatusCodeError):
                error._status_code = 500
            found.append(error)
    found += [httpx.ConnectError("s3cret"), httpx.ReadTimeout("s3cret"), httpx.InvalidURL("s3cret"), OSError("s3cret")]
    found += [ValueError("s3cret"), KeyError("s3cret"), TypeError("s3cret"), *map(_Call, grpc.StatusCode)]
    return found


CONNECTION = Redaction("http://h:1 (gRPC http://h:2)", "s3cret")


@pytest.mark.parametrize("error", instances(), ids=lambda error: type(error).__name__)
def test_every_error_of_the_driver_is_translated(error: BaseException) -> None:
    with pytest.raises(StoreError) as caught, driver_errors("search", "main", CONNECTION):
        raise error
    assert caught.value.__cause__ is error
    assert "s3cret" not in str(caught.value)
    assert "http://h:1" in str(caught.value)
    assert "'main'" in str(caught.value)
    assert caught.value.hint


def behind(error: Exception, call: Exception) -> Exception:
    """``error`` as the driver raises it while it handles ``call``."""
    error.__context__ = call
    return error


def failed_query(code: grpc.StatusCode, text: str = "x") -> Exception:
    return behind(driver.WeaviateQueryError(text, "GRPC search"), _Call(code))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (failed_query(grpc.StatusCode.UNAVAILABLE), StoreUnavailableError),
        (failed_query(grpc.StatusCode.DEADLINE_EXCEEDED), StoreUnavailableError),
        (failed_query(grpc.StatusCode.UNAUTHENTICATED), StoreUnavailableError),
        (failed_query(grpc.StatusCode.PERMISSION_DENIED), StoreUnavailableError),
        (failed_query(grpc.StatusCode.RESOURCE_EXHAUSTED), CapabilityError),
        (failed_query(grpc.StatusCode.UNKNOWN, "could not find class X in schema"), CollectionError),
        (failed_query(grpc.StatusCode.UNKNOWN), StoreError),
        (driver.UnexpectedStatusCodeError("x", httpx.Response(401, json={})), StoreUnavailableError),
        (driver.UnexpectedStatusCodeError("x", httpx.Response(404, json={})), CollectionError),
        (driver.UnexpectedStatusCodeError("x", httpx.Response(500, json={})), StoreError),
        (driver.WeaviateConnectionError("x"), StoreUnavailableError),
        (driver.WeaviateTimeoutError("x"), StoreUnavailableError),
    ],
)
def test_errors_are_told_apart(error: Exception, expected: type[StoreError]) -> None:
    with pytest.raises(StoreError) as caught, driver_errors("search", "main", CONNECTION):
        raise error
    assert type(caught.value) is expected


def test_whatever_a_closed_store_meets_says_that_it_is_closed() -> None:
    with pytest.raises(StoreUnavailableError, match="closed"), driver_errors("x", None, CONNECTION, lambda: True):
        raise ValueError("fd is -1")


def test_only_what_may_pass_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)

    def failing(error: Exception, times: int) -> Callable[[], str]:
        left = iter(range(times))

        def request() -> str:
            if next(left, None) is not None:
                raise error
            return "done"

        return request

    lost = failed_query(grpc.StatusCode.UNAVAILABLE)
    assert patiently(failing(lost, 3)) == "done"
    assert pauses == sorted(pauses)
    assert len(pauses) == 3
    with pytest.raises(driver.WeaviateQueryError):
        patiently(failing(lost, 50))
    pauses.clear()
    for final in (failed_query(grpc.StatusCode.DEADLINE_EXCEEDED), ValueError("x"), driver.WeaviateTimeoutError("x")):
        assert not is_transient(final)
        with pytest.raises(type(final)):
            patiently(failing(final, 1))
    assert pauses == []
