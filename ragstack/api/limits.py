"""Counts that one request may not exceed. The size of its body is the door's business (:mod:`ragstack.api.guard`)."""

from __future__ import annotations

from collections.abc import Sized

from ragstack.config.server_security import LimitsConfig
from ragstack.errors import FilterError, InputError
from ragstack.filters import And, Condition, Filter, Not, Or


def limited_filter(parsed: Filter | None, limits: LimitsConfig) -> Filter | None:
    """A request's filter if it is within the limits; None for none. Raises FilterError."""
    if parsed is None:
        return None
    if _depth(parsed) > limits.max_filter_depth:
        raise FilterError(
            f"the filter is nested deeper than {limits.max_filter_depth} levels.", hint="Flatten the filter."
        )
    if _size(parsed) > limits.max_filter_conditions:
        raise FilterError(
            f"the filter has more than {limits.max_filter_conditions} conditions.",
            hint="Name fewer values; each value of a list counts as one.",
        )
    return parsed


def require_count(what: str, items: Sized, most: int) -> None:
    """Raise InputError when there are more than ``most`` of the items; ``what`` names them ("turns of history")."""
    if len(items) > most:
        raise InputError(f"{len(items)} {what}; at most {most} are taken.", hint="Send fewer in one request.")


def _depth(filter: Filter) -> int:
    if isinstance(filter, Not):
        return 1 + _depth(filter.part)
    if isinstance(filter, (And, Or)):
        return 1 + max((_depth(part) for part in filter.parts), default=0)
    return 1


def _size(filter: Filter) -> int:
    if isinstance(filter, Condition):
        return len(filter.value) if isinstance(filter.value, tuple) else 1
    if isinstance(filter, Not):
        return _size(filter.part)
    return 1 + sum(_size(part) for part in filter.parts)
