"""The pure parts of the Weaviate adapter: names, requests, index forms, sparse vectors, errors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from weaviate.collections.classes.config import _CollectionConfigCreate

from ragstack.adapters.base import CollectionSpec
from ragstack.adapters.sparse_dot import dot_products
from ragstack.adapters.weaviate_collection import NO_TENANT, tenant_name
from ragstack.adapters.weaviate_filters import compile_filter, index_key
from ragstack.adapters.weaviate_records import PARTITIONS, part_mark, partition, to_object
from ragstack.adapters.weaviate_schema import class_name, collection_name, creation, describe, describe_field, read_spec
from ragstack.adapters.weaviate_sparse import (
    decode_sparse,
    encode_sparse,
    fitting_repeats,
    words_of_query,
    words_of_record,
)
from ragstack.adapters.weaviate_writes import batches
from ragstack.config.stores.weaviate import WeaviateStoreConfig
from ragstack.errors import CollectionError, InputError
from ragstack.filters import bind_filter, parse_filter, typed_value
from ragstack.testing.store_cases import FIELDS, VALUES, make_record, make_sparse, record_id

KEYS = {name: (f"f{number}", type_) for number, (name, type_) in enumerate(FIELDS.items())}
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,40}", fullmatch=True)
prefixes = st.from_regex(r"[A-Za-z][A-Za-z0-9]{0,10}", fullmatch=True)

# Names


@given(prefixes, names)
def test_a_class_gives_back_its_collection(prefix: str, name: str) -> None:
    class_ = class_name(prefix, name)
    assert collection_name(prefix, class_) == name
    assert class_[0].isupper()
    assert class_.replace("_", "").isalnum()


@given(st.tuples(prefixes, names), st.tuples(prefixes, names))
def test_two_collections_are_two_classes_whatever_the_case(one: tuple[str, str], other: tuple[str, str]) -> None:
    if one != other:
        assert class_name(*one).lower() != class_name(*other).lower()
    if one[0] != other[0]:
        assert collection_name(one[0], class_name(*other)) is None


def test_names_by_example() -> None:
    assert class_name("ragstack", "main") == "Ragstack__main"
    assert class_name("Rag", "A-1_x.y") == "R_3ag___a_21_0x_1y"
    assert len(class_name("r" * 34, "A" * 100)) <= 240
    with pytest.raises(InputError, match="too long"):
        class_name("R" * 40, "A" * 100)
    for foreign in ("Articles", "Ragstack", "Ragstack__", "Ragstack__a_", "Ragstack__a_9", "Ragstack2__a"):
        assert collection_name("ragstack", foreign) is None


# Index forms


@pytest.mark.parametrize("type_", ["integer", "float", "datetime"])
def test_index_keys_have_the_order_of_the_values(type_: Any) -> None:
    values = sorted({typed_value(type_, value) for value in VALUES[type_]})  # type: ignore[type-var]
    keys = [index_key(type_, value) for value in values]
    assert keys == sorted(keys)
    assert len(set(keys)) == len(values)


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_float_keys_compare_as_floats(one: float, other: float) -> None:
    assert (index_key("float", one) < index_key("float", other)) == (one < other)
    assert (index_key("float", one) == index_key("float", other)) == (one == other)


@given(st.lists(st.text() | st.sampled_from([str(v) for v in VALUES["keyword"]]), unique=True))
def test_keywords_have_keys_of_their_own_that_trimming_leaves(values: list[str]) -> None:
    keys = [index_key("keyword", value) for value in values]
    assert len(set(keys)) == len(values)
    for key in keys:
        key.encode()
        assert key == key.strip()
        assert 1 < len(key) < 210


# Filters


@pytest.mark.parametrize(
    ("filter_", "expected"),
    [
        ({"and": []}, "everything"),
        ({"or": []}, "nothing"),
        ({"not": {"and": []}}, "nothing"),
        ({"field": "keyword", "op": "in", "value": []}, "nothing"),
        ({"field": "keyword", "op": "nin", "value": []}, "everything"),
        ({"field": "integer", "op": "eq", "value": 2**64}, "nothing"),
        ({"field": "integer", "op": "gt", "value": 2**64}, "nothing"),
        ({"field": "integer", "op": "lt", "value": -(2**64)}, "nothing"),
        ({"and": [{"or": []}, {"field": "bool", "op": "eq", "value": True}]}, "nothing"),
        ({"or": [{"and": []}, {"field": "bool", "op": "eq", "value": True}]}, "everything"),
    ],
)
def test_what_matches_all_or_none_needs_no_server(filter_: dict[str, Any], expected: str) -> None:
    assert compile_filter(bind_filter(parse_filter(filter_), FIELDS), KEYS) == expected


def test_a_filter_as_it_is_sent() -> None:
    filter_ = {
        "and": [
            {"field": "keyword", "op": "contains", "value": "a b"},
            {"not": {"field": "integer", "op": "gte", "value": -1}},
            {"field": "integer", "op": "lt", "value": 2**64},
        ]
    }
    compiled: Any = compile_filter(bind_filter(parse_filter(filter_), FIELDS), KEYS)
    contains, negated, any_integer = compiled.filters
    assert [(part.target, part.value) for part in contains.filters] == [("f0", ["=a b="]), ("marks", ["f0[]"])]
    assert negated.operator == "Not"
    assert (negated.filters[0].target, negated.filters[0].value) == ("f1", "7fffffffffffffff")
    assert (any_integer.target, any_integer.value) == ("marks", ["f1"])


# Records


def test_a_record_as_it_is_sent() -> None:
    payload = {"keyword": ["b", "a", "b"], "integer": 1, "float": None, "bool": [], "other": "\0"}
    record = make_record(1, payload, dense=[3.0, 4.0], sparse={10: 0.5, 2**32 - 1: -1.0})
    sent = to_object(record, KEYS)
    assert sent.uuid == record_id(1)
    assert sent.vector == {"dense": [np.float32(0.6), np.float32(0.8)]}
    assert sent.properties == {
        "payload": '{"keyword":["b","a","b"],"integer":1,"float":null,"bool":[],"other":"\\u0000"}',
        "sparse": encode_sparse(record.sparse),
        "terms": "pa pa pa nffffffff nffffffff nffffffff nffffffff nffffffff nffffffff",
        "f0": ["=a=", "=b="],
        "f1": ["8000000000000001"],
        "marks": ["all", partition(record.id), "f0", "f0[]", "f1"],
    }


def test_every_part_gets_records() -> None:
    parts = [partition(record_id(i)) for i in range(20 * PARTITIONS)]
    assert set(parts) == {part_mark(number) for number in range(PARTITIONS)}


def test_batches_keep_to_counts_and_bytes() -> None:
    objects = [to_object(make_record(i, {"text": "x" * (i % 7) * 10_000}), {}) for i in range(600)]
    sizes = [[str(o.uuid) for o in batch] for batch in batches(objects, 8, 200_000)]
    assert [id_ for batch in sizes for id_ in batch] == [record_id(i) for i in range(600)]
    assert max(map(len, sizes)) <= 256
    assert len(sizes) > 80
    assert [len(batch) for batch in batches(objects, 8, 1)] == [1] * 600
    assert list(batches([], 8, 1)) == []


# Sparse vectors

weights = st.dictionaries(
    st.integers(0, 2**32 - 1), st.floats(-100, 100, width=32).filter(lambda w: w != 0), max_size=20
)


@given(weights)
def test_sparse_vectors_come_back(weights: dict[int, float]) -> None:
    vector = make_sparse(weights)
    again = decode_sparse(encode_sparse(vector))
    assert (again.indices == vector.indices).all()
    assert (again.values == vector.values).all()
    assert (again.indices.dtype, again.values.dtype) == (np.uint32, np.float32)


@pytest.mark.parametrize("text", ["é", "a", "AAAA", "===="])
def test_what_is_no_sparse_vector_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="sparse vector"):
        decode_sparse(text)


@given(weights, st.lists(weights, max_size=5))
def test_dot_products_are_sums_over_shared_indices(query: dict[int, float], stored: list[dict[int, float]]) -> None:
    found = dot_products(make_sparse(query), [make_sparse(weights) for weights in stored])
    for score, weights in zip(found, stored, strict=True):
        terms = [float(np.float32(w)) * float(np.float32(query[i])) for i, w in weights.items() if i in query]
        assert math.isclose(score, math.fsum(terms), rel_tol=1e-6, abs_tol=1e-6 * sum(map(abs, terms), 0.0) + 1e-30)


@given(weights, weights)
def test_a_positive_dot_product_shares_a_word(query: dict[int, float], stored: dict[int, float]) -> None:
    if any(query[i] * weight > 0 for i, weight in stored.items() if i in query):
        asked = set(words_of_query(make_sparse(query)).split())
        assert asked & set(words_of_record(make_sparse(stored)).split())


def test_words_are_repeated_so_that_the_servers_scores_go_with_the_dot_products() -> None:
    rng = np.random.default_rng(2)
    idf = np.array([1.0, 2.0, 4.0])
    stored = [make_sparse({i: float(w) for i, w in enumerate(rng.uniform(0.2, 3.0, 3))}) for _ in range(50)]

    def server(repeats: list[int]) -> list[float]:
        shares = [np.rint(v.values * 6) / (np.rint(v.values * 6) + 1000.0) for v in stored]
        return [float(np.float32((idf * repeats * share).sum())) for share in shares]

    once = server([1, 1, 1])
    assert fitting_repeats(make_sparse({0: 0.5, 1: 1.0, 2: 2.0}), stored, once) is None
    even = fitting_repeats(make_sparse({0: 1.0, 1: 1.0, 2: 1.0}), stored, once)
    assert even is not None
    assert even.tolist() == [64, 32, 16]
    assert words_of_query(make_sparse({0: 1.0, 9: -1.0}), np.array([2, 1])) == "p0 p0 n9"
    unseen = fitting_repeats(make_sparse({0: 1.0, 2: 1.0, 7: 1.0}), stored, server([1, 0, 1]))
    assert unseen is not None
    assert unseen.tolist() == [64, 16, 1]
    assert fitting_repeats(make_sparse({7: 1.0}), stored, [0.0] * 50) is None


# Tenants


def test_tenants_have_names_that_the_server_takes() -> None:
    values = ["", "a", "A", "none", "k-a", "日本", "x" * 64, "\ud800", "a b", "../x"]
    found = [tenant_name(value) for value in values]
    assert len({*found, NO_TENANT}) == len(values) + 1
    assert all(len(name) <= 64 and name.replace("-", "").replace("_", "").isalnum() for name in found)


# Requests that make a collection


def created(**settings: Any) -> dict[str, Any]:
    """The body of the request for a collection of dimension 8 with one field."""
    block = WeaviateStoreConfig.model_validate(settings)
    spec = CollectionSpec("main", 8, {"a b": "keyword"})
    body: dict[str, Any] = _CollectionConfigCreate(name="Ragstack__main", **creation(block, spec))._to_dict()
    return body


def test_a_collection_as_it_is_made() -> None:
    body = created()
    assert body["description"] == '{"ragstack": 1, "dim": 8, "metric": "cosine", "tenant_field": null}'
    assert body["invertedIndexConfig"] == {"bm25": {"b": 1e-6, "k1": 1000.0}, "stopwords": {"preset": "none"}}
    assert body["vectorConfig"]["dense"]["vectorizer"] == {"none": {}}
    assert body["vectorConfig"]["dense"]["vectorIndexType"] == "hnsw"
    assert body["vectorConfig"]["dense"]["vectorIndexConfig"] == {
        "distance": "cosine",
        "ef": -1,
        "efConstruction": 128,
        "flatSearchCutoff": 40_000,
        "maxConnections": 32,
        "skipDefaultQuantization": True,
    }
    assert "replicationConfig" not in body
    assert "multiTenancyConfig" not in body
    indexed = {p["name"]: (p.get("indexFilterable"), p.get("indexSearchable")) for p in body["properties"]}
    assert indexed == {
        "payload": (False, False),
        "sparse": (False, False),
        "terms": (False, True),
        "marks": (True, False),
        "f0": (True, False),
    }
    assert body["properties"][-1]["description"] == '{"field": "a b", "type": "keyword", "ready": true}'


@pytest.mark.parametrize(
    ("index", "type_", "part"),
    [
        ({"type": "flat"}, "flat", {"distance": "cosine"}),
        ({"type": "hnsw", "ef": 77, "max_connections": 8}, "hnsw", {"ef": 77, "maxConnections": 8}),
        (
            {"quantizer": {"type": "pq", "segments": 16}},
            "hnsw",
            {"pq": {"enabled": True, "segments": 16, "centroids": 256, "trainingLimit": 100_000, "encoder": {}}},
        ),
        ({"quantizer": {"type": "bq", "rescore_limit": 9}}, "hnsw", {"bq": {"enabled": True, "rescoreLimit": 9}}),
        ({"quantizer": {"type": "sq"}}, "hnsw", {"sq": {"enabled": True, "trainingLimit": 100_000}}),
        ({"quantizer": {"type": "rq", "bits": 1}}, "hnsw", {"rq": {"enabled": True, "bits": 1}}),
        ({"type": "dynamic", "threshold": 5}, "dynamic", {"threshold": 5, "distance": "cosine"}),
    ],
)
def test_each_index_as_it_is_made(index: dict[str, Any], type_: str, part: dict[str, Any]) -> None:
    made = created(index=index)["vectorConfig"]["dense"]
    assert made["vectorIndexType"] == type_
    assert part.items() <= made["vectorIndexConfig"].items()


def test_replicas_and_tenants_as_they_are_made() -> None:
    body = created(replication_factor=3, tenant_field="a b")
    assert body["replicationConfig"] == {"factor": 3}
    assert body["multiTenancyConfig"]["enabled"] is True
    assert '"tenant_field": "a b"' in body["description"]


# What is stored with a collection


def test_a_spec_is_read_back() -> None:
    fields = {"f0": describe_field("a b", "keyword", ready=True), "f1": describe_field("n", "integer", ready=False)}
    stored = read_spec("main", describe(8, "a b"), {"payload": None, "marks": None, "terms": None, **fields})
    assert stored.spec() == CollectionSpec("main", 8, {"a b": "keyword"})
    assert stored.keys(ready=False) == {"a b": ("f0", "keyword"), "n": ("f1", "integer")}
    assert stored.tenant_field == "a b"


@pytest.mark.parametrize(
    ("description", "properties"),
    [
        (None, {}),
        ("notes", {}),
        ("[]", {}),
        ('{"ragstack": 1}', {}),
        (describe(8, None).replace('"ragstack": 1', '"ragstack": 2'), {}),
        (describe(8, None).replace("cosine", "dot"), {}),
        (describe(8, None), {"title": None}),
        (describe(8, None), {"f0": '{"field": "a", "type": "text", "ready": true}'}),
    ],
)
def test_a_class_that_is_not_ours_is_named(description: str | None, properties: dict[str, str | None]) -> None:
    with pytest.raises(CollectionError, match="'main'"):
        read_spec("main", description, properties)
