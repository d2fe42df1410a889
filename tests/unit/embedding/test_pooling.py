from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstack.embedding.models import Pooling
from ragstack.embedding.pooling import pool

torch = pytest.importorskip("torch", reason="the extra torch is not installed")


@st.composite
def padded(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    counts = np.array(draw(st.lists(st.integers(1, 9), min_size=1, max_size=5)), dtype=np.int64)
    seed = draw(st.integers(0, 2**16))
    hidden = np.random.default_rng(seed).normal(size=(len(counts), counts.max(), 4)).astype(np.float32)
    for row, count in enumerate(counts):
        hidden[row, count:] = np.nan
    return hidden, counts


def expected(hidden: np.ndarray, counts: np.ndarray, pooling: Pooling) -> np.ndarray:
    texts = [row[:count].astype(np.float64) for row, count in zip(hidden, counts, strict=True)]
    pick = {"mean": lambda text: text.mean(axis=0), "cls": lambda text: text[0], "last": lambda text: text[-1]}
    return np.stack([pick[pooling](text) for text in texts])


@pytest.mark.parametrize("pooling", get_args(Pooling))
@pytest.mark.parametrize("as_array", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])
def test_pools_the_tokens_and_never_the_padding(pooling: Pooling, as_array: Any) -> None:
    @given(padded())
    def check(case: tuple[np.ndarray, np.ndarray]) -> None:
        hidden, counts = case
        found = pool(as_array(hidden), counts, pooling)
        assert type(found) is type(as_array(hidden))
        assert str(found.dtype).removeprefix("torch.") == "float32"
        np.testing.assert_allclose(np.asarray(found), expected(hidden, counts, pooling), atol=1e-6)

    check()


@pytest.mark.parametrize(
    "hidden",
    [np.full((1, 4096, 2), 1.5, dtype=np.float16), torch.full((1, 4096, 2), 1.5, dtype=torch.bfloat16)],
    ids=["fp16 numpy", "bf16 torch"],
)
def test_sums_are_made_in_float32(hidden: Any) -> None:
    """In bf16 the sum would stop growing at 512, in fp16 at 4096."""
    found = pool(hidden, np.array([4096]), "mean")
    assert np.asarray(found).tolist() == [[1.5, 1.5]]
