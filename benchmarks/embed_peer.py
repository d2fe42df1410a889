"""fastembed as a process of its own, for ``benchmarks/embed.py --peer``: lists of texts in, seconds and vectors out.

    pip install fastembed; python benchmarks/embed_peer.py FOLDER_OF_THE_ORIGINAL_WEIGHTS MODEL.onnx

fastembed reads ONNX and finds its files in one folder: the original tokenizer, and the ONNX file that ragstack runs.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np


def main() -> None:
    from fastembed import TextEmbedding

    original, onnx_file = Path(sys.argv[1]), Path(sys.argv[2])
    with tempfile.TemporaryDirectory() as folder:
        for file in original.iterdir():
            if file.is_file() and file.suffix in (".json", ".txt"):
                shutil.copy(file, folder)
        shutil.copy(onnx_file, Path(folder) / "model.onnx")
        model = TextEmbedding("sentence-transformers/all-MiniLM-L6-v2", specific_model_path=folder)
        for line in sys.stdin:
            texts = json.loads(line)
            started, cpu_started = time.perf_counter(), time.process_time()
            vectors = list(model.embed(texts))
            seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
            answer = {"seconds": seconds, "cpu_seconds": cpu_seconds, "vectors": np.array(vectors).tolist()}
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
