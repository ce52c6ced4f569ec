"""Run commands, the model environment's Python, and the service as real processes."""

import contextlib
import json
import os
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import uv

from tasks.core.tls import ssl_context
from tests.fork_server import ForkedProcess

ROOT = Path(__file__).parents[3]
HERE = Path(__file__).parent
START_SECONDS = 60
Process = subprocess.Popen[bytes] | ForkedProcess
NAMES = ("wine", "labels", "array", "diabetes", "mixed", "text", "moody")


def run(*argv: str | Path, given: str = "", **environment: str) -> str:
    """Run a command to its end; its output is in the error if it fails.

    Args:
        given: Its standard input.
    """
    done = subprocess.run(
        [str(word) for word in argv],
        cwd=ROOT,
        env={**clean_environment(), **environment},
        input=given,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{argv}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def ask_models(runtime: Path, questions: list[Any]) -> list[Any]:
    """Have saved models answer questions, all in one process: see `answer_rows.py`."""
    answers = run(
        runtime, HERE / "answer_rows.py", given=json.dumps(questions), PYTHONPATH=str(ROOT)
    )
    return list(json.loads(answers))


def clean_environment() -> dict[str, str]:
    """The environment without what belongs to the Python that runs the tests."""
    # Servers are started many times: without compiled modules each start takes twice as long.
    dropped = {"VIRTUAL_ENV", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE"}
    return {
        name: value
        for name, value in os.environ.items()
        if name not in dropped and not name.startswith("SLIPWAY_")
    }


def model_python(*argv: str | Path) -> str:
    """Run the model environment's Python."""
    return run(
        uv.find_uv_bin(), "run", "--quiet", "--project", "model", "--frozen", "python", *argv,
        MLEM_NO_ANALYTICS="1", ITERATIVE_DO_NOT_TRACK="1",
    )  # fmt: skip


class Server:
    """A running service."""

    def __init__(self, process: Process, port: int, output: Path) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"
        self.port = port
        self._output = output

    @property
    def log(self) -> str:
        return self._output.read_text()

    def wait_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        with httpx.Client(verify=ssl_context()) as client:
            while time.monotonic() < deadline:
                assert self.process.poll() is None, self.log
                with contextlib.suppress(httpx.TransportError):
                    if client.get(f"{self.url}/readyz").status_code == 200:
                        return
                time.sleep(0.05)
        raise AssertionError(f"not ready after {START_SECONDS} s\n{self.log}")

    def post(self, path: str, body: Any, **options: Any) -> httpx.Response:
        return httpx.post(
            f"{self.url}{path}", json=body, timeout=30, verify=ssl_context(), **options
        )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
