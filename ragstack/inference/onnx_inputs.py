"""What a model exported to ONNX reads, whichever runtime runs it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ragstack.inference.backend import TokenBatch
from ragstack.inference.role import ModelRole

Feed: TypeAlias = dict[str, NDArray[Any]]

_KNOWN = frozenset({"input_ids", "attention_mask", "token_type_ids", "position_ids"})


def check_inputs(names: Iterable[str], role: ModelRole) -> None:
    """Raise the role's error for a model that reads other things than token ids, mask, types and positions."""
    found = set(names)
    if found - _KNOWN or "input_ids" not in found:
        raise role.error(
            f"the model reads {', '.join(sorted(found))}; expected input_ids with any of attention_mask, "
            "token_type_ids, position_ids.",
            hint=f"Choose a text encoder exported for {role.task}.",
        )


def feed(batch: TokenBatch, inputs: Mapping[str, DTypeLike]) -> Feed:
    """The arrays ``(n, longest)`` that a model reads for a batch. ``inputs``: their names and types."""
    ids = batch.ids
    positions = np.arange(ids.shape[1])
    made: Feed = {}
    for name, dtype in inputs.items():
        value: NDArray[Any]
        if name == "input_ids":
            value = ids
        elif name == "attention_mask":
            value = positions < batch.counts[:, None]
        elif name == "token_type_ids":
            value = np.zeros(ids.shape) if batch.type_ids is None else batch.type_ids
        else:
            value = np.broadcast_to(positions, ids.shape)
        made[name] = value.astype(dtype, copy=False)
    return made
