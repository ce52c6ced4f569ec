"""Real bundles, a real runtime environment and real servers, made once a test session."""

import contextlib
import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uv
from filelock import FileLock

from tests.code.serving.running import (
    ROOT,
    Server,
    clean_environment,
    free_port,
    run,
)


@pytest.fixture(scope="session")
def runtime(shared: Path, bundles: Path) -> Path:
    """The Python of an environment as a deployer makes it: locked serving and the model's pins."""
    folder = shared / "runtime"
    python = folder / "bin" / "python"
    with FileLock(shared / "runtime.lock"):
        if not (folder / "complete").exists():
            tool = uv.find_uv_bin()
            run(
                tool, "sync", "--quiet", "--project", "serving", "--frozen", "--compile-bytecode",
                UV_PROJECT_ENVIRONMENT=str(folder),
            )  # fmt: skip
            packages = json.loads((bundles / "wine" / "wine.runtime.json").read_text())["packages"]
            pins = [f"{name}=={version}" for name, version in packages.items()]
            run(tool, "pip", "install", "--quiet", "--python", python, *pins)
            (folder / "complete").touch()
    return python


Start = Callable[..., "contextlib.AbstractContextManager[Server]"]


@pytest.fixture(scope="session")
def start(runtime: Path, tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Starts a service in a real process: `with start(folder, MAX_ROWS="10") as server`."""

    @contextlib.contextmanager
    def starter(
        folder: Path, *arguments: str, ready: bool = True, **limits: str
    ) -> Iterator[Server]:
        port = free_port()
        output = tmp_path_factory.mktemp("server") / "log"
        settings = {f"SLIPWAY_SERVING_{name}": value for name, value in limits.items()}
        with output.open("wb") as file:
            process = subprocess.Popen(
                [str(runtime), "-W", "error", "-m", "serving",
                 "--bundle", str(folder), "--port", str(port), *arguments],
                cwd=ROOT, env={**clean_environment(), **settings}, stdout=file, stderr=file,
            )  # fmt: skip
        server = Server(process, port, output)
        try:
            if ready:
                server.wait_ready()
            yield server
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    return starter


@pytest.fixture(scope="session")
def served(start: Start, bundles: Path) -> Iterator[Callable[[str], Server]]:
    """Gives the one running service of a bundle: `served("wine")`."""
    with contextlib.ExitStack() as stack:
        running: dict[str, Server] = {}

        def get(name: str) -> Server:
            if name not in running:
                running[name] = stack.enter_context(start(bundles / name))
            return running[name]

        yield get


@pytest.fixture
def golden(bundles: Path) -> Callable[[str], dict[str, Any]]:
    """The golden predictions of a bundle."""

    def read(name: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((bundles / name / f"{name}.golden.json").read_text())
        return content

    return read
