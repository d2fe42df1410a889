"""Fit the matrix that shortens a model's token vectors for storage.

    python benchmarks/fit_token_projection.py --out projection.npy TEXT_FILE...

The files should hold a few hundred kilobytes of general text in the model's languages, none of it from a data set
that retrieval is judged by. The matrix is the leading right singular vectors of all token vectors, found
from their second moments, so memory does not grow with the text. Prints the share of the vectors'
squared length that it keeps.

``--skip 1`` leaves out the first of them. Where all vectors of a model point into one direction (more than half of the
squared length of multilingual-e5-small's, docs/languages.md), that direction says nothing of a token, and MaxSim
without it is spread as it is for other models.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ragstack.embedding.onnx import OnnxEmbedder

PASSAGE_TOKENS = 200


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    parser.add_argument("--dimensions", type=int, default=96)
    parser.add_argument("--skip", type=int, default=0, help="leading directions that are left out")
    parser.add_argument("--max-passages", type=int, default=1200, help="taken evenly from all files")
    options = parser.parse_args()

    embedder = OnnxEmbedder(options.model)
    texts = [p for file in options.files for p in passages(file.read_text(encoding="utf-8"))]
    step = max(1, len(texts) // options.max_passages)
    texts = texts[::step]
    dim = embedder.info.token_dim
    moments, tokens = np.zeros((dim, dim)), 0
    for start in range(0, len(texts), 64):
        for found in embedder.embed(texts[start : start + 64], "passage", ("tokens",)).tokens or ():
            moments += found.vectors.T.astype(np.float64) @ found.vectors
            tokens += len(found)
    values, vectors = np.linalg.eigh(moments)
    taken = slice(options.skip, options.skip + options.dimensions)
    leading = vectors[:, ::-1][:, taken]
    # The sign of a singular vector is arbitrary; fixed here so that another run gives the same file.
    leading = leading * np.sign(leading[np.abs(leading).argmax(axis=0), np.arange(leading.shape[1])])
    np.save(options.out, leading.astype(np.float16), allow_pickle=False)
    kept = values[::-1][taken].sum() / values.sum()
    print(f"{len(texts)} passages, {tokens} tokens: {dim} -> {options.dimensions} dimensions keep {kept:.4f}")
    print(f"the first directions: {(values[::-1][:4] / values.sum()).round(4).tolist()}")


if __name__ == "__main__":
    main()
