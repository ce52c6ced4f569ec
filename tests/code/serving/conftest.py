"""Real bundles, a real runtime environment and real servers, made once a test session."""

import contextlib
import json
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import uv
from filelock import FileLock

from tests.code.serving.running import (
    ROOT,
    Process,
    Server,
    clean_environment,
    free_port,
    run,
)
from tests.fork_server import ForkServer

# What the server and the models of `make_bundles.py` import.
_MODULES = (
    "serving.app", "pandas", "sklearn.calibration", "sklearn.compose", "sklearn.impute",
    "sklearn.linear_model", "sklearn.pipeline", "sklearn.preprocessing", "sklearn.svm",
)  # fmt: skip
_SERVE = """
import os, runpy, sys
log = os.open(sys.argv.pop(1), os.O_WRONLY | os.O_APPEND)
os.dup2(log, 1)
os.dup2(log, 2)
runpy.run_module("serving", run_name="__main__", alter_sys=True)
"""


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
def forks(runtime: Path) -> Iterator[ForkServer]:
    """A process of the runtime environment that has imported what servers import."""
    # As the server sets it before it imports NumPy, which would start threads otherwise.
    one_thread = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}
    forks = ForkServer(_MODULES, clean_environment() | one_thread, [str(runtime), "-W", "error"])
    yield forks
    forks.close()


@pytest.fixture(scope="session")
def start(runtime: Path, forks: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Starts a service: `with start(folder, MAX_ROWS="10") as server`.

    In a forked process, which saves the imports; in one as deployers start it if `is_new`.
    """

    @contextlib.contextmanager
    def starter(
        folder: Path,
        *arguments: str,
        ready: bool = True,
        is_new: bool = False,
        variables: Mapping[str, str] | None = None,
        **limits: str,
    ) -> Iterator[Server]:
        port = free_port()
        output = tmp_path_factory.mktemp("server") / "log"
        output.touch()
        settings = {f"SLIPWAY_SERVING_{name}": value for name, value in limits.items()}
        environment = {**clean_environment(), **settings, **(variables or {})}
        argv = ["--bundle", str(folder), "--port", str(port), *arguments]
        if is_new:
            with output.open("wb") as file:
                command = [str(runtime), "-W", "error", "-m", "serving", *argv]
                process: Process = subprocess.Popen(
                    command, cwd=ROOT, env=environment, stdout=file, stderr=file
                )
        else:
            process = forks.start(_SERVE, [str(output), *argv], environment)
        server = Server(process, port, output)
        try:
            if ready:
                server.wait_ready()
            yield server
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout:
                process.stdout.close()

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
