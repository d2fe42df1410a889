"""How values are written for Qdrant's indexes, whichever driver writes them. Pure."""

from __future__ import annotations

import json

from ragstack.filters import Scalar

LISTS_KEY = "lists"
"""Index key that names, per record, the index keys whose payload value is a list."""


def keyword(value: Scalar) -> str:
    """The indexed form of a keyword or a boolean: itself where UTF-8 holds it, otherwise ASCII behind a NUL.

    File names that are not UTF-8 reach Python with lone surrogates, which the driver refuses. Strings
    that start with a NUL are escaped too, so no two values share a form.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    if text[:1] != "\0":
        try:
            text.encode()
        except UnicodeEncodeError:
            pass  # escaped below
        else:
            return text
    return "\0" + json.dumps(text)
