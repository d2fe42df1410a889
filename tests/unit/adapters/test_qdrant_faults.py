"""What comes of a Qdrant server that fails, hangs, refuses or is not there: one clear error, within the timeout."""

from __future__ import annotations

import inspect
import ssl
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from pydantic import SecretStr
from qdrant_client.common import client_exceptions
from qdrant_client.http import exceptions

from ragstack.adapters.base import CollectionSpec
from ragstack.adapters.qdrant import QdrantStore
from ragstack.adapters.qdrant_server_errors import Address, Deadline, RequestRefusedError, Requests, translated
from ragstack.config.stores.qdrant import QdrantStoreConfig
from ragstack.errors import (
    CapabilityError,
    CollectionError,
    PartialWriteError,
    RagstackError,
    StoreError,
    StoreUnavailableError,
)
from ragstack.testing.store_cases import make_record, record_id
from tests.servers.base import free_port
from tests.servers.qdrant_fake import FakeQdrant, Fault, running

KEY = "top-s3cret-key"
HERE = Address("http://host:6333", KEY)


@pytest.fixture
def server() -> Iterator[FakeQdrant]:
    with running() as server:
        yield server


def open_store(uri: str, **settings: Any) -> QdrantStore:
    return QdrantStore(QdrantStoreConfig.model_validate({"uri": uri, "timeout_s": 5.0, "retries": 4, **settings}))


@pytest.fixture
def store(server: FakeQdrant) -> Iterator[QdrantStore]:
    with open_store(server.uri) as store:
        store.ensure_collection(CollectionSpec("main", 4))
        server.seen.clear()
        yield store


# Passing failures


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_write_is_sent_again_after_a_passing_failure(server: FakeQdrant, store: QdrantStore, status: int) -> None:
    server.faults = [Fault("/points", times=2, status=status)]
    store.upsert("main", [make_record(1, dim=4)])
    assert len([seen for seen in server.seen if seen.path.endswith("/points")]) == 3
    assert store.count("main") == 1


def test_a_connection_that_drops_in_mid_write_is_no_loss(server: FakeQdrant, store: QdrantStore) -> None:
    server.faults = [Fault("/points", drop=True)]
    store.upsert("main", [make_record(1, dim=4), make_record(2, dim=4)])
    assert store.count("main") == 2


def test_a_collection_whose_creation_was_not_answered_is_there(server: FakeQdrant) -> None:
    with open_store(server.uri) as store:
        server.faults = [Fault("/collections/ragstack.main", drop=True)]
        store.ensure_collection(CollectionSpec("main", 4))
        assert store.collections() == ["main"]


def test_it_waits_as_long_as_the_server_asks(server: FakeQdrant, store: QdrantStore) -> None:
    pauses: list[float] = []
    requests = Requests(HERE, 5.0, Deadline(), sleep=pauses.append)
    for status in (429, 503):
        server.faults = [Fault("/points/count", status=status, headers={"Retry-After": "2"})]
        client = store._client
        assert requests.send(partial(client.count, "ragstack.main"), "count", "main", retries=3).count == 0
    assert pauses == [2.0, 2.0]


def test_it_does_not_wait_beyond_its_timeout(server: FakeQdrant, store: QdrantStore) -> None:
    server.faults = [Fault("/points/count", status=429, headers={"Retry-After": "60"})]
    began = time.monotonic()
    with pytest.raises(StoreUnavailableError, match="too much to do"):
        store.count("main")
    assert time.monotonic() - began < 5


def test_a_server_that_goes_on_failing_is_given_up(server: FakeQdrant, store: QdrantStore) -> None:
    server.faults = [Fault("/points", times=100, status=500)]
    with pytest.raises(StoreUnavailableError, match="status 500: made to fail") as caught:
        store.upsert("main", [make_record(1, dim=4)])
    assert server.uri in str(caught.value)
    assert server.faults[0].times == 100 - 5


def test_a_server_that_hangs_is_given_up_in_time(server: FakeQdrant) -> None:
    with open_store(server.uri, timeout_s=0.6) as store:
        store.ensure_collection(CollectionSpec("main", 4))
        server.faults = [Fault("/points/count", times=100, hang_s=3.0)]
        began = time.monotonic()
        with pytest.raises(StoreUnavailableError, match="in time") as caught:
            store.count("main")
        assert time.monotonic() - began < 2.5
    assert server.uri in str(caught.value)


def test_a_server_that_restarts_is_waited_for() -> None:
    server = FakeQdrant()
    with open_store(server.uri, retries=20, timeout_s=20.0) as store:
        store.ensure_collection(CollectionSpec("main", 4))
        server.stop()
        back = threading.Timer(0.7, server.start)
        back.start()
        for number in range(5):
            store.upsert("main", [make_record(number, dim=4)])
        back.join()
        assert store.count("main") == 5
    server.close()


# Settings that are wrong


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_key_is_named_and_not_told(server: FakeQdrant, status: int) -> None:
    server.api_key, server.refused_key_status = "right", status
    for settings in ({"api_key": SecretStr(KEY)}, {}):
        with open_store(server.uri, **settings) as store:
            calls: list[Any] = [store.health, store.collections, partial(store.count, "main")]
            for call in calls:
                with pytest.raises(StoreUnavailableError, match=r"store\.api_key") as caught:
                    call()
                assert server.uri in str(caught.value)
                assert KEY not in str(caught.value)


