from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstack.errors import FilterError, InputError
from ragstack.filters import (
    MAX_DEPTH,
    And,
    Condition,
    FieldType,
    Filter,
    Not,
    Or,
    all_of,
    bind_filter,
    conditions,
    filter_to_json,
    parse_datetime,
    parse_filter,
    typed_values,
)
from ragstack.testing.filter_oracle import matches
from ragstack.testing.store_cases import FIELDS, filters, payloads

YEAR = {"field": "year", "op": "gte", "value": 2020}


def test_a_filter_is_read_from_json() -> None:
    parsed = parse_filter({"and": [YEAR, {"not": {"field": "tag", "op": "in", "value": ["a", "b"]}}, {"or": []}]})
    assert parsed == And((Condition("year", "gte", 2020), Not(Condition("tag", "in", ("a", "b"))), Or(())))
    assert [condition.field for condition in conditions(parsed)] == ["year", "tag"]


@given(filters())
def test_json_and_back(tree: Filter) -> None:
    assert parse_filter(filter_to_json(tree)) == tree


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (None, "filter:"),
        ([], "filter:"),
        ({}, "filter:"),
        ({"field": "a", "op": "eq"}, "filter:"),
        ({"field": "a", "op": "eq", "value": 1, "extra": 1}, "extra"),
        ({"field": "", "op": "eq", "value": 1}, "filter.field"),
        ({"field": 1, "op": "eq", "value": 1}, "filter.field"),
        ({"field": "a", "op": "like", "value": 1}, "'like'"),
        ({"field": "a", "op": ["eq"], "value": 1}, "filter.op"),
        ({"field": "a", "op": "eq", "value": [1]}, "filter.value"),
        ({"field": "a", "op": "eq", "value": None}, "filter.value"),
        ({"field": "a", "op": "eq", "value": float("nan")}, "filter.value"),
        ({"field": "a", "op": "in", "value": "abc"}, "filter.value"),
        ({"field": "a", "op": "nin", "value": [1, None]}, "filter.value"),
        ({"field": "a", "op": "gt", "value": True}, "filter.value"),
        ({"field": "a", "op": "exists", "value": "yes"}, "filter.value"),
        ({"and": YEAR}, "filter.and"),
        ({"and": [YEAR], "or": [YEAR]}, "stands alone"),
        ({"not": [YEAR]}, "filter.not"),
        ({"and": [YEAR, {"or": [YEAR, {"not": {"field": "a"}}]}]}, r"filter\.and\[1\]\.or\[1\]\.not"),
    ],
)
def test_a_malformed_filter_names_the_place(value: object, place: str) -> None:
    with pytest.raises(FilterError, match=place):
        parse_filter(value)


def test_a_filter_may_not_be_nested_without_end() -> None:
    def nested(levels: int) -> dict[str, Any]:
        made = YEAR
        for _ in range(levels):
            made = {"not": made}
        return made

    parse_filter(nested(MAX_DEPTH))
    with pytest.raises(FilterError, match=str(MAX_DEPTH)):
        parse_filter(nested(MAX_DEPTH + 1))
    with pytest.raises(FilterError):
        parse_filter(nested(100_000))


def test_all_of() -> None:
    condition = Condition("a", "eq", 1)
    assert all_of() is all_of(None, None) is None
    assert all_of(None, condition) is condition
    assert all_of(condition, Not(condition)) == And((condition, Not(condition)))


@given(filters(), payloads())
def test_binding_changes_no_meaning(tree: Filter, payload: dict[str, Any]) -> None:
    bound = bind_filter(tree, FIELDS)
    assert matches(bound, payload, FIELDS) == matches(tree, payload, FIELDS)
    assert bind_filter(bound, FIELDS) == bound


@given(filters(), payloads())
def test_negations(tree: Filter, payload: dict[str, Any]) -> None:
    assert matches(Not(tree), payload, FIELDS) is not matches(tree, payload, FIELDS)
    for condition in conditions(tree):
        opposite: Any = {"ne": "eq", "nin": "in"}.get(condition.op)
        if opposite:
            positive = Condition(condition.field, opposite, condition.value)
            assert matches(condition, payload, FIELDS) is not matches(positive, payload, FIELDS)


