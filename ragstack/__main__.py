"""``python -m ragstack``: the same as the command ``ragstack``."""

from __future__ import annotations

import sys

from ragstack.cli.main import main

sys.exit(main())
