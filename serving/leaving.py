"""Leaving without a lost request: who is still connected is asked to connect anew.

A server that is taken out of the traffic keeps the connections it has. Closed when it stops, they
may be closed just as a client sends its next request; closed with an answer, they are not.
"""

import signal
from types import FrameType

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Leaving:
    """ASGI middleware that, once told, closes each connection with its next answer."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an application.

        Args:
            app: goes on answering.
        """
        self._app = app
        self._told = False

    def listen(self) -> None:
        """Be told by SIGUSR1; from inside a container, `kill -USR1 1`."""
        signal.signal(signal.SIGUSR1, self._begin)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""

        async def last(message: Message) -> None:
            if message["type"] == "http.response.start" and self._told:
                MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        await self._app(scope, receive, last if scope["type"] == "http" else send)

    def _begin(self, _: int, __: FrameType | None) -> None:
        self._told = True
