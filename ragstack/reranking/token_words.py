"""Word pieces joined to words, stop words and punctuation left out: half as many vectors, and rankings no worse.

What a tokenizer cuts is an accident of its vocabulary (``photo ##syn ##thesis``); what a question asks for is
words. A word's vector is the sum of its pieces', so it does not matter whether these were projected before.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ragstack.types import Int32Array, TokenVectors

BEGINS, CONTINUES, LEFT_OUT = 0, 1, 2
"""What a vocabulary's entries are: see :func:`whole_words`."""

_FIRST_JOINED = 1 << 30
"""Ids from here up are words of several pieces; a word of one piece has the piece's own id."""

_BASE, _MIX = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)


def whole_words(tokens: TokenVectors, pieces: NDArray[np.uint8]) -> TokenVectors:
    """One row for each word: the sum of its pieces' vectors (not of length 1), an id, and the span of the whole word.

    ``pieces`` ``(v,) uint8`` says of each id of the vocabulary whether it ``BEGINS`` a word, ``CONTINUES`` one, or is
    ``LEFT_OUT`` when it is a word of its own. A text of nothing but such words keeps them all. The id of a word
    of several pieces is a hash of theirs, 30 bits and above every piece's id: among V such words, one shares its
    id with another with probability about V / 2**30.
    """
    if not len(tokens):
        return tokens
    kinds = pieces[tokens.token_ids]
    begins = kinds != CONTINUES
    begins[0] = True
    first = np.flatnonzero(begins)
    counts = np.diff(np.append(first, len(tokens)))
    kept = (counts > 1) | (kinds[first] != LEFT_OUT)
    if not kept.any():
        kept[:] = True
    starts, lengths = first[kept], counts[kept]
    vectors = tokens.vectors[starts]
    for piece in range(1, int(lengths.max())):
        longer = np.flatnonzero(lengths > piece)
        vectors[longer] += tokens.vectors[starts[longer] + piece]
    spans = np.stack((tokens.byte_spans[first, 0], tokens.byte_spans[first + counts - 1, 1]), axis=1)
    return TokenVectors(vectors, _word_ids(tokens.token_ids, first, counts)[kept], spans[kept])


def _word_ids(token_ids: Int32Array, first: NDArray[np.intp], counts: NDArray[np.intp]) -> Int32Array:
    places = np.arange(len(token_ids)) - np.repeat(first, counts)
    # Unsigned numbers wrap around, which is what a polynomial hash wants; the powers tell the pieces' order.
    powers = np.cumprod(np.full(int(counts.max()), _BASE))
    sums = np.add.reduceat((token_ids.astype(np.uint64) + np.uint64(1)) * powers[places], first)
    mixed = (sums ^ (sums >> np.uint64(31))) * _MIX
    joined = (mixed >> np.uint64(34)).astype(np.int64) + _FIRST_JOINED
    found: Int32Array = np.where(counts == 1, token_ids[first], joined).astype(np.int32)
    return found
