"""Clients of a ragstack server: ``Client`` for code that may block, ``AsyncClient`` for code that may not.

What is asked and how answers are read is written once, without I/O (``operations``, ``exchange``, ``replies``,
``sse``); the two clients only carry it out.
"""

from __future__ import annotations

from ragstack.errors import MissingExtraError

try:
    from ragstack.client.asynchronous import AsyncClient
    from ragstack.client.synchronous import Client
except ImportError as error:
    if error.name != "httpx":
        raise
    raise MissingExtraError("ragstack.Client", "client") from error

__all__ = ["AsyncClient", "Client"]
