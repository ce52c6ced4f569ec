"""The events of one flow run: who follows it looks when it changes, not some seconds later.

They need the package websockets, which comes with Prefect; CI has httpx alone. Without it, or
without a connection, waiting takes its time, as it did before there were events.
"""

from __future__ import annotations

import json
import time
from base64 import b64decode
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

_CONNECT_SECONDS = 5.0
# The server sends an event before it commits the change. Besides, events come in threes.
_COMMIT_SECONDS = 0.1
_A_DAY, _YEARS = timedelta(days=1), timedelta(days=3650)  # more than clocks differ, and runs take


class RunEvents:
    """A connection to the events of a run; use it as a context manager.

    Args:
        url: The server's API URL.
        authorization: The value of the header `Authorization`; empty for none.
        run_id: The run.
        local: Whether the server is on this machine, which no proxy of the environment reaches.
    """

    def __init__(self, url: str, authorization: str, run_id: str, *, local: bool) -> None:
        self._url = "ws" + url.removeprefix("http") + "/events/out"
        self._token = _token(authorization)
        now = datetime.now(UTC)
        self._filter = {
            "event": {"exclude_name": ["prefect.flow-run.heartbeat"]},
            "resource": {"id": [f"prefect.flow-run.{run_id}"]},
            # Without a time the server would send what was before the connection, and no more.
            "occurred": {"since": (now - _A_DAY).isoformat(), "until": (now + _YEARS).isoformat()},
        }
        self._local = local
        self._socket: ClientConnection | None = None

    def __enter__(self) -> Self:
        with suppress(ImportError):
            from websockets.exceptions import WebSocketException

            with suppress(OSError, WebSocketException, ValueError):
                self._socket = self._connect()
        return self

    def __exit__(self, *_: object) -> None:
        if self._socket is not None:
            self._socket.close()

    def wait(self, seconds: float) -> None:
        """Wait until the run has changed, or until the time is over."""
        deadline = time.monotonic() + seconds
        if self._socket is not None:
            from websockets.exceptions import ConnectionClosed

            try:
                self._socket.recv(timeout=seconds)
            except TimeoutError:
                return
            except ConnectionClosed:
                self._socket = None  # the server has ended, or does not know the token
            else:
                time.sleep(_COMMIT_SECONDS)
                return
        time.sleep(max(deadline - time.monotonic(), 0))

    def _connect(self) -> ClientConnection:
        """Return a connection on which events come from now on."""
        from websockets.sync.client import connect
        from websockets.typing import Subprotocol

        socket = connect(
            self._url,
            subprotocols=[Subprotocol("prefect")],
            proxy=None if self._local else True,
            open_timeout=_CONNECT_SECONDS,
            close_timeout=1,
        )
        try:
            socket.send(json.dumps({"type": "auth", "token": self._token}))
            socket.recv(timeout=_CONNECT_SECONDS)
            socket.send(json.dumps({"type": "filter", "filter": self._filter, "backfill": False}))
        except BaseException:
            socket.close()
            raise
        return socket


def _token(authorization: str) -> str:
    """Return the `user:password` or the key of a header `Authorization`."""
    kind, _, value = authorization.partition(" ")
    return b64decode(value).decode() if kind == "Basic" else value
