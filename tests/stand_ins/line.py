"""A line to a real server that can be cut, as a restart of the server cuts it."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

_RESET = struct.pack("ii", 1, 0)  # close with a reset, as a dead process does


class Line:
    """A TCP relay on loopback.

    Args:
        port: Port of the server.
    """

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._away = False
        self.cuts = 0
        self.refused = 0
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, seconds: float) -> None:
        """Reset all connections, and each new one for some time."""
        with self._lock:
            self._away, broken, self._open = True, self._open, set()
        self.cuts += 1
        for end in broken:
            _reset(end)
        timer = threading.Timer(seconds, self._mend)
        timer.daemon = True
        timer.start()

    def close(self) -> None:
        """End it."""
        self.cut(0)
        self._listener.close()

    def _mend(self) -> None:
        self._away = False

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            if self._away:
                self.refused += 1
                _reset(client)
                continue
            with contextlib.suppress(OSError):
                server = socket.create_connection(("127.0.0.1", self._server_port))
                with self._lock:
                    self._open |= {client, server}
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=_carry, args=(source, sink), daemon=True).start()


def _carry(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


def _reset(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        end.shutdown(socket.SHUT_RDWR)
    end.close()


@contextlib.contextmanager
def line_to(port: int) -> Iterator[Line]:
    """Open a line to a server for a block of code."""
    line = Line(port)
    try:
        yield line
    finally:
        line.close()
