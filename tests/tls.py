"""One TLS context for all clients of a process: each would read all certificates, 25 ms of CPU.

Clients of Prefect and of HTTPX make one even for a server on loopback without TLS.
"""

from __future__ import annotations

import ssl
from functools import cache
from typing import Any

_create = ssl.create_default_context


@cache
def _create_trusting(cafile: str) -> ssl.SSLContext:
    return _create(cafile=cafile)


def _create_once(
    purpose: ssl.Purpose = ssl.Purpose.SERVER_AUTH, *, cafile: str | None = None, **others: Any
) -> ssl.SSLContext:
    if cafile and purpose is ssl.Purpose.SERVER_AUTH and not any(others.values()):
        return _create_trusting(cafile)
    return _create(purpose, cafile=cafile, **others)


def share_contexts() -> None:
    """Give clients that trust the same certificates the same context."""
    ssl.create_default_context = _create_once
