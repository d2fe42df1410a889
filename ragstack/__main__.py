"""``python -m ragstack``: the same as the command ``ragstack``."""

from __future__ import annotations

from ragstack.cli.main import run

run()
