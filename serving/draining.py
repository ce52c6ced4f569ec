"""Drain connections, so that no request is lost when the server stops.

A server that is taken out of the traffic keeps the connections it has. Closed when it stops, they
may be closed just as a client sends its next request; closed with an answer, they are not.
"""

import signal
from types import FrameType

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Draining:
    """ASGI middleware that, from a signal on, closes each connection with its next answer."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an application, which goes on answering."""
        self._app = app
        self._is_draining = False

    def start_on_signal(self) -> None:
        """Drain from SIGUSR1 on; from inside a container, `kill -USR1 1`."""
        signal.signal(signal.SIGUSR1, self._start)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""

        async def send_and_close(message: Message) -> None:
            if message["type"] == "http.response.start" and self._is_draining:
                MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        await self._app(scope, receive, send_and_close if scope["type"] == "http" else send)

    def _start(self, _: int, __: FrameType | None) -> None:
        self._is_draining = True
