"""Planning batches: which texts run together, by token counts alone. Pure, no I/O."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ragstack.types import Int32Array

PACKED_PADDING = 0.75
"""Most padding in a batch that a backend computes without it: of its result's array, which has it still."""


def plan_batches(
    token_counts: Sequence[int], max_batch_tokens: int, *, max_padding: float = 0.05, packed: bool = False
) -> list[Int32Array]:
    """Group texts into batches, longest first; returns one ``(n,) int32`` array of indices per batch.

    ``token_counts`` are what the model reads of each text, special tokens included. A batch of ``n``
    texts costs ``n * longest`` tokens, padding counted, and at most ``max_batch_tokens``; a text that is
    longer than the budget is a batch of its own. In a batch, padding is at most the share
    ``max_padding`` of that cost. Texts that are ``packed`` cost nothing but themselves, and padding may be the
    share :data:`PACKED_PADDING`, or ``max_padding`` if that is more. Every index is in exactly one batch. Texts
    of equal length keep their order, so the plan is a function of the counts.

    Raises ValueError for a budget below 1, a share outside [0, 1] or a negative count.
    """
    if max_batch_tokens < 1:
        raise ValueError(f"max_batch_tokens must be at least 1, got {max_batch_tokens}")
    if not 0 <= max_padding <= 1:
        raise ValueError(f"max_padding must be between 0 and 1, got {max_padding}")
    if packed:
        max_padding = max(max_padding, PACKED_PADDING)
    counts = np.asarray(token_counts, dtype=np.int64).reshape(-1)
    if counts.size and counts.min() < 0:
        raise ValueError(f"token_counts[{int(counts.argmin())}] is negative: {int(counts.min())}")
    order = np.argsort(-counts, kind="stable").astype(np.int32)
    batches: list[Int32Array] = []
    start, longest, filled = 0, 0, 0
    for position, index in enumerate(order.tolist()):
        count = int(counts[index])
        size = position - start + 1
        if position == start:
            longest, filled = count, count
            continue
        area = size * longest
        cost = filled + count if packed else area
        if cost > max_batch_tokens or area - filled - count > max_padding * area:
            batches.append(order[start:position])
            start, longest, filled = position, count, count
        else:
            filled += count
    if order.size:
        batches.append(order[start:])
    return batches


def padding_share(token_counts: Sequence[int], batches: Sequence[Int32Array]) -> float:
    """Share of the tokens run that are padding, in [0, 1]; 0 where nothing is run."""
    counts = np.asarray(token_counts, dtype=np.int64)
    cost = sum(len(batch) * int(counts[batch].max()) for batch in batches if len(batch))
    used = sum(int(counts[batch].sum()) for batch in batches)
    return 1 - used / cost if cost else 0.0