@pytest.mark.parametrize("stored", [{}, {"keyword": None}, {"keyword": []}])
def test_a_missing_field(stored: dict[str, Any]) -> None:
    truth = {op: matches(Condition("keyword", op, "a"), stored, FIELDS) for op in ("eq", "ne", "contains")}
    assert truth == {"eq": False, "ne": True, "contains": False}
    assert matches(Condition("keyword", "nin", ("a",)), stored, FIELDS)
    assert not matches(Condition("keyword", "in", ("a",)), stored, FIELDS)
    assert matches(Condition("keyword", "exists", False), stored, FIELDS)
    assert not matches(Condition("integer", "lt", 10), stored, FIELDS)


def test_contains_wants_a_list() -> None:
    condition = Condition("keyword", "contains", "a")
    assert matches(condition, {"keyword": ["b", "a"]}, FIELDS)
    assert not matches(condition, {"keyword": "a"}, FIELDS)
    assert matches(Condition("keyword", "eq", "a"), {"keyword": ["b", "a"]}, FIELDS)


def test_an_undeclared_field_lists_the_declared_ones() -> None:
    with pytest.raises(FilterError, match="'yaer'") as caught:
        bind_filter(Not(Condition("yaer", "eq", 1)), {"year": "integer", "tag": "keyword"})
    assert caught.value.hint == "Declared fields: tag, year."
    with pytest.raises(FilterError, match="No fields are declared"):
        bind_filter(Condition("year", "exists", True), {})


@pytest.mark.parametrize(
    ("op", "bound", "integer"), [("gt", 2.5, 2), ("gte", 2.5, 3), ("lt", 2.5, 3), ("lte", 2.5, 2), ("gt", -0.5, -1)]
)
def test_integers_are_compared_with_fractions(op: Any, bound: float, integer: int) -> None:
    assert bind_filter(Condition("n", op, bound), {"n": "integer"}) == Condition("n", op, integer)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-05-31", "2024-05-31T00:00:00.000000Z"),
        ("2024-05-31T09:30:00Z", "2024-05-31T09:30:00.000000Z"),
        ("2024-05-31t09:30:00.5z", "2024-05-31T09:30:00.500000Z"),
        ("2024-05-31 09:30:00.1234569+05:30", "2024-05-31T04:00:00.123456Z"),
        ("2024-02-29T23:00:00-02:00", "2024-03-01T01:00:00.000000Z"),
    ],
)
def test_dates_are_brought_to_utc(text: str, expected: str) -> None:
    assert typed_values("when", "datetime", text) == (expected,)


@pytest.mark.parametrize(
    "text",
    ["", "2024", "2024-5-31", "2024-02-30", "2024-05-31T09:30", "2024-05-31T09:30:00", "2024-05-31T24:00:00Z",
     "2024-05-31T09:30:60Z", "2024-05-31T09:30:00+24:00", "2024-05-31T09:30:00.Z", "٢٠٢٤-05-31",
     "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-00:01", "2024-05-31\n", "0000-01-01"],
)  # fmt: skip
def test_what_is_not_a_date_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"date|offset"):
        parse_datetime(text)


@given(st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1)), st.integers(-1439, 1439))
def test_any_instant_is_read_exactly(naive: datetime, minutes: int) -> None:
    instant = naive.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    parsed = parse_datetime(instant.isoformat())
    assert parsed == instant
    assert parsed.utcoffset() == timedelta()


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("integer", 2**63), ("integer", [1, -(2**63) - 1]), ("integer", "1"), ("integer", True), ("integer", 1.5),
        ("float", float("inf")), ("float", 2**53 + 1), ("float", 10**400), ("float", "1"), ("keyword", 1),
        ("keyword", ["a", None]), ("keyword", [["a"]]), ("keyword", {"a": 1}), ("bool", 0), ("datetime", 0),
    ],
)  # fmt: skip
def test_a_stored_value_of_another_type_names_field_and_type(type_: FieldType, value: object) -> None:
    with pytest.raises(InputError, match="'name'") as caught:
        typed_values("name", type_, value)
    assert type_ in caught.value.hint


def test_stored_values() -> None:
    assert typed_values("n", "integer", [3, 4.0]) == (3, 4)
    assert repr(typed_values("n", "float", [-0.0, 7])) == "(0.0, 7.0)"
    assert typed_values("n", "keyword", None) == typed_values("n", "keyword", []) == ()
