"""Servers of a small application with the model server's connections; run by the runtime's Python.

Its argument is a list of bounds, as JSON; it prints the ports of one server for each.
"""

import asyncio
import json
import sys

from uvicorn import Config
from uvicorn.server import ServerState

from serving.connections import ConnectionLimit, Connections


class Application:
    """Answers at once, with `?slow` only the header until another asks with `?go`."""

    def __init__(self):
        self._go = asyncio.Event()

    async def __call__(self, scope, receive, send):
        if scope["query_string"] == b"go":
            self._go.set()
        body = b"x" * (32 << 20 if scope["path"] == "/large" else 2)
        length = (b"content-length", b"%d" % len(body))
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        if scope["query_string"] == b"slow":
            await self._go.wait()
        await send({"type": "http.response.body", "body": body})


async def serve(most=3, header_seconds=60, keep_alive=60):
    """Start one server and return its port."""
    connections = Connections(most, header_seconds)
    config = Config(
        ConnectionLimit(Application(), connections),
        timeout_keep_alive=keep_alive, ws="none", access_log=False, log_config=None,
    )  # fmt: skip
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(
        lambda: connections.make_protocol(config=config, server_state=state, app_state={}),
        "127.0.0.1", 0,
    )  # fmt: skip
    return server.sockets[0].getsockname()[1]


async def main():
    """Serve until killed."""
    ports = [await serve(**bounds) for bounds in json.loads(sys.argv[1])]
    print(json.dumps(ports), flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
