"""Installs ragstack into a throw-away virtualenv and prints what it takes of the disk, package by package.

    python3 scripts/measure_install.py [--limit MB]

With a limit, ends with status 1 when site-packages is larger. Needs a network.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from environment import ROOT, check_python, clean_environment

SIZES = """
import json, os, sysconfig
from importlib.metadata import distributions
from pathlib import Path
site = Path(sysconfig.get_path("purelib"))
def size(path):
    return path.lstat().st_size if path.is_file() else 0
sizes = {}
for found in distributions(path=[str(site)]):
    sizes[found.metadata["Name"]] = sum(size(Path(file.locate())) for file in found.files or [])
total = sum(size(path) for path in site.rglob("*") if not path.is_symlink())
print(json.dumps({"total": total, "packages": sizes}))
"""


def measure(folder):
    """``{"total": bytes, "packages": {name: bytes}}`` of a core install made in ``folder``."""
    import json

    python = folder / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, env=clean_environment())
    # An outer pip installs, so that pip itself is not counted.
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet",
         "--disable-pip-version-check", str(ROOT)],
        check=True,
        env=clean_environment(),
    )  # fmt: skip
    done = subprocess.run([str(python), "-c", SIZES], check=True, stdout=subprocess.PIPE, env=clean_environment())
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--limit", type=float, metavar="MB", help="largest size allowed (1 MB = 1,000,000 bytes)")
    options = parser.parse_args()
    check_python()
    with tempfile.TemporaryDirectory() as folder:
        sizes = measure(Path(folder))
    for name, size in sorted(sizes["packages"].items(), key=lambda item: -item[1]):
        print(f"{size / 1e6:8.1f} MB  {name}")
    total = sizes["total"] / 1e6
    print(f"{total:8.1f} MB  site-packages")
    if options.limit is not None and total > options.limit:
        sys.exit(f"error: larger than the limit of {options.limit:g} MB")


if __name__ == "__main__":
    main()
