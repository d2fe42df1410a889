"""Fetches or builds what tests run and no package brings (vector stores, a language model, a browser), once, into a
cache outside the checkout.

    python scripts/fetch_servers.py [SERVER...]

The cache is ${RAGSTACK_TEST_CACHE:-~/.cache/ragstack-tests}. Needs a network; what is there already is kept.
The browser is the system's: as root, where there is none, Debian's package is installed.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.servers import FETCHERS


def main() -> int:
    names = sys.argv[1:] or list(FETCHERS)
    unknown = [name for name in names if name not in FETCHERS]
    if unknown:
        print(f"no such server: {', '.join(unknown)}; known: {', '.join(FETCHERS)}", file=sys.stderr)
        return 2
    for name in names:
        print(f"{name}: {FETCHERS[name]()}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