@pytest.mark.parametrize("status", [403, grpc.StatusCode.FAILED_PRECONDITION])
def test_a_locked_server_is_no_matter_of_the_key(status: Any) -> None:
    told = "Storage locked: the disk is being moved"
    if status == 403:
        body = b'{"status": {"error": "%s"}, "time": 0.0}' % told.encode()
        error: Exception = exceptions.UnexpectedResponse(403, "Forbidden", body, httpx.Headers())
    else:
        error = _rpc_error(status, told)
    failure = translated(error, HERE, "write to", "main")
    assert not failure.passing
    assert isinstance(failure.error, StoreUnavailableError)
    assert told in str(failure.error)
    assert "api_key" not in str(failure.error)


def test_a_server_without_space_is_not_asked_for_each_record(server: FakeQdrant, store: QdrantStore) -> None:
    body = b'{"status": {"error": "Insufficient storage: disk usage is at 96%"}, "time": 0.0}'
    server.faults = [Fault("/points", times=100, status=507, body=body)]
    with pytest.raises(StoreError, match="disk usage is at 96%") as caught:
        store.upsert("main", [make_record(i, dim=4) for i in range(20)])
    assert type(caught.value) is StoreError
    assert server.faults[0].times == 99


def test_a_shard_that_is_not_ready_is_waited_for_over_grpc_as_over_http() -> None:
    failure = translated(_rpc_error(grpc.StatusCode.FAILED_PRECONDITION, "shard is not active"), HERE, "read", "main")
    assert failure.passing


def test_a_key_that_the_server_repeats_is_not_told(server: FakeQdrant) -> None:
    with open_store(server.uri, api_key=SecretStr(KEY)) as store:
        server.faults = [Fault("/collections", status=400, body=b'{"status": {"error": "bad key %s"}}' % KEY.encode())]
        with pytest.raises(StoreError, match=r"bad key \*\*\*") as caught:
            store.collections()
        assert KEY not in str(caught.value)


@pytest.mark.parametrize("prefer_grpc", [False, True])
def test_a_wrong_port_is_named(prefer_grpc: bool) -> None:
    port = free_port()
    began = time.monotonic()
    with open_store(f"http://127.0.0.1:{port}", prefer_grpc=prefer_grpc, grpc_port=port, retries=1) as store:
        for call in (store.health, store.collections, lambda: store.ensure_collection(CollectionSpec("main", 4))):
            with pytest.raises(StoreUnavailableError, match=f":{port}") as caught:
                call()
            assert "store.uri" in str(caught.value)
    assert time.monotonic() - began < 15


def test_tls_where_the_server_has_none_is_told(server: FakeQdrant) -> None:
    over_tls = server.uri.replace("http:", "https:")
    with open_store(over_tls, retries=1) as store, pytest.raises(StoreUnavailableError, match="https:"):
        store.health()


def test_certificates_that_are_none_are_told(tmp_path: Any) -> None:
    (tmp_path / "ca.pem").write_text("nonsense")
    for name in ("ca.pem", "missing.pem"):
        with pytest.raises(StoreUnavailableError, match="tls_ca_file"):
            open_store("https://127.0.0.1:1", tls_ca_file=str(tmp_path / name))


@pytest.mark.parametrize(("status", "body"), [(404, b"<html>no</html>"), (200, b"<html>yes</html>"), (200, b"{}")])
def test_a_server_that_is_no_qdrant_is_told(server: FakeQdrant, status: int, body: bytes) -> None:
    with open_store(server.uri) as store:
        server.faults = [Fault("/collections", status=status, body=body)]
        with pytest.raises(StoreUnavailableError, match=r"store\.uri"):
            store.collections()


# Records that the server refuses


def test_the_records_that_a_server_refuses_are_named_and_the_others_written(
    server: FakeQdrant, store: QdrantStore
) -> None:
    server.refused_ids = {record_id(3), record_id(17)}
    with pytest.raises(PartialWriteError, match="refused 2 of 20") as caught:
        store.upsert("main", [make_record(i, dim=4) for i in range(20)])
    assert caught.value.failed.keys() == server.refused_ids
    assert "is not liked" in caught.value.failed[record_id(3)]
    assert store.count("main") == 18
    server.refused_ids = set()
    store.upsert("main", [make_record(i, dim=4) for i in range(20)])
    assert store.count("main") == 20


def test_when_it_refuses_all_nothing_is_partial(server: FakeQdrant, store: QdrantStore) -> None:
    server.refused_ids = {record_id(1)}
    with pytest.raises(RequestRefusedError, match="is not liked"):
        store.upsert("main", [make_record(1, dim=4)])


