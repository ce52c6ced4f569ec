"""Bounds on what a request may carry, applied while it arrives and before anything is parsed."""

import asyncio
import contextlib

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.errors import Refused

DRAIN_BYTES = 8 << 20  # a refused body is read on a little, so that the client sees the answer …
DRAIN_SECONDS = 1.0  # … and does not just find its connection reset


class BodyLimit:
    """ASGI middleware that hands on a whole body, if it is small enough and comes in time."""

    def __init__(self, app: ASGIApp, max_bytes: int, seconds: float) -> None:
        """Wrap an application.

        Args:
            app: gets each request's body in one piece.
            max_bytes: a longer body is refused with 413, at once where its length is announced.
            seconds: a body that takes longer to arrive is refused with 408.
        """
        self._app = app
        self._max_bytes = max_bytes
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or scope["method"] in {"GET", "HEAD", "OPTIONS"}:
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "0")
        if announced.isdigit() and int(announced) > self._max_bytes:
            await self._refuse(self._too_large(), scope, receive, send)
            return
        try:
            body = await self._read(receive)
        except Refused as refused:
            await self._refuse(refused, scope, receive, send)
            return
        if body is None:
            return  # the client has left
        whole: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return whole.pop() if whole else await receive()

        await self._app(scope, replay, send)

    async def _read(self, receive: Receive) -> bytes | None:
        """Collect the body; None where the client has left."""
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > self._max_bytes:
                        raise self._too_large()
                    if not message.get("more_body"):
                        return b"".join(parts)
        except TimeoutError:
            raise Refused(408, "The body took too long to arrive.", kind="timeout") from None

    def _too_large(self) -> Refused:
        return Refused(
            413, f"The body is too large: at most {self._max_bytes} bytes.", kind="too_large"
        )

    async def _refuse(self, refused: Refused, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer before the body is read, read on for a moment, and close the connection."""
        refused.headers["Connection"] = "close"

        async def keep_open(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "more_body": True}  # sent whole, but not yet closed
            await send(message)

        await refused.response()(scope, receive, keep_open)
        read = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                while read < DRAIN_BYTES:
                    message = await receive()
                    read += len(message.get("body", b""))
                    if not message.get("more_body"):
                        break
        await send({"type": "http.response.body", "body": b"", "more_body": False})
