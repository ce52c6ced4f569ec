"""The bridge to MLflow on a real MLflow server: `python -m benchmarks.mlflow_bridge`.

Installs MLflow of the locked version into an environment of its own (620 MB), starts its server
with an empty SQLite database, logs models and versions as flows do, and reads all of it back. It
prints what the server has, the CPU seconds of each step, and fails if anything is missing.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import uv

from tasks.core.free_port import find_free_port
from tasks.core.settings import CHECKOUT
from tasks.reports.mlflow_bridge import DEFAULTS, Record, connect, write_run, write_version

_START_SECONDS = 180.0
_PARAMETERS = {
    "name": "wine",
    "data": {"schema": {"Body Mass (g) [é]": {"type": "number"}}},
    "train": {"params": {"C": 1.0}, "grid": {f"value_{number}": [number] for number in range(150)}},
}


def main() -> None:
    """Log, read back, and print."""
    with tempfile.TemporaryDirectory() as folder, _server(Path(folder)) as uri:
        start = time.process_time()
        client = connect(uri)
        _print("import", start)
        record = Record(
            "wine", "a" * 40, "b" * 32, _PARAMETERS, {"f1_macro": 0.97, "recall at 5 %": 0.5},
            {"model-card.md": "# wine", "reports/metrics.json": "{}"},
        )  # fmt: skip
        start = time.process_time()
        run = write_run(client, record)
        _print("a run", start)
        assert write_run(client, record) == run, "logged twice"
        start = time.process_time()
        for version, environment in (("v0.0.1", "local"), ("v0.0.1", "prod"), ("v0.0.2", "local")):
            write_version(client, record, version, environment)
        _print("three versions", start)

        shown = client.get_run(run)
        assert shown.info.status == "FINISHED"
        assert len(shown.data.params) == 153
        assert shown.data.params["data.schema.Body Mass _g_ _é_.type"] == "number"
        assert shown.data.metrics == {"f1_macro": 0.97, "recall at 5 _": 0.5}
        assert shown.data.tags["slipway.commit"] == record.commit
        files = [file.path for file in client.list_artifacts(run)]
        assert files == ["model-card.md", "reports"]
        for environment, version in (("local", "v0.0.2"), ("prod", "v0.0.1")):
            registered = client.get_model_version_by_alias("wine", environment)
            assert (registered.tags["slipway.version"], registered.run_id) == (version, run)
            print(f"models:/wine@{environment} is {version}, run {registered.run_id}")


@contextmanager
def _server(folder: Path) -> Iterator[str]:
    """Start a server, whose packages this process can import afterwards; yield its address."""
    lock = tomllib.loads((CHECKOUT / "uv.lock").read_text())["package"]
    version = next(package["version"] for package in lock if package["name"] == "mlflow-skinny")
    environment, tool = folder / "environment", uv.find_uv_bin()
    python = environment / "bin" / "python"
    subprocess.run([tool, "venv", "--quiet", "--python", sys.executable, environment], check=True)
    subprocess.run(
        [tool, "pip", "install", "--quiet", "--python", python, f"mlflow=={version}"], check=True
    )
    sys.path.append(str(next((environment / "lib").glob("python3*/site-packages"))))
    uri = f"http://127.0.0.1:{(port := find_free_port())}"
    server = subprocess.Popen(
        [
            environment / "bin" / "mlflow", "server", "--host=127.0.0.1", f"--port={port}",
            "--workers=1", f"--backend-store-uri=sqlite:///{folder}/mlflow.db",
            f"--artifacts-destination={folder}/artifacts",
        ],
        env=os.environ | DEFAULTS, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not _is_healthy(uri):
            assert time.monotonic() < deadline, "the MLflow server does not answer"
            time.sleep(0.5)
        yield uri
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def _is_healthy(uri: str) -> bool:
    try:
        return httpx.get(f"{uri}/health").status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def _print(step: str, start: float) -> None:
    print(f"{step}: {time.process_time() - start:.2f} CPU s")


if __name__ == "__main__":
    main()