def test_a_write_that_was_not_applied_is_no_success(server: FakeQdrant, store: QdrantStore) -> None:
    unfinished = b'{"time": 0, "status": "ok", "result": {"operation_id": 1, "status": "acknowledged"}}'
    server.faults = [Fault("/points", times=100, status=200, body=unfinished)]
    with pytest.raises(StoreUnavailableError, match="did not finish"):
        store.upsert("main", [make_record(1, dim=4)])
    server.faults = [Fault("/points", times=1, status=200, body=unfinished)]
    store.upsert("main", [make_record(1, dim=4)])
    assert store.count("main") == 1


# Optimizers


@pytest.mark.parametrize(("status", "expected"), [("red", "failed"), ("yellow", "has not optimized")])
def test_optimizers_that_fail_or_take_too_long(server: FakeQdrant, status: str, expected: str) -> None:
    with open_store(server.uri, optimize_timeout_s=0.2) as store:
        store.ensure_collection(CollectionSpec("main", 4))
        info = store._client.get_collection("ragstack.main").model_dump_json()
        told = b'{"time": 0, "status": "ok", "result": %s}' % info.replace("green", status).encode()
        server.faults = [Fault("/collections/ragstack.main", times=100, status=200, body=told)]
        with pytest.raises(StoreError, match=expected):
            store.optimize("main")


def test_optimizers_that_wait_to_be_told_are_told(server: FakeQdrant, store: QdrantStore) -> None:
    info = store._client.get_collection("ragstack.main").model_dump_json()
    told = b'{"time": 0, "status": "ok", "result": %s}' % info.replace("green", "grey").encode()
    server.faults = [Fault("/collections/ragstack.main", times=1, status=200, body=told)]
    store.optimize("main")
    assert [seen.body for seen in server.seen if seen.method == "PATCH"] == [{"optimizers_config": {}}]


# Every exception of the driver


def _exceptions_of_the_driver() -> list[Exception]:
    made: list[Exception] = []
    for module in (exceptions, client_exceptions, httpx):
        for _, kind in inspect.getmembers(module, inspect.isclass):
            if issubclass(kind, Exception):
                made.append(_made(kind))
    made += [_rpc_error(code) for code in grpc.StatusCode]
    made += [grpc.RpcError("bare"), grpc.FutureTimeoutError(), grpc.FutureCancelledError()]
    made += [OSError("no route"), ssl.SSLError("bad"), ValueError("odd"), TypeError("odd"), RuntimeError("odd")]
    return [*made, KeyError("odd"), AttributeError("odd"), TimeoutError()]


def _made(kind: type[Exception]) -> Exception:
    request = httpx.Request("GET", "http://host")
    if kind is exceptions.UnexpectedResponse:
        return kind(418, "teapot", b"{}", httpx.Headers())
    if kind is exceptions.ResponseHandlingException:
        return kind(httpx.ConnectError("refused"))
    if kind is client_exceptions.ResourceExhaustedResponse:
        return kind("slow down", 1)
    if issubclass(kind, httpx.HTTPStatusError):
        return kind("told", request=request, response=httpx.Response(500, request=request))
    return kind() if kind in _WITHOUT_WORDS else kind("told")


_WITHOUT_WORDS = (httpx.StreamConsumed, httpx.StreamClosed, httpx.ResponseNotRead, httpx.RequestNotRead)


def _rpc_error(code: grpc.StatusCode, told: str = "") -> Exception:
    class Failed(grpc.RpcError):  # type: ignore[misc]
        def code(self) -> grpc.StatusCode:
            return code

        def details(self) -> str:
            return told or f"{code.name} {KEY}"

    return Failed()


@pytest.mark.parametrize("error", _exceptions_of_the_driver(), ids=lambda error: type(error).__name__)
def test_every_exception_of_the_driver_becomes_one_of_ours(error: Exception) -> None:
    failure = translated(error, HERE, "search", "main")
    assert isinstance(failure.error, StoreError)
    assert KEY not in str(failure.error)
    assert "main" in str(failure.error)
    assert HERE.uri in str(failure.error)

    def request() -> None:
        raise error

    with pytest.raises(RagstackError) as caught:
        Requests(HERE, 1.0, Deadline(), sleep=lambda _: None).send(request, "search", "main", retries=1)
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (grpc.StatusCode.NOT_FOUND, CollectionError),
        (grpc.StatusCode.UNAUTHENTICATED, StoreUnavailableError),
        (grpc.StatusCode.PERMISSION_DENIED, StoreUnavailableError),
        (grpc.StatusCode.UNAVAILABLE, StoreUnavailableError),
        (grpc.StatusCode.DEADLINE_EXCEEDED, StoreUnavailableError),
        (grpc.StatusCode.UNIMPLEMENTED, CapabilityError),
        (grpc.StatusCode.INVALID_ARGUMENT, RequestRefusedError),
    ],
)
def test_grpc_statuses(code: grpc.StatusCode, expected: type[StoreError]) -> None:
    assert type(translated(_rpc_error(code), HERE, "search", "main").error) is expected


def test_calls_of_a_closed_store(server: FakeQdrant, store: QdrantStore) -> None:
    store.close()
    for call in (store.health, store.collections, lambda: store.search_dense("main", np.ones(4, dtype=np.float32), 1)):
        with pytest.raises(StoreUnavailableError, match="closed"):
            call()
