"""A relay to a real server, so that its calls can be made to fail: `Faults(Relay(url))`."""

from __future__ import annotations

from typing import Any

import httpx

from tasks.core.tls import ssl_context

# What concerns one connection, not the request; and what httpx has undone or sets itself.
_OWN = {b"connection", b"transfer-encoding", b"content-length", b"content-encoding"}


class Relay:
    """ASGI application that passes requests on, and their answers back.

    Args:
        url: Where the server is: `http://…`, `tcp://…` or `unix://…`.
    """

    def __init__(self, url: str) -> None:
        scheme, _, where = url.partition("://")
        self._socket = f"/{where.lstrip('/')}" if scheme == "unix" else None
        self._base = "http://localhost" if self._socket else f"http://{where}"

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http", "the server of a stand-in goes on without the rest"
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        # The Host that the client named goes along: servers make addresses from it.
        headers = [item for item in scope["headers"] if item[0] not in _OWN]
        path = f"{scope['raw_path'].decode()}?{scope['query_string'].decode()}".rstrip("?")
        transport = httpx.AsyncHTTPTransport(uds=self._socket, verify=ssl_context())
        async with httpx.AsyncClient(transport=transport, timeout=60) as client:
            answer = await client.request(
                scope["method"], f"{self._base}{path}", headers=headers, content=body
            )
        fields = [(name.lower(), value) for name, value in answer.headers.raw]
        fields = [item for item in fields if item[0] not in _OWN]
        # An answer to HEAD has the length of what it does not have.
        length = answer.headers.get("content-length") if scope["method"] == "HEAD" else None
        fields.append((b"content-length", (length or str(len(answer.content))).encode()))
        if answer.status_code in {204, 304}:
            fields.pop()
        await send({"type": "http.response.start", "status": answer.status_code, "headers": fields})
        await send({"type": "http.response.body", "body": answer.content})
