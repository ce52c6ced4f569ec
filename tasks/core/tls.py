"""The certificates that clients trust: those of `SSL_CERT_FILE`, else certifi's."""

from __future__ import annotations

import ssl
from functools import cache

import httpx


@cache
def ssl_context() -> ssl.SSLContext:
    """Return the TLS context for `verify` of HTTPX clients.

    HTTPX would read the certificates for each client, which takes 30 ms of a core: too much for one
    that asks every 100 ms whether a server is ready.
    """
    return httpx.create_ssl_context(trust_env=True)
