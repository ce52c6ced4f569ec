"""A proxy between flows and S3 that fails on purpose."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_HOP = {"connection", "transfer-encoding", "keep-alive", "content-length"}


class FaultyS3(ThreadingHTTPServer):
    """Passes requests on to the real server; the next `errors` of them get a 503 instead."""

    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = urlsplit(upstream).netloc
        self.errors = 0
        self.delay = 0.0
        self.requests = 0
        self.puts = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: FaultyS3
    protocol_version = "HTTP/1.1"

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with self.server.lock:
            self.server.requests += 1
            self.server.puts += self.command == "PUT"
            fail = self.server.errors > 0
            self.server.errors -= fail
        time.sleep(self.server.delay)
        if fail:
            self.send_response(503)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        with (
            closing(http.client.HTTPConnection(self.server.upstream, timeout=30)) as upstream,
            suppress(ConnectionError),  # a client that was killed
        ):
            self._answer(upstream, body)

    def _answer(self, connection: http.client.HTTPConnection, body: bytes) -> None:
        headers = {
            k: v for k, v in self.headers.items() if k.lower() not in _HOP - {"content-length"}
        }
        # The signature is over the Host that the client named: it is passed on as it came.
        connection.request(self.command, self.path, body=body, headers=headers)
        answer = connection.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        for key, value in answer.getheaders():
            if key.lower() not in _HOP:
                self.send_header(key, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else None
        self.send_header("Content-Length", length or str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _pass_on

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


@contextmanager
def faulty_s3(upstream: str) -> Iterator[FaultyS3]:
    """Run the proxy for a block of code."""
    with FaultyS3(upstream) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
