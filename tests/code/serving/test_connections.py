"""Connections that wait, dribble or do not read: each has its time, none takes others' place."""

import asyncio
import contextlib
import json
import subprocess

import pytest

from tests.code.serving.running import HERE, ROOT, clean_environment, run

RESERVED = 32  # connections for health checks alone
REQUEST = b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n"
BOUNDS = {
    "ordinary": {},
    "idle": {"most": 3},
    "used": {"most": 3},
    "busy": {"most": 3},
    "posts": {"most": 3},
    "bodies": {"most": 3},
    "full": {"most": 1},
    "short header": {"header_seconds": 0.2},
    "short idle": {"keep_alive": 0.3},
}


@pytest.fixture(scope="module")
def ports(runtime):
    """The port of a small server for each of the bounds."""
    argv = [runtime, HERE / "small_servers.py", json.dumps([*BOUNDS.values()])]
    environment = {**clean_environment(), "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env=environment) as process:
        yield dict(zip(BOUNDS, json.loads(process.stdout.readline()), strict=True))
        process.kill()


class Clients:
    """Clients of one of the small servers."""

    def __init__(self, port):
        self._port = port
        self._writers = []

    async def connect(self, sent=b"", **options):
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, **options)
        self._writers.append(writer)
        writer.write(sent)
        return reader, writer

    async def begin(self, path):
        """Send a request, and wait until it is being answered."""
        reader, _ = await self.connect(REQUEST % path)
        assert await status(reader) == 200
        return reader

    async def ask(self, path):
        """Return the status of the answer on a connection of its own."""
        reader, _ = await self.connect(REQUEST % path)
        return await status(reader)

    def close(self):
        for writer in self._writers:
            writer.close()


@pytest.fixture
async def clients(ports):
    """Makes clients of the server with the bounds of that name."""
    made = []

    def make(name):
        made.append(Clients(ports[name]))
        return made[-1]

    yield make
    for some in made:
        some.close()


async def status(reader):
    async with asyncio.timeout(10):
        return int((await reader.readuntil(b"\r\n\r\n")).split()[1])


async def is_closed(reader, seconds=10.0):
    try:
        async with asyncio.timeout(seconds):
            with contextlib.suppress(ConnectionError):
                await reader.read()
    except TimeoutError:
        return False
    return True


async def test_idle_connections_make_room_oldest_first(clients):
    server = clients("idle")
    idle = [(await server.connect())[0] for _ in range(9)]
    assert await server.ask(b"/healthz") == 200
    assert await server.ask(b"/predict") == 200
    assert [await is_closed(reader) for reader in idle[:6]] == [True] * 6


async def test_unused_connection_makes_room_before_one_that_had_answers(clients):
    server = clients("used")
    reader, writer = await server.connect(REQUEST % b"/predict")
    assert await status(reader) == 200
    await reader.readexactly(2)
    for _ in range(9):
        await server.connect()
    assert await server.ask(b"/predict") == 200
    writer.write(REQUEST % b"/predict")
    assert await status(reader) == 200


async def test_busy_server_answers_health_checks_and_refuses_the_rest(clients):
    server = clients("busy")
    busy = [await server.begin(b"/predict?slow") for _ in range(3)]
    assert await server.ask(b"/predict") == 503
    idle = [(await server.connect())[0] for _ in range(50)]
    for path in (b"/healthz", b"/readyz", b"/ping"):
        assert await server.ask(path) == 200
    assert await is_closed(idle[0])
    assert await server.ask(b"/healthz?go") == 200
    assert [await reader.readexactly(2) for reader in busy] == [b"xx"] * 3
    assert await server.ask(b"/predict") == 200


async def test_connections_beyond_the_reserve_are_closed(clients):
    server = clients("full")
    for _ in range(1 + RESERVED):
        await server.begin(b"/healthz?slow")
    assert await is_closed((await server.connect())[0])
    server.close()
    async with asyncio.timeout(10):
        while await is_closed((await server.connect())[0], 0.1):
            pass  # until the server has noticed
    assert await server.ask(b"/healthz") == 200


async def test_request_that_does_not_arrive_makes_room(clients):
    server = clients("bodies")
    head = b"POST /predict?slow HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf"
    slow = [(await server.connect(head))[0] for _ in range(3)]
    assert [await status(reader) for reader in slow] == [200] * 3  # it answers before the end
    assert await server.ask(b"/predict") == 200
    assert await is_closed(slow[0])


async def test_only_reading_is_a_health_check(clients):
    server = clients("posts")
    for _ in range(3):
        await server.begin(b"/healthz?slow")
    reader, _ = await server.connect(b"POST /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert await status(reader) == 503


@pytest.mark.parametrize("sent", [b"GET / HT", b"\r\n", b"G"])
async def test_header_that_does_not_end_has_a_time_out(clients, sent):
    server = clients("short header")
    reader, writer = await server.connect()

    async def dribble():
        while True:
            writer.write(sent[:1] if sent == b"\r\n" else b"x")
            await asyncio.sleep(0.02)

    writer.write(sent)
    task = asyncio.create_task(dribble())
    assert await is_closed(reader, 5)
    task.cancel()


async def test_second_header_has_a_time_out_too(clients):
    server = clients("short header")
    reader, _ = await server.connect(REQUEST % b"/predict" + b"GET /pre")
    assert await status(reader) == 200
    assert await is_closed(reader, 5)


async def test_connection_without_a_request_has_a_time_out(clients):
    server = clients("short idle")
    assert await is_closed((await server.connect())[0], 5)
    reader, _ = await server.connect(REQUEST % b"/predict")
    assert await status(reader) == 200
    assert await is_closed(reader, 5)


async def test_long_header_is_refused(clients):
    server = clients("ordinary")
    reader, writer = await server.connect(b"GET / HTTP/1.1\r\n")
    with contextlib.suppress(ConnectionError):
        for number in range(17):
            writer.write(b"X-%d: %s\r\n" % (number, b"x" * 4000))
            await asyncio.sleep(0)
            await writer.drain()
    assert await status(reader) == 400


async def test_client_that_does_not_read_its_answer_is_closed(clients):
    server = clients("short idle")
    _, writer = await server.connect(REQUEST % b"/large", limit=1)
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b"\r\n")
                await writer.drain()
                await asyncio.sleep(0.05)


def test_limit_of_open_files_is_raised_and_bounds_connections(runtime):
    code = (
        "import resource as r; from serving.connections import fit_open_files as fit;"
        "r.setrlimit(r.RLIMIT_NOFILE, (100, 500)); print(fit(50), fit(1000));"
        "print(r.getrlimit(r.RLIMIT_NOFILE))"
    )
    assert run(runtime, "-c", code) == "50 340\n(500, 500)\n"
