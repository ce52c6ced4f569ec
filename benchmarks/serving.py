"""How much faster the service is than MLEM's own server: ratios, same model, one run.

Run by the orchestrator's Python from the root of the checkout: `python -m benchmarks.serving`.
Passes of the two servers alternate, so that a busy machine slows both; the median counts.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import uv

from tasks.core.free_port import find_free_port
from tasks.core.settings import CHECKOUT

CLIENTS = (1, 8, 32)
# Trains and saves the models, those of the tests, with the real MLEM.
MAKE_BUNDLES = CHECKOUT / "tests" / "code" / "serving" / "make_bundles.py"
QUIET_MLEM = {"MLEM_NO_ANALYTICS": "1", "ITERATIVE_DO_NOT_TRACK": "1"}
MLEM_SERVER = ("fastapi==0.125.0", "starlette==0.50.0", "uvicorn", "pydantic<2")


def main() -> None:
    """Build two environments and a model, measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2, help="of each pass")
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--models", nargs="*", default=["labels", "wine", "diabetes"])
    given = parser.parse_args()
    print(f"{'model':8} {'clients':>7} {'requests/s':>17} {'ratio':>6} {'p50 ms':>15} {'ratio':>6}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        bundles, python = make_bundles(folder)
        for name in given.models:
            bundle = bundles / name
            body = read_body(bundle)
            with ours(python, bundle) as mine, mlems(bundle / name) as other:
                for clients in CLIENTS:
                    line = compare((mine, other), clients, body, given.seconds, given.passes)
                    print(f"{name:8} {clients:7} {line}", flush=True)


def compare(ports: tuple[int, int], clients: int, body: bytes, seconds: float, passes: int) -> str:
    """Measure two servers in turn.

    Args:
        ports: of ours and of the other.
        clients: at once.
        body: of each request.
        seconds: of each pass.
        passes: of each server.

    Returns:
        The columns of the table: both rates, their ratio, both medians, their ratio.
    """
    results: list[list[tuple[float, float]]] = [[], []]
    for _ in range(passes):
        for port, measured in zip(ports, results, strict=True):
            measured.append(asyncio.run(load(port, clients, body, seconds)))
    (rate, p50), (other_rate, other_p50) = (
        [statistics.median(column) for column in zip(*measured, strict=True)]
        for measured in results
    )
    return (
        f"{rate:8.0f} {other_rate:8.0f} {rate / other_rate:5.1f}x "
        f"{p50:7.2f} {other_p50:7.2f} {other_p50 / p50:5.1f}x"
    )


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
    request = (
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body)
    ) + body
    latencies: list[float] = []
    end = time.perf_counter() + seconds

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (start := time.perf_counter()) < end:
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            if not head.startswith(b"http/1.1 200"):
                raise RuntimeError(head.decode())
            length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            latencies.append(time.perf_counter() - start)
        writer.close()

    start = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())
    return len(latencies) / (time.perf_counter() - start), 1000 * statistics.median(latencies)


def make_bundles(folder: Path) -> tuple[Path, Path]:
    """Train and save the models; return the folder of their bundles, and a Python that serves."""
    bundles = folder / "bundles"
    run(
        uv.find_uv_bin(), "run", "--quiet", "--project", "model", "--frozen",
        "python", MAKE_BUNDLES, bundles, **QUIET_MLEM,
    )  # fmt: skip
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
        UV_PROJECT_ENVIRONMENT=str(home),
    )  # fmt: skip
    packages = json.loads(metadata.read_text())["packages"]
    python = home / "bin" / "python"
    pins = [f"{name}=={version}" for name, version in packages.items()]
    run(uv.find_uv_bin(), "pip", "install", "--quiet", "--python", python, *pins)
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


def clean_environment() -> dict[str, str]:
    """Return the environment without what belongs to the Python that runs the benchmark."""
    # Without compiled modules a server takes twice as long to start.
    dropped = {"VIRTUAL_ENV", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE"}
    return {
        name: value
        for name, value in os.environ.items()
        if name not in dropped and not name.startswith("SLIPWAY_")
    }


@contextlib.contextmanager
def ours(python: Path, bundle: Path) -> Iterator[int]:
    """Run this project's service; gives its port."""
    port = find_free_port()
    argv = [str(python), "-m", "serving", "--bundle", str(bundle), "--port", str(port)]
    with running(argv, f"http://127.0.0.1:{port}/readyz"):
        yield port


@contextlib.contextmanager
def mlems(model: Path) -> Iterator[int]:
    """Run MLEM's own server in the model environment; gives its port."""
    port = find_free_port()
    argv = [uv.find_uv_bin(), "run", "--quiet", "--project", "model", "--frozen"]
    argv += [word for pin in MLEM_SERVER for word in ("--with", pin)]
    argv += ["mlem", "serve", "fastapi", "-m", str(model), "--host", "127.0.0.1"]
    with running([*argv, "--port", str(port)], f"http://127.0.0.1:{port}/interface.json"):
        yield port


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
        **QUIET_MLEM,
        "MLEM_ADDITIONAL_EXTENSIONS": extensions,
        **variables,
    }
    process = subprocess.Popen(
        argv, cwd=CHECKOUT, env=environment, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(url).status_code == 200:
                    break
            if process.poll() is not None:
                raise RuntimeError(f"stopped: {' '.join(argv)}")
            time.sleep(0.1)
        yield process.pid
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


if __name__ == "__main__":
    main()
