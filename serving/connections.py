"""Bound the connections of the server, so that idle ones take nobody's place.

uvicorn waits without end for the first request of a connection, and answers 503 to everybody,
health checks too, while there are many. Here the one that has waited longest makes room for a new
one.
"""

import asyncio
import functools
import resource
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serving.errors import RequestError

HEALTH = frozenset({"/healthz", "/readyz", "/ping"})
RESERVED = 32  # connections beyond the bound, for health checks alone
HEADER_BYTES = 64 << 10  # of one request; the parser itself has no limit
OTHER_FILES = 128  # that the process has open beside its connections


def fit_open_files(connections: int) -> int:
    """Raise the limit of open files to what so many connections need, and say how many fit.

    A server without a free file cannot accept a connection: not a health check's either.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + RESERVED + OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return connections
    soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(1, soft - RESERVED - OTHER_FILES)


class Connections:
    """The open connections of one server, and which of them wait for their clients."""

    def __init__(self, most: int, header_seconds: float) -> None:
        """Set the bounds.

        Args:
            most: connections whose requests are answered at the same time.
            header_seconds: from the first byte of a request to the end of its header.
        """
        self._most = most
        self.header_seconds = header_seconds
        self._open: set[Connection] = set()
        # Oldest first: those without a request yet, those without a further one, among them the
        # ones of proxies, and those whose request has not arrived in full.
        self._unused: dict[Connection, None] = {}
        self._used: dict[Connection, None] = {}
        self._receiving: dict[Connection, None] = {}

    @property
    def make_protocol(self) -> Any:
        """The class of connections, as uvicorn takes it."""
        return functools.partial(Connection, self)

    @property
    def are_busy(self) -> bool:
        """Say that more requests are being answered than there may be connections."""
        waiting = len(self._unused) + len(self._used) + len(self._receiving)
        return len(self._open) - waiting > self._most

    def add(self, connection: "Connection") -> None:
        """Take a new connection on; close one that waits if there are too many."""
        self._open.add(connection)
        if len(self._open) > self._most:
            groups = (self._unused, self._used, self._receiving)
            waiting = next((connection for group in groups for connection in group), None)
            if waiting is not None:
                self.remove(waiting)
                waiting.transport.abort()
            elif len(self._open) > self._most + RESERVED:
                self.remove(connection)
                connection.transport.abort()
                return
        self._unused[connection] = None

    def receive(self, connection: "Connection") -> None:
        """Note that the header of a request has arrived, and its body has not."""
        self._move(connection, self._receiving)

    def answer(self, connection: "Connection") -> None:
        """Note that a request has arrived in full."""
        self._receiving.pop(connection, None)

    def rest(self, connection: "Connection") -> None:
        """Note that a connection waits for its next request."""
        self._move(connection, self._used)

    def remove(self, connection: "Connection") -> None:
        """Forget a connection."""
        self._open.discard(connection)
        for group in (self._unused, self._used, self._receiving):
            group.pop(connection, None)

    def _move(self, connection: "Connection", group: dict["Connection", None]) -> None:
        if connection in self._open:
            self._unused.pop(connection, None)
            self._used.pop(connection, None)
            self._receiving.pop(connection, None)
            group[connection] = None


class Connection(HttpToolsProtocol):
    """One connection: uvicorn's, with a time-out wherever it waits for the client."""

    def __init__(self, connections: Connections, **options: Any) -> None:
        """Wait for the first request.

        Args:
            connections: all of this server.
            options: uvicorn's own.
        """
        super().__init__(**options)
        self._all = connections
        self._is_waiting = True  # until the header of a request is complete
        self._has_begun = False  # to receive a header
        self._header_bytes = 0
        self._timer: asyncio.TimerHandle | None = None  # until the client has done its part

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first request as long as for any other."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )
        self._all.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._unset_keepalive_if_required()
        self._set_timer(None)
        self._all.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse bytes; limit the header in time and size, however slowly it arrives."""
        super().data_received(data)
        if not self._is_waiting:
            return
        self._header_bytes += len(data)
        if self._timer is None:
            self._set_timer(self._all.header_seconds)
        if self._header_bytes > HEADER_BYTES and not self.transport.is_closing():
            self.send_400_response("The header of the request is too large.")

    def on_message_begin(self) -> None:
        """Begin a header."""
        self._has_begun = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Answer the request; its body has a time-out of its own."""
        self._has_begun = self._is_waiting = False
        self._header_bytes = 0
        if not self.flow.write_paused:
            self._set_timer(None)
        self._all.receive(self)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Count the connection among those that wait for the server."""
        self._all.answer(self)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request, unless it is here already."""
        super().on_response_complete()
        if self.transport.is_closing():  # once the client has read the answer
            self._set_timer(self.timeout_keep_alive)
        elif self.cycle.response_complete:
            self._is_waiting = True
            self._all.rest(self)
            if self._has_begun:
                self._unset_keepalive_if_required()
                self._set_timer(self._all.header_seconds)

    def pause_writing(self) -> None:
        """Give a client that does not read its answers the time of an idle one."""
        super().pause_writing()
        self._set_timer(self.timeout_keep_alive)

    def resume_writing(self) -> None:
        """Go on with a client that reads again."""
        super().resume_writing()
        if not self.transport.is_closing():
            is_slow = self._is_waiting and self._has_begun
            self._set_timer(self._all.header_seconds if is_slow else None)

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection, also if the client has not read its last answer."""
        self.transport.abort()

    def _unsupported_upgrade_warning(self) -> None:
        """Answer as if no upgrade had been asked for, which HTTP allows, without a log line."""

    def _set_timer(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = (
            None if seconds is None else self.loop.call_later(seconds, self.transport.abort)
        )


def _is_health_check(scope: Scope) -> bool:
    # Reading alone: for what is sent, the server would have to wait.
    return scope.get("path") in HEALTH and scope.get("method") in {"GET", "HEAD"}


class ConnectionLimit:
    """ASGI middleware that answers only health checks while all connections are busy."""

    def __init__(self, app: ASGIApp, connections: Connections) -> None:
        """Wrap an application.

        Args:
            app: answers the requests.
            connections: all of this server.
        """
        self._app = app
        self._connections = connections

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if not self._connections.are_busy or _is_health_check(scope):
            await self._app(scope, receive, send)
            return
        error = RequestError(
            503,
            "Too many connections at once; try again in a moment.",
            kind="busy",
            headers={"Retry-After": "1", "Connection": "close"},
        )
        await error.make_response()(scope, receive, send)
