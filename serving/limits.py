"""Limits of a request's body, applied while it arrives and before anything is parsed."""

import asyncio
import contextlib
import io

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.errors import RequestError


class BodyLimit:
    """ASGI middleware that passes a complete body on, if it is small enough and in time."""

    def __init__(self, app: ASGIApp, max_bytes: int, seconds: float) -> None:
        """Wrap an application.

        Args:
            app: gets each request's body in one piece.
            max_bytes: a longer body is refused with 413, at once where its length is declared.
            seconds: a body that takes longer to arrive is refused with 408. A refused body is read
                on for as long.
        """
        self._app = app
        self._max_bytes = max_bytes
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or scope["method"] in {"GET", "HEAD", "OPTIONS"}:
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "0")
        if declared.isdigit() and int(declared) > self._max_bytes:
            await self._refuse(self._make_too_large(), scope, receive, send)
            return
        encoding = Headers(scope=scope).get("content-encoding", "identity")
        if encoding.strip().lower() not in {"", "identity"}:
            message = f"The body is compressed ({encoding[:32]!r}): send it as it is."
            error = RequestError(415, message, kind="content_encoding")
            await self._refuse(error, scope, receive, send)
            return
        try:
            body = await self._read(receive)
        except RequestError as error:
            await self._refuse(error, scope, receive, send)
            return
        if body is None:
            return  # the client has disconnected
        messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return messages.pop() if messages else await receive()

        await self._app(scope, replay, send)

    async def _read(self, receive: Receive) -> bytes | None:
        """Collect the body; return None if the client has disconnected."""
        body = io.BytesIO()  # joined parts would take the memory of two bodies
        try:
            async with asyncio.timeout(self._seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    body.write(message.get("body", b""))
                    if body.tell() > self._max_bytes:
                        raise self._make_too_large()
                    if not message.get("more_body"):
                        return body.getvalue()
        except TimeoutError:
            raise RequestError(408, "The body took too long to arrive.", kind="timeout") from None

    def _make_too_large(self) -> RequestError:
        return RequestError(
            413, f"The body is too large: at most {self._max_bytes} bytes.", kind="too_large"
        )

    async def _refuse(
        self, error: RequestError, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer before the body is read, read it to its end, and close the connection.

        Most clients look for an answer only once they have sent everything: if the connection were
        closed before, they would see a broken pipe. It takes no longer than a body that is accepted
        may take, and keeps nothing.
        """
        error.headers["Connection"] = "close"

        async def keep_open(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "more_body": True}  # sent in full, but not yet closed
            await send(message)

        await error.make_response()(scope, receive, keep_open)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._seconds):
                while (await receive()).get("more_body"):
                    pass
        await send({"type": "http.response.body", "body": b"", "more_body": False})
