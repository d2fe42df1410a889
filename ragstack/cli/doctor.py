"""``ragstack doctor``: is everything in place for indexing and asking? It uses no network and changes nothing."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from ragstack.cli.options import ConfigOption, JsonOption, load, with_epilog
from ragstack.cli.output import print_json, printable, uses_color
from ragstack.errors import IndexLockedError, IndexNotFoundError, RagstackError
from ragstack.version import __version__

if TYPE_CHECKING:
    from pydantic import BaseModel

    from ragstack.config.embedders import LocalEmbedderConfig
    from ragstack.config.loader import LoadedConfig
    from ragstack.config.models import PipelineConfig

Verdict: TypeAlias = Literal["ok", "warn", "fail"]

# Compiled packages, which may be installed and yet not load on this processor or system.
_COMPILED = ("numpy", "onnxruntime", "pydantic_core", "qdrant_edge", "tokenizers", "Stemmer")
_COLORS: dict[Verdict, str] = {"ok": "32", "warn": "33", "fail": "31"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report: what was looked at, the verdict, what was found, what to do."""

    check: str
    verdict: Verdict
    found: str
    advice: str = ""


@with_epilog("""
Examples:
  ragstack doctor
  ragstack doctor -c staging.yaml --json
Exit status 1 when a line says fail.
""")
def doctor(config: ConfigOption = None, as_json: JsonOption = False) -> int:
    """Check this installation, the config, the model's files and the index. Each line says what to do."""
    findings: list[Finding] = []
    for finding in _findings(config):
        findings.append(finding)
        if not as_json:
            _print(finding)
    failed = any(finding.verdict == "fail" for finding in findings)
    if as_json:
        print_json({"ok": not failed, "findings": [asdict(finding) for finding in findings]})
    return 1 if failed else 0


def _print(finding: Finding) -> None:
    word = finding.verdict.ljust(4)
    if uses_color(sys.stdout):
        word = f"\x1b[{_COLORS[finding.verdict]}m{word}\x1b[0m"
    print(f"{word}  {finding.check.ljust(9)}  {printable(finding.found)}")
    if finding.advice:
        print(f"      {' ' * 9}  -> {printable(finding.advice)}")


def _findings(config: Path | None) -> Iterator[Finding]:
    system = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"
    yield Finding("python", "ok", system)
    yield _packages()
    yield _compiled()
    yield _encoding()
    try:
        loaded = load(config)
    except RagstackError as error:
        yield Finding("config", "fail", error.message, error.hint)
        return
    yield Finding("config", "ok", loaded.origin)
    yield _guarded("model", lambda: _model(loaded))
    yield from _profiles(loaded.config)
    from ragstack.assembly import reranker_blocks

    for block in reranker_blocks(loaded.config):
        if block.type in ("cross_encoder", "llm_yes_no", "remote"):
            yield _guarded("reranker", partial(_reranker, block))
    state_dir = Path(loaded.config.indexer.state_dir)
    yield _writable(state_dir)
    yield _space(state_dir, loaded.config)
    yield _guarded("index", lambda: _index(state_dir))
    yield _guarded("lock", lambda: _lock(state_dir))


def _guarded(check: str, look: Callable[[], Finding]) -> Finding:
    try:
        return look()
    except RagstackError as error:
        return Finding(check, "fail", error.message, error.hint)


def _packages() -> Finding:
    found, missing = [f"ragstack {__version__}"], []
    for requirement in requires("ragstack") or ():
        # "numpy>=1.24", and for an extra: "ruff>=0.6; extra == 'dev'"
        if "extra ==" in requirement:
            continue
        name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        return Finding("packages", "fail", f"missing: {', '.join(missing)}", "Install ragstack again with pip.")
    return Finding("packages", "ok", ", ".join(found))


def _compiled() -> Finding:
    broken = []
    for name in _COMPILED:
        problem = _import_problem(name)
        if problem:
            broken.append(f"{name} ({problem})")
    if broken:
        advice = "Install these again with pip; a wheel for another processor or system does not load."
        return Finding("compiled", "fail", f"cannot be loaded: {'; '.join(broken)}", advice)
    return Finding("compiled", "ok", ", ".join(_COMPILED))


def _import_problem(name: str) -> str:
    try:
        import_module(name)
    except Exception as error:
        # A broken extension module may raise anything; whatever it is, it is the finding.
        return f"{type(error).__name__}: {error}"
    return ""


def _encoding() -> Finding:
    encoding = sys.stdout.encoding or "unknown"
    if encoding.lower().replace("-", "") == "utf8":
        return Finding("terminal", "ok", encoding)
    advice = "Letters beyond it are shown as escapes. Set PYTHONUTF8=1 or a UTF-8 locale."
    return Finding("terminal", "warn", f"the output's encoding is {encoding}", advice)


