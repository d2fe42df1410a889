"""Kills the indexer at random instants and at every fault point; each resumed run must equal a clean one.

    .venv/bin/python scripts/kill_test.py [--kills 200] [--seed N] [--folder FOLDER]

Prints a line for each trial and a summary; ends with status 1 when a resumed index differs. Needs the package
installed with its test dependencies. --folder puts the indexes on the disk that holds that folder.
"""

import argparse
import secrets
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.integration.killing import KillBench, fault_points


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}")
    started = time.monotonic()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        bench = KillBench(Path(folder))
        summary = bench.run(arguments.seed, arguments.kills, lambda line: print(line, flush=True))
    never = [name for name in fault_points() if name not in summary.points]
    print(f"\n{summary.delivered} kills in {time.monotonic() - started:.0f} s: {summary.by_timer} by timer, ", end="")
    print(f"{sum(summary.points.values())} at fault points; {summary.too_late} runs ended before their kill")
    print("trials:", ", ".join(f"{count} {name}" for name, count in sorted(summary.scenarios.items())))
    print("fault points:", ", ".join(f"{name} {count}" for name, count in sorted(summary.points.items())))
    print("not reached:", ", ".join(never) or "none")
    for failure in summary.failures:
        print("FAILED", failure)
    print("every resumed index equals a clean one" if not summary.failures else f"{len(summary.failures)} failures")
    return 1 if summary.failures else 0


if __name__ == "__main__":
    sys.exit(main())
