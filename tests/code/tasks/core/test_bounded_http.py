from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import httpx
import pytest

from tasks.core import bounded_http
from tasks.core.bounded_http import bounded_client
from tasks.core.errors import TransientError
from tasks.platforms.base.model_server import HttpServer


class _Foreign(BaseHTTPRequestHandler):
    """A model server whose answers are meant to fill the memory of who asks."""

    def do_GET(self) -> None:
        self.send_response(200)
        if self.path == "/packed":
            self.send_header("Content-Encoding", "gzip")
            self.end_headers()
            self.wfile.write(gzip.compress(bytes(1 << 24)))
            return
        self.end_headers()
        with suppress(ConnectionError):  # who asked has had enough
            for _ in range(64 if self.path == "/endless" else 1):
                self.wfile.write(b"1" * 4096)

    do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


@pytest.fixture
def url() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Foreign) as server:
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


async def test_answer_that_would_fill_the_memory_is_given_up(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded_http, "LARGEST_ANSWER_BYTES", 1 << 17)
    async with bounded_client(url, timeout=20) as client:
        assert len((await client.get("/small")).content) == 4096
        with pytest.raises(httpx.ReadError, match="more than"):
            await client.get("/endless")
        with pytest.raises(httpx.DecodingError, match="compressed"):
            await client.get("/packed")
    with pytest.raises(TransientError, match="more than 0 MB"):
        await HttpServer(url).ask("endless", {})
