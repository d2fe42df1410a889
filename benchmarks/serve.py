"""What the model server costs: texts embedded over HTTP by 1, 8 and 64 clients, and the same texts directly.

    python benchmarks/serve.py [--texts 512] [--per-request 1] [--clients 1 8 64] [--seconds 10] [--json]

The texts are the paragraphs of this repository's documentation. Each client sends one request after another, with
``--per-request`` texts each, until ``--seconds`` are over. The server is a process of its own on this machine, so its
clients take cores from it; direct embedding has the machine to itself. Prints texts/s, tokens/s, the CPU time of the
embedding process for each text (which other programs on the machine disturb least), the latency that clients see, and
the ratio of texts/s to direct embedding of all texts at once and of one text after another.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import multiprocessing
import re
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import uvicorn

import ragstack
from ragstack.api.app import create_app
from ragstack.embedding.encoder import EncoderEmbedder

DOCS = Path(__file__).resolve().parents[1] / "docs"


def texts_of(folder: Path, count: int) -> list[str]:
    """``count`` paragraphs of the Markdown files of a folder, repeated if there are fewer, each marked to differ."""
    paragraphs = [part.strip() for path in sorted(folder.glob("*.md")) for part in path.read_text().split("\n\n")]
    usable = [part[:600] for part in paragraphs if len(part) > 80]
    return [f"{number}: {text}" for number, text in zip(range(count), itertools.cycle(usable), strict=False)]


def serve(port: int, max_batch_tokens: int | None) -> None:
    """A server of the default model on ``port``; ends with the process."""
    limits = {"requests_per_s": None}
    config = {"server": {"limits": limits, "model_server": {"max_batch_tokens": max_batch_tokens}}}
    with tempfile.TemporaryDirectory() as folder:
        app = create_app(ragstack.open(config, state_dir=folder))
        uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", access_log=False)


@contextlib.contextmanager
def server(max_batch_tokens: int | None) -> Iterator[str]:
    """The base URL of a server in a process of its own that is ready."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(port, max_batch_tokens), daemon=True)
    process.start()
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{url}/health").status_code == 200:
                    break
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.join()


async def load(url: str, texts: list[str], clients: int, per_request: int, seconds: float) -> tuple[int, list[float]]:
    """How many texts were embedded, and the seconds each request took."""
    turn = itertools.cycle(range(0, len(texts) - per_request + 1, per_request))
    latencies: list[float] = []
    end = time.perf_counter() + seconds

    async def client() -> None:
        # As little as HTTP allows: a client library would take more of the cores than the server does.
        reader, writer = await asyncio.open_connection(*address)
        while (started := time.perf_counter()) < end:
            start = next(turn)
            body = json.dumps({"input": texts[start : start + per_request], "encoding_format": "base64"}).encode()
            head = f"POST /v1/embeddings HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
            writer.write(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            if not answer.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(answer.decode())
            length = re.search(rb"content-length: (\d+)", answer.lower())
            assert length is not None
            await reader.readexactly(int(length[1]))
            latencies.append(time.perf_counter() - started)
        writer.close()

    address = url.removeprefix("http://").split(":")
    await asyncio.gather(*(client() for _ in range(clients)))
    return len(latencies) * per_request, latencies


def cpu_seconds(url: str) -> float:
    """CPU time that the server has used."""
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("process_cpu_seconds_total ")))


def direct(texts: list[str], seconds: float, *, one_by_one: bool) -> dict[str, float | str]:
    """The embedder without a server."""
    embedder = EncoderEmbedder()
    tokens = sum(embedder.tokenizer.count(texts))
    done, started, cpu = 0, 0.0, 0.0
    for limit in (1.0, seconds):  # the first round loads and warms up
        done, started, cpu = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() - started < limit:
            if one_by_one:
                embedder.embed([texts[done % len(texts)]], "passage")
                done += 1
            else:
                embedder.embed(texts, "passage")
                done += len(texts)
    rate = done / (time.perf_counter() - started)
    cpu_ms = 1000 * (time.process_time() - cpu) / done
    embedder.close()
    name = "direct, one by one" if one_by_one else "direct, all at once"
    return {"clients": name, "texts_s": rate, "tokens_s": rate * tokens / len(texts), "cpu_ms": cpu_ms}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=512)
    parser.add_argument("--per-request", type=int, default=1)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--max-batch-tokens", type=int, default=None)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    texts = texts_of(DOCS, arguments.texts)
    together = direct(texts, arguments.seconds, one_by_one=False)
    alone = direct(texts, arguments.seconds, one_by_one=True)
    rows = [together, alone]
    with server(arguments.max_batch_tokens) as url:
        asyncio.run(load(url, texts, 4, arguments.per_request, 2.0))
        for clients in arguments.clients:
            started, cpu = time.perf_counter(), cpu_seconds(url)
            done, latencies = asyncio.run(load(url, texts, clients, arguments.per_request, arguments.seconds))
            rate = done / (time.perf_counter() - started)
            rows.append(
                {
                    "clients": clients,
                    "texts_s": rate,
                    "tokens_s": rate * float(together["tokens_s"]) / float(together["texts_s"]),
                    "cpu_ms": 1000 * (cpu_seconds(url) - cpu) / done,
                    "ratio": rate / float(together["texts_s"]),
                    "ratio_one_by_one": rate / float(alone["texts_s"]),
                    "p50_ms": 1000 * float(np.percentile(latencies, 50)),
                    "p99_ms": 1000 * float(np.percentile(latencies, 99)),
                }
            )
    if arguments.json:
        print(json.dumps(rows, indent=1))
        return
    columns = ("texts_s", "tokens_s", "cpu_ms", "ratio", "ratio_one_by_one", "p50_ms", "p99_ms")
    print(f"{'clients':20}" + "".join(f"{name:>18}" for name in columns))
    for row in rows:
        print(f"{row['clients']!s:20}" + "".join(f"{row[name]:18.2f}" for name in columns if name in row))


if __name__ == "__main__":
    main()
