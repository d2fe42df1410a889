"""Checks of many records at a time refuse what checks of each one refuse, with the same words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ragstack.adapters.base import Record
from ragstack.adapters.checks import check_query, check_record, check_records
from ragstack.adapters.qdrant_arrays import dense_of, sparse_of
from ragstack.errors import CollectionError, InputError, RagstackError
from ragstack.testing.store_cases import record_id
from ragstack.types import SparseVector

DIM = 3
ODD = [0.0, -0.0, 1.0, 1e-30, 3e38, -3e38, float("nan"), float("inf"), float("-inf")]


def float_arrays(size: int) -> st.SearchStrategy[Any]:
    """Mostly sound, and of the size asked for."""
    sound = arrays.arrays(np.float32, size, elements=st.floats(-10, 10, width=32))
    return sound | arrays.arrays(np.float32, size, elements=st.sampled_from(ODD))


@st.composite
def sparse_vectors(draw: st.DrawFn) -> SparseVector:
    indices = draw(st.lists(st.integers(0, 6), max_size=4))
    if draw(st.booleans()):
        indices = sorted(set(indices))
    values = draw(float_arrays(len(indices)))
    if draw(st.integers(0, 20)) == 0:
        values = values[:-1]
    return SparseVector(np.array(indices, dtype=np.uint32), values)


@st.composite
def records(draw: st.DrawFn) -> Record:
    id_: Any = record_id(draw(st.integers(0, 9)))
    oddity = draw(st.integers(0, 40))
    if oddity < 3:
        id_ = (id_.upper(), f"{id_}\n", 7)[oddity]
    dim = DIM if draw(st.integers(0, 20)) else DIM + 1
    return Record(id_, draw(float_arrays(dim)), draw(sparse_vectors()), {})


def refusal(record: Record) -> RagstackError | None:
    try:
        check_record(record, DIM)
    except RagstackError as error:
        return error
    return None


@settings(max_examples=150)
@given(st.lists(records(), max_size=5))
def test_many_records_are_refused_as_each_of_them_is(many: list[Record]) -> None:
    expected = next((error for error in map(refusal, many) if error is not None), None)
    if expected is None:
        check_records(many, DIM)
        return
    with pytest.raises(type(expected)) as caught:
        check_records(many, DIM)
    assert str(caught.value) == str(expected)


@given(st.data())
def test_a_query_is_refused_by_its_shape_its_values_and_its_length(data: st.DataObject) -> None:
    vector = data.draw(float_arrays(data.draw(st.sampled_from([DIM, DIM, DIM, DIM + 1]))))
    if vector.shape != (DIM,):
        with pytest.raises(CollectionError):
            check_query(vector, DIM)
    elif not np.isfinite(vector).all() or not vector.any():
        with pytest.raises(InputError):
            check_query(vector, DIM)
    else:
        check_query(vector, DIM)


@given(st.dictionaries(st.integers(0, 2**32 - 1), st.floats(width=32, allow_nan=False)))
def test_lists_of_a_driver_become_sorted_arrays(weights: dict[int, float]) -> None:
    vector = sparse_of(list(weights), list(weights.values()))
    assert vector.indices.dtype == np.uint32
    assert vector.values.dtype == np.float32
    assert vector.indices.tolist() == sorted(weights)
    assert dict(zip(vector.indices.tolist(), vector.values.tolist(), strict=True)) == weights
    dense = dense_of(list(weights.values()))
    assert dense.dtype == np.float32
    assert dense.tolist() == list(weights.values())
    dense[:] = 1.0  # the caller may write into it
