"""Fit what a model's token vectors are kept small by: see ragstack/embedding/token_compression.py.

    python benchmarks/fit_token_codec.py --out MODEL.tokens.npz TEXT_FILE...

The files should hold a few hundred kilobytes of general text in the model's languages, none of it from a data set
that retrieval is judged by. Three arrays are written:

* ``projection``: the leading right singular vectors of all token vectors, found from their second moments, so memory
  does not grow with the text. ``--skip 3`` leaves out the first three: where most vectors of a model point into one
  direction (65% of the squared length of multilingual-e5-small's), it says nothing of a word. ``--projection FILE``
  keeps that of another file instead.
* ``steps``: for each projected dimension a third of the standard deviation of whole words, which is nearly the best
  distance of 16 equal levels for a normal distribution (Max 1960: 0.335 deviations).
* ``pieces``: what each entry of the tokenizer's vocabulary is. Pieces that go on with a word are known by their mark
  (``##`` of WordPiece, or no ``▁`` or ``Ġ`` where other tokenizers mark beginnings), but for scripts written without
  spaces; the stop words are
  those of ``--stop-words``, a language of ragstack/embedding/stop_words.py, as often as it is given, without those of
  ``--keep``, which mean something in another of the languages.
"""

from __future__ import annotations

import argparse
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ragstack.embedding.encoder import EncoderEmbedder
from ragstack.embedding.stop_words import STOP_WORDS
from ragstack.reranking.token_codec import TokenCodec
from ragstack.reranking.token_words import BEGINS, CONTINUES, LEFT_OUT

PASSAGE_TOKENS = 200
STEP_IN_DEVIATIONS = 0.335
BEGIN_MARKS = ("▁", "Ġ")
# Thai, Lao, Tibetan, Myanmar, Khmer, kana, Han and Hangul: without spaces, a whole sentence would be one word.
UNSPACED = re.compile("[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7ff]")


def passages(text: str) -> Iterator[str]:
    """The text cut into pieces of about 200 tokens, at spaces."""
    words: list[str] = []
    count = 0
    for word in text.split():
        cost = min(len(word), 2 + len(word) // 4)
        if count + cost > PASSAGE_TOKENS and words:
            yield " ".join(words)
            words, count = [], 0
        words.append(word[:200])
        count += cost
    if words:
        yield " ".join(words)


def piece_kinds(vocabulary: Sequence[str], stop_words: frozenset[str]) -> NDArray[np.uint8]:
    """What each entry of a vocabulary is, by id."""
    marks_beginnings = any(entry.startswith(BEGIN_MARKS) for entry in vocabulary)
    kinds = np.full(len(vocabulary), BEGINS, dtype=np.uint8)
    for number, entry in enumerate(vocabulary):
        bare = entry.removeprefix("##").lstrip("".join(BEGIN_MARKS))
        is_sign = all(unicodedata.category(character)[0] in "PSZC" for character in bare)
        begins = entry.startswith(BEGIN_MARKS) if marks_beginnings else not entry.startswith("##")
        if is_sign or (begins and bare.casefold() in stop_words):
            kinds[number] = LEFT_OUT
        elif not begins and not UNSPACED.match(bare):
            kinds[number] = CONTINUES
    return kinds


def main() -> None:
    """Parse arguments, embed, fit, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    parser.add_argument("--stop-words", action="append", default=[], choices=sorted(STOP_WORDS))
    parser.add_argument("--keep", nargs="+", default=[], help="words that are no stop words after all")
    parser.add_argument("--skip", type=int, default=0, help="leading directions that are left out")
    parser.add_argument("--dimensions", type=int, default=96)
    parser.add_argument("--projection", type=Path, help="an .npz or .npy whose projection is kept")
    parser.add_argument("--max-passages", type=int, default=1200, help="taken evenly from all files")
    options = parser.parse_args()

    embedder = EncoderEmbedder(options.model)
    texts = [p for file in options.files for p in passages(file.read_text(encoding="utf-8"))]
    step = max(1, len(texts) // options.max_passages)
    texts = texts[::step]
    found = [
        tokens
        for start in range(0, len(texts), 64)
        for tokens in embedder.embed(texts[start : start + 64], "passage", ("tokens",)).tokens or ()
    ]
    if options.projection is None:
        moments = sum(tokens.vectors.T.astype(np.float64) @ tokens.vectors for tokens in found)
        _, vectors = np.linalg.eigh(np.asarray(moments))
        leading = vectors[:, ::-1][:, options.skip : options.skip + options.dimensions]
        # The sign of a singular vector is arbitrary; fixed here so that another run gives the same file.
        projection = leading * np.sign(leading[np.abs(leading).argmax(axis=0), np.arange(leading.shape[1])])
    else:
        loaded = np.load(options.projection, allow_pickle=False)
        projection = loaded["projection"] if options.projection.suffix == ".npz" else loaded
    projection = projection.astype(np.float16)
    stop_words = frozenset[str]().union(*(STOP_WORDS[language] for language in options.stop_words))
    stop_words -= set(options.keep)
    pieces = piece_kinds(embedder.tokenizer.vocabulary, stop_words)
    codec = TokenCodec(projection.astype(np.float32), None, pieces)
    words = np.concatenate([codec.prepare(tokens).vectors for tokens in found])
    steps = (words.std(axis=0) * STEP_IN_DEVIATIONS).astype(np.float32)
    np.savez_compressed(options.out, projection=projection, steps=steps, pieces=pieces)
    kept = np.mean([np.square(tokens.vectors @ projection.astype(np.float32)).sum(axis=1).mean() for tokens in found])
    print(f"{len(texts)} passages, {sum(map(len, found))} tokens, {len(words)} words; left out or joined:")
    print(f"{np.bincount(pieces, minlength=3).tolist()} entries begin a word, go on with one, are left out")
    print(f"{projection.shape[0]} -> {projection.shape[1]} dimensions keep {kept:.4f} of the squared length")


if __name__ == "__main__":
    main()