def _model(loaded: LoadedConfig) -> Finding:
    from ragstack.embedding.registry import EMBEDDERS

    block = loaded.config.embedder
    if block.type == "remote":
        EMBEDDERS.load("remote")  # which needs an extra
        return Finding("model", "ok", f"{getattr(block, 'base_url', '')}: not asked, for nothing here uses a network")
    if block.type != "local":
        return Finding("model", "ok", f"{block.type}: no files of its own to check")
    return _onnx_model(block)  # type: ignore[arg-type]


def _onnx_model(block: LocalEmbedderConfig) -> Finding:
    from ragstack.embedding.model_files import resolve_model
    from ragstack.embedding.model_options import with_options

    if block.revision is not None:
        return Finding("model", "warn", f"{block.model}: not checked", "It is fetched from its hub on first use.")
    resolved = with_options(
        resolve_model(block.model),
        dimensions=block.dimensions,
        query_prompt=block.query_prompt,
        passage_prompt=block.passage_prompt,
        instruction=block.instruction,
    )
    if "onnx" in resolved.formats:
        resolved.onnx()
    found = f"{block.model}: {resolved.path}, SHA-256 {resolved.sha256[:12]}… as stated"
    return Finding("model", "ok", found)


def _profiles(config: PipelineConfig) -> Iterator[Finding]:
    """How each local model would run; those that are fetched first are left out."""
    from ragstack.cli.profile_targets import config_targets
    from ragstack.inference.check_records import CheckRecords
    from ragstack.inference.hardware import detect_hardware
    from ragstack.inference.runtimes import find_runtimes
    from ragstack.inference.selection import expected_selection

    hardware = detect_hardware()
    yield Finding("hardware", "ok", "; ".join(hardware.describe()))
    try:
        for target in config_targets(config, fetch=False):
            chosen = expected_selection(
                target.facts, target.role, hardware, find_runtimes(), target.wanted, CheckRecords.here(hardware)
            ).selected
            asked = f", asked for by {target.wanted.asked_by}" if target.wanted.asked_by else ""
            yield Finding("profile", "ok", f"{target.name}: {chosen.name} on {', '.join(chosen.devices)}{asked}")
    except RagstackError as error:
        yield Finding("profile", "fail", error.message, error.hint)


def _reranker(block: BaseModel) -> Finding:
    from ragstack.config.rerankers import CrossEncoderConfig, LlmYesNoConfig
    from ragstack.reranking.registry import RERANKERS

    if not isinstance(block, (CrossEncoderConfig, LlmYesNoConfig)):
        RERANKERS.load("remote")  # which needs an extra
        return Finding(
            "reranker", "ok", f"{getattr(block, 'base_url', '')}: not asked, for nothing here uses a network"
        )
    from ragstack.assembly import reranker_files

    if block.revision is not None:
        return Finding("reranker", "warn", f"{block.model}: not checked", "It is fetched from its hub on first use.")
    files = reranker_files(block)
    files.encoder(windows=True)
    found = f"{files.weights.root}, SHA-256 {files.sha256[:12]}…, reads {files.max_tokens} tokens of query and passage"
    return Finding("reranker", "ok", found)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    folder = folder.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def _writable(state_dir: Path) -> Finding:
    folder = _existing(state_dir)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        advice = "Change its permissions, or set indexer.state_dir in the config."
        return Finding("state", "fail", f"{folder} cannot be written to: {error.strerror or error}", advice)
    return Finding("state", "ok", f"{state_dir} can be written to")


def _space(state_dir: Path, config: PipelineConfig) -> Finding:
    from ragstack.indexer.disk import reserve_bytes

    folder = _existing(state_dir)
    free, reserve = shutil.disk_usage(folder).free, reserve_bytes(config, folder)
    found = f"{free / 1e9:.1f} GB free"
    if free < reserve:
        advice = "Free some space, or lower indexer.min_free_bytes."
        return Finding("disk", "fail", f"{found}; indexing stops below {reserve / 1e9:.1f} GB", advice)
    return Finding("disk", "ok", found)


def _index(state_dir: Path) -> Finding:
    from ragstack.indexer.status import index_status

    try:
        state = index_status(state_dir)
    except IndexNotFoundError as error:
        return Finding("index", "warn", error.message, error.hint)
    if state["active"] is None or state["pending"]:
        advice = "Run `ragstack index` again: it goes on from there."
        return Finding("index", "warn", "an earlier run was stopped", advice)
    chunks, sources = state["active"]["chunk_count"], state["sources"]["indexed"]
    return Finding("index", "ok", f"{chunks:,} chunks of {sources:,} sources")


def _lock(state_dir: Path) -> Finding:
    from ragstack.ledger.schema import LOCK_FILE
    from ragstack.process_lock import hold_lock

    path = state_dir / LOCK_FILE
    if not path.exists():
        return Finding("lock", "ok", "free")
    try:
        hold_lock(path, 0, f"the index {state_dir}").release()
    except IndexLockedError as error:
        return Finding("lock", "warn", error.message, error.hint)
    return Finding("lock", "ok", "free")
