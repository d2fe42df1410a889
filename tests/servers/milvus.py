"""A standalone Milvus 2.3.5 for tests, from the PyPI package ``milvus``: one process, etcd and queue inside it."""

from __future__ import annotations

import lzma
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.servers.base import ServerProcess, absent, cache_folder, fetched, free_port

VERSION = "2.3.5"
TOKEN = "root:Milvus"
_FOLDER = f"milvus-{VERSION}"
_PLACE = re.compile(r"\{\{\s*(\w+)(?:\(\w+\))?(?:\s*:\s*([^}]*?))?\s*\}\}")
_FASTER = {
    # Milvus looks for changes at these intervals (ms): by default a test would wait 3 s for each collection. A read
    # waits for a tick; the others cost as much processor as they save time when they are shorter than this.
    "timeTickInterval: 200": "timeTickInterval: 4",
    "checkInterval: 1000": "checkInterval: 100\n  checkChannelInterval: 100\n  checkSegmentInterval: 100",
    "distPullInterval: 500": (
        "distPullInterval: 100\n  UpdateNextTargetInterval: 0.2\n  leaderViewUpdateInterval: 0.2"
    ),
    "checkHandoffInterval: 5000": "checkHandoffInterval: 200",
    "bindIndexNodeMode:": "scheduler:\n    interval: 50\n  bindIndexNodeMode:",
    # A flush waits until what was assigned has expired (ms).
    "assignmentExpiration: 2000": "assignmentExpiration: 200",
    # A server that was killed is waited for until its lease has run out (s).
    "ttl: 30 ": "ttl: 3 ",
}


def fetch() -> Path:
    """Put the server into the cache; its folder there."""
    return fetched(_FOLDER, _fetch)


def _fetch(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as unpacked:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", unpacked]
        subprocess.run([*command, f"milvus=={VERSION}"], check=True)
        data = Path(unpacked) / "milvus" / "data"
        (folder / "bin").mkdir()
        for packed in (data / "bin").glob("*.lzma"):
            file = folder / "bin" / packed.stem
            file.write_bytes(lzma.decompress(packed.read_bytes()))
            file.chmod(0o755)
        for name in ("config.yaml.template", "glog.conf"):
            (folder / name).write_bytes((data / name).read_bytes())


@dataclass(frozen=True)
class MilvusServer:
    """A running server. ``uri`` is its gRPC address; it asks for :data:`TOKEN`."""

    process: ServerProcess
    uri: str


@contextmanager
def running_server(folder: Path) -> Iterator[MilvusServer]:
    """A server with its data in ``folder``, ended and waited for afterwards. Skips where it is not in the cache."""
    cache = cache_folder() / _FOLDER
    if not cache.is_dir():
        absent("milvus")
    ports: dict[str, int] = {}

    def value(place: re.Match[str]) -> str:
        name, default = place[1], place[2]
        if name.endswith("_port"):
            ports[name] = free_port()
            return str(ports[name])
        known = {
            "etcd_log_path": folder / "etcd.log",
            "etcd_data_dir": folder / "etcd",
            "local_storage_dir": folder / "data",
            "rocksmq_data_dir": folder / "queue",
            "system_log_path": folder / "logs",
            "authorization_enabled": "true",
        }
        return str(known.get(name, default or ""))

    config = _PLACE.sub(value, (cache / "config.yaml.template").read_text())
    for slow, fast in _FASTER.items():
        assert slow in config, slow
        config = config.replace(slow, fast)
    (folder / "configs").mkdir(parents=True)
    peers, clients = free_port(), free_port()
    # Without a file of its own, the etcd inside listens on its usual ports, and two servers get in each other's way.
    (folder / "configs" / "etcd.yaml").write_text(
        f"name: default\ndata-dir: {folder / 'etcd'}\n"
        f"listen-peer-urls: http://127.0.0.1:{peers}\ninitial-advertise-peer-urls: http://127.0.0.1:{peers}\n"
        f"initial-cluster: default=http://127.0.0.1:{peers}\n"
        f"listen-client-urls: http://127.0.0.1:{clients}\nadvertise-client-urls: http://127.0.0.1:{clients}\n"
    )
    assert "\netcd:\n" in config
    config = config.replace("\netcd:\n", f"\netcd:\n  config:\n    path: {folder / 'configs' / 'etcd.yaml'}\n")
    (folder / "configs" / "milvus.yaml").write_text(config)
    (folder / "configs" / "glog.conf").write_bytes((cache / "glog.conf").read_bytes())
    metrics = free_port()
    environment = {
        "DEPLOY_MODE": "STANDALONE",
        "METRICS_PORT": str(metrics),
        "MILVUS_RUN_DIR": str(folder / "run"),
        "LD_LIBRARY_PATH": str(cache / "bin"),
    }
    command = [str(cache / "bin" / "milvus"), "run", "standalone"]
    ready = f"http://127.0.0.1:{metrics}/healthz"
    process = ServerProcess(command, ready, folder / "milvus.log", environment, folder)
    process.start()
    try:
        yield MilvusServer(process, f"http://127.0.0.1:{ports['proxy_port']}")
    finally:
        process.kill()  # asked to end, it takes half a minute; its data is thrown away
