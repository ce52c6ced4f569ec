"""Model servers to measure: models, environments, processes, and a client that asks them."""

import asyncio
import contextlib
import json
import statistics
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import uv

from benchmarks.meter import add_up
from tasks.core.free_port import find_free_port
from tasks.core.settings import CHECKOUT
from tasks.core.tls import ssl_context
from tasks.package import server
from tests.code.serving.running import HERE, clean_environment, model_python

START_SECONDS = 120


@dataclass(frozen=True)
class ModelServer:
    """A running model server."""

    port: int
    process: int

    @property
    def url(self) -> str:
        """Return its address."""
        return f"http://127.0.0.1:{self.port}"

    def cpu_seconds(self) -> float:
        """Return the CPU time that its threads have taken so far, to the nanosecond."""
        threads = Path(f"/proc/{self.process}/task").glob("*/schedstat")
        return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


async def load(port: int, clients: int, body: bytes, seconds: float) -> tuple[float, float]:
    """Ask as fast as a number of keep-alive clients can.

    Args:
        port: on the loopback interface.
        clients: connections, each with one request at a time.
        body: of each request.
        seconds: to go on.

    Returns:
        Requests a second and the median latency in milliseconds.
    """
    request = make_request(body)
    latencies: list[float] = []
    end = time.perf_counter() + seconds

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (start := time.perf_counter()) < end:
            writer.write(request)
            await read_answer(reader)
            latencies.append(time.perf_counter() - start)
        writer.close()

    start = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())
    return len(latencies) / (time.perf_counter() - start), 1000 * statistics.median(latencies)


def make_request(body: bytes) -> bytes:
    """Make a request for predictions, as a client writes it."""
    head = (
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body)
    )
    return head + body


async def read_answer(reader: asyncio.StreamReader) -> None:
    """Read an answer to its end.

    Raises:
        RuntimeError: It is not 200.
    """
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if not head.startswith(b"http/1.1 200"):
        raise RuntimeError(head.decode())
    length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
    await reader.readexactly(length)


def make_bundles(folder: Path) -> tuple[Path, Path]:
    """Train and save the tests' models; return the folder of bundles, and a Python that serves."""
    bundles = folder / "bundles"
    model_python(HERE / "make_bundles.py", bundles)
    return bundles, runtime(folder, bundles / "wine" / "wine.runtime.json")


def read_body(bundle: Path) -> bytes:
    """Return a request for one row, the first golden one of a model."""
    golden = json.loads((bundle / f"{bundle.name}.golden.json").read_text())
    return json.dumps({"data": {"values": golden["inputs"][:1]}}).encode()


def runtime(folder: Path, metadata: Path) -> Path:
    """Make the runtime environment of a model; returns its Python."""
    home = folder / "runtime"
    run(
        uv.find_uv_bin(), "sync", "--quiet", "--project", "serving", "--frozen",
        "--compile-bytecode", UV_PROJECT_ENVIRONMENT=str(home),
    )  # fmt: skip
    packages = json.loads(metadata.read_text())["packages"]
    python = home / "bin" / "python"
    pins = [f"{name}=={version}" for name, version in packages.items()]
    # Compiled now: the first server that compiled them itself would keep 17 MB and be slower.
    compiled = ("--quiet", "--compile-bytecode")
    run(uv.find_uv_bin(), "pip", "install", *compiled, "--python", python, *pins)
    return python


def run(*argv: str | Path, **variables: str) -> str:
    """Run a command to its end; return its output, which is in the error if it fails."""
    done = subprocess.run(
        [str(word) for word in argv],
        cwd=CHECKOUT,
        env={**clean_environment(), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{argv}\n{done.stdout}")
    return done.stdout


@contextlib.contextmanager
def serve(python: Path, bundle: Path, **variables: str) -> Iterator[ModelServer]:
    """Run a model server until the end of the block."""
    port = find_free_port()
    argv = server.serve(python, bundle, port)
    with running(argv, f"http://127.0.0.1:{port}/readyz", **variables) as process:
        yield ModelServer(port, process)


@contextlib.contextmanager
def running(argv: list[str], url: str, **variables: str) -> Iterator[int]:
    """Run a server until it answers, and stop it with all its children afterwards.

    Args:
        argv: its command.
        url: answers 200 once it is ready.
        variables: of its environment.

    Yields:
        The id of its process.
    """
    extensions = ",".join(f"mlem.contrib.{name}" for name in ("numpy", "pandas", "sklearn"))
    environment = {
        **clean_environment(),
        "MLEM_NO_ANALYTICS": "1",
        "ITERATIVE_DO_NOT_TRACK": "1",
        "MLEM_ADDITIONAL_EXTENSIONS": extensions,
        **variables,
    }
    process = subprocess.Popen(
        argv, cwd=CHECKOUT, env=environment, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _wait_until_ready(process, url)
        yield process.pid
    finally:
        for member in list_tree(process.pid):  # some servers start workers in groups of their own
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    with httpx.Client(verify=ssl_context()) as client:
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):
                if client.get(url).status_code == 200:
                    return
            if process.poll() is not None:
                raise RuntimeError(f"stopped: {process.args!r}")
            time.sleep(0.02)
    raise RuntimeError(f"not ready after {START_SECONDS} s: {process.args!r}")


def list_tree(process: int) -> list[psutil.Process]:
    """List a process and its descendants."""
    try:
        root = psutil.Process(process)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def read_cpu_seconds(process: int) -> float:
    """Return the CPU time that a process and its descendants have taken so far."""
    seconds = 0.0
    for member in list_tree(process):
        with contextlib.suppress(psutil.Error):
            seconds += add_up(member.cpu_times())
    return seconds


def read_memory(process: int) -> float:
    """Return the proportional set size (PSS) of a process and its descendants, in MB."""
    used = 0.0
    for member in list_tree(process):
        with contextlib.suppress(psutil.Error):
            used += member.memory_full_info().pss
    return used / 1e6
