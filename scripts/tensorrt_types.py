"""Check the calls of ragstack.inference.tensorrt_engine against the types that are published for TensorRT.

    pip install --no-deps --target stubs tensorrt-stubs
    python scripts/tensorrt_types.py stubs

The stubs depend on TensorRT itself, hence --no-deps, and were made by a program that writes what is no Python: default
values such as <Flag.A: 1>, parameters called in, a variable called bool. A mended copy of them is what mypy reads.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

MENDED = (
    (r"= <[^>\n]*(?:<[^>\n]*>[^>\n]*)*>", "= ..."),
    (r"(\(|, )in: ", r"\1in_: "),
    (r"(?m)^(bool|int8|float16|bfloat16|float32|int32|int64|uint8)(: | = )", r"trt_\1\2"),
    (r"(?m)^(    def add_scale_nd\(.*)$", lambda line: line.group(1).replace(" = None", "")),
    (r"(?m)^(?:import|from) tensorrt_libs.*\n", ""),
)


def main(stubs: Path) -> int:
    """Status 0 where mypy finds nothing in ragstack."""
    with tempfile.TemporaryDirectory() as folder:
        for package in ("tensorrt", "tensorrt_bindings"):
            mended = Path(shutil.copytree(stubs / package, Path(folder) / package))
            (mended / "py.typed").touch()
            for file in mended.rglob("*.pyi"):
                text = file.read_text(encoding="utf-8")
                for pattern, replacement in MENDED:
                    text = re.sub(pattern, replacement, text)
                file.write_text(text, encoding="utf-8")
        command = [sys.executable, "-m", "mypy", "-p", "ragstack.inference", "--follow-imports", "silent"]
        command += ["--cache-dir", f"{folder}/cache"]
        found = subprocess.run(
            command, env={**os.environ, "MYPYPATH": folder}, capture_output=True, text=True, check=False
        )
    ours = [line for line in found.stdout.splitlines() if line.startswith("ragstack") and ": error:" in line]
    read = "tensorrt_bindings/tensorrt.pyi" in found.stdout  # it always has something to say of the stubs themselves
    print("\n".join(ours) or ("no differences" if read else f"the stubs were not read:\n{found.stdout}{found.stderr}"))
    return 1 if ours or not read else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
