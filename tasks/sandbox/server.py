"""Serve a module on a socket that this process inherits: `python server.py MODULE ARGUMENT…`.

It runs inside the box, which has no network, with the Python of the release. Releases that were
made before there were boxes open a port of their own, and a rollback must be able to run them; so
the server that they start, uvicorn, is given the socket, and their code stays as it is.
"""

import os
import runpy
import socket
import sys
from pathlib import Path

import uvicorn

SOCKET = "SLIPWAY_SOCKET"  # number of the inherited file


def main() -> None:
    """Give uvicorn the socket, and become the module."""
    listener = socket.socket(fileno=int(os.environ.pop(SOCKET)))
    serve = uvicorn.Server.serve

    async def serve_inherited(
        self: uvicorn.Server, sockets: "list[socket.socket] | None" = None
    ) -> None:
        await serve(self, [listener])

    uvicorn.Server.serve = serve_inherited  # type: ignore[method-assign]
    sys.argv = sys.argv[1:]
    sys.path[0] = str(Path.cwd())  # as `python -m` has it
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
