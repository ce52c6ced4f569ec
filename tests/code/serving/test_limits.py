"""Bounds that are applied while a body arrives, and to work that waits; in process."""

import asyncio
import contextlib
import json
import threading

import pytest

from serving.errors import RequestError
from serving.limits import BodyLimit
from serving.work import Workers
from tests.code.serving.test_batching import step

LIMIT = 100


class Client:
    """Sends a body in parts and keeps what it is answered."""

    def __init__(self, parts, length=None, hang=False):
        self.parts = list(parts)
        self.headers = [] if length is None else [(b"content-length", str(length).encode())]
        self.hang = hang
        self.read = 0
        self.sent = []

    async def receive(self):
        if not self.parts:
            if self.hang:
                await asyncio.Event().wait()
            return {"type": "http.disconnect"}
        part = self.parts.pop(0)
        self.read += len(part)
        more = bool(self.parts) or self.hang
        return {"type": "http.request", "body": part, "more_body": more}

    async def send(self, message):
        self.sent.append(message)

    async def post(self, seconds=5.0):
        """The status, the answer, and what the application got."""
        got = []

        async def app(scope, receive, send):
            got.append((await receive())["body"])
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"{}"})

        scope = {"type": "http", "method": "POST", "path": "/", "headers": self.headers}
        await BodyLimit(app, LIMIT, seconds)(scope, self.receive, self.send)
        if not self.sent:
            return None, {}, got
        body = b"".join(m.get("body", b"") for m in self.sent[1:])
        return self.sent[0]["status"], json.loads(body), got


async def test_body_arrives_in_one_piece():
    assert await Client([b"a" * 60, b"b" * 40]).post() == (200, {}, [b"a" * 60 + b"b" * 40])


async def test_declared_length_is_refused_before_the_body_is_read():
    client = Client([b"x"] * 3, length=LIMIT + 1)
    read_when_answered = []
    send = client.send

    async def note(message):
        read_when_answered.append(client.read)
        await send(message)

    client.send = note
    status, answer, got = await client.post()
    assert (status, got, read_when_answered[0]) == (413, [], 0)
    assert answer["error"] == "The body is too large: at most 100 bytes."
    assert (b"connection", b"close") in client.sent[0]["headers"]


async def test_chunked_body_is_counted_while_it_arrives():
    client = Client([b"x" * 60] * 10)
    status, _, got = await client.post()
    assert (status, got) == (413, [])


async def test_refused_body_is_read_to_its_end_but_for_a_limited_time():
    client = Client([b"x" * (1 << 20)] * 100, length=100 << 20)
    await client.post()
    assert client.read == 100 << 20
    endless = Client([b"x"], length=LIMIT + 1, hang=True)
    assert (await endless.post(seconds=0.05))[0] == 413


async def test_false_length_does_not_evade_the_limit():
    assert (await Client([b"x" * 101], length=5).post())[0] == 413


async def test_body_that_does_not_arrive_is_408():
    status, answer, got = await Client([b"x"], hang=True).post(seconds=0.05)
    assert (status, got) == (408, [])
    assert "too long" in answer["error"]


async def test_client_that_disconnects_is_forgotten():
    client = Client([])
    assert await client.post() == (None, {}, [])


async def test_batches_wait_in_a_bounded_queue():
    workers = Workers(threads=1, queue=1)
    go = threading.Event()
    first, second = (asyncio.create_task(workers.run(step(go.wait, 5))) for _ in range(2))
    await asyncio.sleep(0.05)
    with pytest.raises(RequestError) as caught:
        await workers.run(step(go.wait, 5))
    assert (caught.value.status, caught.value.headers["Retry-After"]) == (503, "1")
    go.set()
    assert await first
    assert await second
    assert await workers.run(step(int, "3")) == 3
    workers.close()


async def test_client_that_disconnects_does_not_free_room():
    workers = Workers(threads=1, queue=0)
    go = threading.Event()
    task = asyncio.create_task(workers.run(step(go.wait, 5)))
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.sleep(0)
    with pytest.raises(RequestError):
        await workers.run(step(int))
    go.set()
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(RequestError):
                assert await workers.run(step(int)) == 0
                break
            await asyncio.sleep(0.01)
    workers.close()
