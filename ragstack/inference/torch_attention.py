"""Attention over texts that lie one after the other, without padding, as ``transformers`` models call it.

`transformers` lets an attention function be registered by name, makes no mask for names that it has no mask for, and
hands each layer's keyword arguments on to the function. So one packed row of tokens goes through a model's own layers,
and only here does it matter where one text ends and the next begins.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from ragstack.inference.backend import Int64Array

PACKED_ATTENTION = "ragstack_packed"
"""What the attention function is called in ``attn_implementation``."""


# What some architectures tell their attention beside what is read here. The rest, such as dropout, is for training.
_CHANGES_SCORES = ("position_bias", "s_aux", "softcap")


@dataclass(frozen=True, slots=True)
class VarlenKernel:
    """PyTorch's attention for texts of different lengths: ``torch.nn.attention.varlen.varlen_attn`` with ``options``.

    ``groups_heads``: it lets several heads of the query share one of key and value.
    """

    attend: Callable[..., Any]
    groups_heads: bool
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Packing:
    """Where the texts of a padded batch ``(n, longest)`` stand in the packed row of its ``total`` tokens.

    ``indices`` ``(total,)`` are positions in the flattened batch; ``starts`` ``(n + 1,) int32`` are the texts' first
    positions in the packed row, and ``total``. ``runs`` are neighbours of one length: first token, texts, length.
    ``kernel`` is PyTorch's attention for texts of different lengths, None where the device or precision has none.
    """

    indices: torch.Tensor
    starts: torch.Tensor
    longest: int
    runs: tuple[tuple[int, int, int], ...]
    kernel: VarlenKernel | None


def pack(counts: Int64Array, longest: int, device: torch.device, kernel: VarlenKernel | None) -> Packing:
    """The packing of texts of ``counts`` tokens that are padded to ``longest``."""
    texts = np.repeat(np.arange(len(counts)), counts)
    starts = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)])
    indices = texts * longest + np.arange(len(texts)) - starts[texts]
    runs, at = [], 0
    for length, same in groupby(counts.tolist()):
        size = len(list(same))
        runs.append((at, size, length))
        at += size * length
    return Packing(to_device(indices, device), to_device(starts.astype(np.int32), device), longest, tuple(runs), kernel)


def to_device(values: np.ndarray[Any, Any], device: torch.device) -> torch.Tensor:
    """A copy on the device, which a GPU makes while this thread goes on."""
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    if device.type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


def varlen_kernel(device: torch.device, dtype: torch.dtype) -> VarlenKernel | None:
    """Flash attention over a packed row, where there is one: NVIDIA GPUs from Ampere on, bf16 and fp16, torch 2.11."""
    if device.type != "cuda" or dtype not in (torch.bfloat16, torch.float16):
        return None
    if torch.cuda.get_device_capability(device) < (8, 0):
        return None
    try:
        from torch.nn.attention import varlen  # noqa: PLC0415 - older versions of torch have none
    except ImportError:
        return None
    known = inspect.signature(varlen.varlen_attn).parameters
    if "window_size" not in known or "scale" not in known:
        return None
    # Where there is a choice, cuDNN is preferred, which plans anew for every shape; hardly two packed rows share one.
    # It does not take this option, so that flash attention is chosen, with the same sums for a text in every batch.
    options = {"num_splits": 1} if hasattr(varlen, "_select_backend") else {}
    return VarlenKernel(varlen.varlen_attn, "enable_gqa" in known, options)


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    packing: Packing,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """The attention of one layer: query ``(1, heads, total, head_dim)`` to ``(1, total, heads, head_dim)``.

    ``sliding_window`` is how far a token sees, itself included, to the left and, in layers that look ahead, the right.
    """
    changes = [name for name in _CHANGES_SCORES if others.get(name) is not None]
    if changes:
        raise NotImplementedError(f"attention with {', '.join(changes)}")
    causal = bool(getattr(module, "is_causal", False))
    window = None if sliding_window is None or packing.longest <= sliding_window else sliding_window
    attend = _by_runs if packing.kernel is None else _by_kernel
    return attend(query, key, value, packing, scaling, causal, window).unsqueeze(0), None


def _by_kernel(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    packing: Packing,
    scaling: float | None,
    causal: bool,
    window: int | None,
) -> torch.Tensor:
    kernel, starts, longest = packing.kernel, packing.starts, packing.longest
    assert kernel is not None
    options = dict(kernel.options)
    if kernel.groups_heads:
        options["enable_gqa"] = key.shape[1] != query.shape[1]
    else:
        key, value = _for_each_head(key, query), _for_each_head(value, query)
    # (total, heads, head_dim)
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    side = -1 if window is None else window - 1
    window_size = side, 0 if causal else side
    found: torch.Tensor = kernel.attend(
        q, k, v, starts, starts, longest, longest, scale=scaling, window_size=window_size, **options
    )
    return found


def _by_runs(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    packing: Packing,
    scaling: float | None,
    causal: bool,
    window: int | None,
) -> torch.Tensor:
    heads, total, _ = query.shape[1:]
    out = query.new_empty(total, heads, value.shape[-1])
    # Some of PyTorch's kernels cannot share heads, and the one it takes then needs memory for all pairs of tokens.
    key, value = _for_each_head(key, query), _for_each_head(value, query)
    for start, texts, length in packing.runs:
        end = start + texts * length
        # (texts, heads, length, head_dim)
        q, k, v = (
            x[0, :, start:end].reshape(x.shape[1], texts, length, -1).transpose(0, 1) for x in (query, key, value)
        )
        mask = None if window is None or length <= window else _band(length, window, causal, query.device)
        found = scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal and mask is None, scale=scaling)
        out[start:end] = found.transpose(1, 2).flatten(0, 1)
    return out


def _for_each_head(shared: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    """Keys or values with a head for each of the query's: several of those may share one."""
    times = query.shape[1] // shared.shape[1]
    return shared if times == 1 else shared.repeat_interleave(times, dim=1)


def _band(length: int, window: int, causal: bool, device: torch.device) -> torch.Tensor:
    """``(length, length)``: which tokens see which, true where they do."""
    at = torch.arange(length, device=device)
    back = at[:, None] - at
    return (back < window) & (back >= 0) if causal else back.abs() < window


AttentionInterface.register(PACKED_ATTENTION, packed_attention)
