"""Which conditions of a filter keep a record out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstack.filters import And, Condition, FieldType, Filter, Not, Or, bind_filter
from ragstack.retrieval.filter_check import failing_conditions, matches

_TYPES: dict[str, FieldType] = {"year": "integer", "kind": "keyword"}
_OLD, _MEMO = Condition("year", "lt", 2000), Condition("kind", "eq", "memo")


@pytest.mark.parametrize(
    ("filter", "payload", "expected"),
    [
        (And((_OLD, _MEMO)), {"year": 2024, "kind": "memo"}, [_OLD]),
        (And((_OLD, _MEMO)), {"year": 2024}, [_OLD, _MEMO]),
        (And((_OLD, _MEMO)), {"year": 1990, "kind": "memo"}, []),
        (Or((_OLD, _MEMO)), {"year": 2024, "kind": "letter"}, [_OLD, _MEMO]),
        (Or((_OLD, _MEMO)), {"year": 1990, "kind": "letter"}, []),
        (Not(Or((_OLD, _MEMO))), {"year": 1990, "kind": "letter"}, [_OLD]),
        (And((Not(_MEMO), _OLD)), {"year": 1990, "kind": "memo"}, [_MEMO]),
    ],
)
def test_culprits(filter: Filter, payload: dict[str, Any], expected: list[Condition]) -> None:
    assert failing_conditions(bind_filter(filter, _TYPES), payload, _TYPES) == expected


_LEAVES = st.one_of(
    st.builds(Condition, st.just("year"), st.sampled_from(["lt", "gte", "eq", "ne"]), st.integers(0, 3)),
    st.builds(Condition, st.just("kind"), st.sampled_from(["eq", "ne"]), st.sampled_from(["memo", "letter"])),
)
_FILTERS = st.recursive(
    _LEAVES,
    lambda parts: st.one_of(
        st.builds(Not, parts),
        st.builds(And, st.lists(parts, min_size=1, max_size=3).map(tuple)),
        st.builds(Or, st.lists(parts, min_size=1, max_size=3).map(tuple)),
    ),
    max_leaves=6,
)


@given(
    _FILTERS, st.fixed_dictionaries({}, optional={"year": st.integers(0, 3), "kind": st.sampled_from(["memo", "x"])})
)
def test_a_record_is_kept_out_by_some_condition_and_let_in_by_none(filter: Filter, payload: dict[str, Any]) -> None:
    bound = bind_filter(filter, _TYPES)
    assert bool(failing_conditions(bound, payload, _TYPES)) is not matches(bound, payload, _TYPES)
