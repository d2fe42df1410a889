"""Qdrant's gRPC interface on loopback, over the same local mode as the fake of the REST interface."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from qdrant_client import grpc as messages
from qdrant_client import models
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc

from tests.servers.qdrant_fake import FakeQdrant


class FakeQdrantGrpc:
    """A running gRPC server over ``fake``, whose collections, key and payload indexes it shares."""

    def __init__(self, fake: FakeQdrant) -> None:
        self.calls: list[str] = []
        self._server = grpc.server(ThreadPoolExecutor(8), interceptors=[_Guard(fake, self.calls)])
        messages.add_PointsServicer_to_server(_Points(fake), self._server)
        messages.add_CollectionsServicer_to_server(_Collections(fake), self._server)
        messages.add_QdrantServicer_to_server(_Root(fake), self._server)
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.stop(None).wait()


class _Guard(grpc.ServerInterceptor):  # type: ignore[misc]
    """Writes calls down, asks for the key, and turns what local mode raises into statuses."""

    def __init__(self, fake: FakeQdrant, calls: list[str]) -> None:
        self._fake, self._calls = fake, calls

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = continuation(details)
        self._calls.append(details.method)
        key = dict(details.invocation_metadata).get("api-key")
        is_open = details.method.endswith("HealthCheck")

        def answer(request: Any, context: Any) -> Any:
            if self._fake.api_key and key != self._fake.api_key and not is_open:
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "Must provide an API key")
            with self._fake.lock:
                name = getattr(request, "collection_name", "")
                needs = name and not details.method.endswith(("/Create", "/Delete", "/CollectionExists"))
                if needs and not self._fake.local.collection_exists(name):
                    context.abort(grpc.StatusCode.NOT_FOUND, f"Not found: Collection `{name}` doesn't exist!")
                try:
                    return handler.unary_unary(request, context)
                except ValueError as error:
                    return context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))

        return grpc.unary_unary_rpc_method_handler(answer, handler.request_deserializer, handler.response_serializer)


class _Root(messages.QdrantServicer):  # type: ignore[misc]
    def __init__(self, fake: FakeQdrant) -> None:
        self._fake = fake

    def HealthCheck(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name, as those below
        return messages.HealthCheckReply(title="qdrant", version=self._fake.version)


class _Collections(messages.CollectionsServicer):  # type: ignore[misc]
    def __init__(self, fake: FakeQdrant) -> None:
        self._fake, self._local = fake, fake.local

    def List(self, request: Any, context: Any) -> Any:  # noqa: N802
        names = [each.name for each in self._local.get_collections().collections]
        return messages.ListCollectionsResponse(
            collections=[messages.CollectionDescription(name=name) for name in names]
        )

    def CollectionExists(self, request: Any, context: Any) -> Any:  # noqa: N802
        exists = self._local.collection_exists(request.collection_name)
        return messages.CollectionExistsResponse(result=messages.CollectionExists(exists=exists))

    def Get(self, request: Any, context: Any) -> Any:  # noqa: N802
        info = self._local.get_collection(request.collection_name)
        told = RestToGrpc.convert_collection_info(info)
        for key in self._fake.indexes.get(request.collection_name, {}):
            told.payload_schema[key].CopyFrom(messages.PayloadSchemaInfo(data_type=messages.PayloadSchemaType.Keyword))
        return messages.GetCollectionInfoResponse(result=told)

    def Create(self, request: Any, context: Any) -> Any:  # noqa: N802
        sparse = request.sparse_vectors_config
        self._local.create_collection(
            request.collection_name,
            vectors_config=GrpcToRest.convert_vectors_config(request.vectors_config),
            sparse_vectors_config=GrpcToRest.convert_sparse_vector_config(sparse),
            metadata=GrpcToRest.convert_payload(request.metadata),
        )
        return messages.CollectionOperationResponse(result=True)

    def Update(self, request: Any, context: Any) -> Any:  # noqa: N802
        metadata = GrpcToRest.convert_payload(request.metadata)
        self._local.update_collection(request.collection_name, metadata=metadata)
        return messages.CollectionOperationResponse(result=True)

    def Delete(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._fake.indexes.pop(request.collection_name, None)
        return messages.CollectionOperationResponse(result=self._local.delete_collection(request.collection_name))


class _Points(messages.PointsServicer):  # type: ignore[misc]
    def __init__(self, fake: FakeQdrant) -> None:
        self._fake, self._local = fake, fake.local

    def CreateFieldIndex(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._fake.indexes.setdefault(request.collection_name, {})[request.field_name] = "keyword"
        return _done()

    def Upsert(self, request: Any, context: Any) -> Any:  # noqa: N802
        points = [GrpcToRest.convert_point_struct(point) for point in request.points]
        if any(str(point.id) in self._fake.refused_ids for point in points):
            raise ValueError("a point is not liked")
        self._local.upsert(request.collection_name, points)
        return _done()

    def Delete(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._local.delete(request.collection_name, GrpcToRest.convert_points_selector(request.points))
        return _done()

    def UpdateBatch(self, request: Any, context: Any) -> Any:  # noqa: N802
        for operation in request.operations:
            change = operation.set_payload
            selector = GrpcToRest.convert_points_selector(change.points_selector)
            self._local.set_payload(request.collection_name, GrpcToRest.convert_payload(change.payload), selector)
        return messages.UpdateBatchResponse(result=[_done().result for _ in request.operations])

    def Get(self, request: Any, context: Any) -> Any:  # noqa: N802
        found = self._local.retrieve(
            request.collection_name,
            [GrpcToRest.convert_point_id(each) for each in request.ids],
            GrpcToRest.convert_with_payload_selector(request.with_payload),
            GrpcToRest.convert_with_vectors_selector(request.with_vectors),
        )
        return messages.GetResponse(result=[RestToGrpc.convert_retrieved_point(each) for each in found])

    def Scroll(self, request: Any, context: Any) -> Any:  # noqa: N802
        found, following = self._local.scroll(
            request.collection_name,
            GrpcToRest.convert_filter(request.filter) if request.HasField("filter") else None,
            request.limit,
            None,
            GrpcToRest.convert_point_id(request.offset) if request.HasField("offset") else None,
            GrpcToRest.convert_with_payload_selector(request.with_payload),
        )
        points = [RestToGrpc.convert_retrieved_point(each) for each in found]
        offset = RestToGrpc.convert_extended_point_id(following) if following is not None else None
        return messages.ScrollResponse(result=points, next_page_offset=offset)

    def Count(self, request: Any, context: Any) -> Any:  # noqa: N802
        sought = GrpcToRest.convert_filter(request.filter) if request.HasField("filter") else None
        count = self._local.count(request.collection_name, sought).count
        return messages.CountResponse(result=messages.CountResult(count=count))

    def Query(self, request: Any, context: Any) -> Any:  # noqa: N802
        batch = messages.QueryBatchPoints(collection_name=request.collection_name, query_points=[request])
        return messages.QueryResponse(result=self.QueryBatch(batch, context).result[0].result)

    def QueryBatch(self, request: Any, context: Any) -> Any:  # noqa: N802
        asked = [GrpcToRest.convert_query_points(each) for each in request.query_points]
        exact: list[models.QueryRequest] = [each.model_copy(update={"params": None}) for each in asked]
        answers = self._local.query_batch_points(request.collection_name, exact)
        return messages.QueryBatchResponse(
            result=[
                messages.BatchResult(result=[RestToGrpc.convert_scored_point(point) for point in answer.points])
                for answer in answers
            ]
        )


def _done() -> Any:
    return messages.PointsOperationResponse(
        result=messages.UpdateResult(operation_id=0, status=messages.UpdateStatus.Completed)
    )


@contextmanager
def running_grpc(fake: FakeQdrant) -> Iterator[FakeQdrantGrpc]:
    """The gRPC interface of a fake server for the time of a block."""
    server = FakeQdrantGrpc(fake)
    try:
        yield server
    finally:
        server.close()
