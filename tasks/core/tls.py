"""Which servers clients of ours trust: those that `SSL_CERT_FILE` vouches for, else certifi."""

from __future__ import annotations

import ssl
from functools import cache

import httpx


@cache
def ssl_context() -> ssl.SSLContext:
    """What a client is given as `verify`.

    Reading the certificates takes 30 ms of a core, which HTTPX spends on every client: too much
    for one that asks, every 100 ms, whether a server is ready.
    """
    return httpx.create_ssl_context(trust_env=True)
