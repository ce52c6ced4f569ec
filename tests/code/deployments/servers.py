"""A Prefect server with a password, and this repository as somebody else has checked it out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx

from deployments.catalogue import block_variables
from deployments.catalogue.block_variables import ObjectStorage
from deployments.diagnosis.finding import Finding
from deployments.fork import LIBRARIES
from deployments.local import ports, postgres
from deployments.local.credentials import S3Identity
from deployments.local.ports import HOST
from tasks.core.settings import CHECKOUT
from tests.fork_server import ForkServer
from tests.template import ENVIRONMENTS

STORAGE = ObjectStorage(
    "a-bucket",
    S3Identity("writer", "secret-of-the-writer"),
    S3Identity("reader", "secret-of-the-reader"),
    "http://127.0.0.1:9",
)
PASSWORD = "admin:not-for-everybody"
_DATABASE_PASSWORD = "password-of-the-database"


class PrefectServer:
    """A server of its own, which asks for a password: nothing of the local stack is there."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._ports = ports.choose({"prefect": [], postgres.PORT: []}, keep={}, companions={})
        self.port = self._ports["prefect"]
        self.url = f"http://{HOST}:{self.port}/api"
        user, _, password = PASSWORD.partition(":")
        self.http = httpx.Client(
            base_url=self.url, auth=(user, password), trust_env=False, timeout=30
        )
        # Of packages alone: what is of the repository, each clone has in its own version.
        self.forks = ForkServer(
            [*LIBRARIES, "prefect.cli", "typer.rich_utils"], clean_environment() | self.variables()
        )

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.forks.close()
        self.http.close()

    def start(self) -> None:
        log = self.home / "server.log"
        environment = {
            **clean_environment(),
            "PREFECT_HOME": str(self.home / "server"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_MEMOIZE_BLOCK_AUTO_REGISTRATION": "false",
            "PREFECT_SERVER_API_AUTH_STRING": PASSWORD,
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": postgres.connection_url(
                self._ports, _DATABASE_PASSWORD
            ),
        }
        self._database = self._start_database(environment)
        command = [sys.executable, "-m", "deployments.local.prefect_server", "--host", HOST]
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [*command, "--port", str(self.port)], cwd=CHECKOUT, env=environment,
                stdout=output, stderr=output,
            )  # fmt: skip
        deadline = time.monotonic() + 120
        while not self._answers():
            assert self._process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._database.send_signal(signal.SIGINT)
        self._database.wait()
        postgres.remove_copy(self.home / "postgres")

    def _start_database(self, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        program = postgres.program(
            CHECKOUT, self.home / "postgres", self._ports, _DATABASE_PASSWORD
        )
        with (self.home / "postgres.log").open("ab") as output:
            return subprocess.Popen(
                program.argv, cwd=program.directory, env={**environment, **program.environment},
                stdout=output, stderr=output,
            )  # fmt: skip

    def variables(self) -> dict[str, str]:
        """Return the variables of a shell that uses this server."""
        return {
            "PREFECT_API_URL": self.url,
            "PREFECT_API_AUTH_STRING": PASSWORD,
            "PREFECT_HOME": str(self.home / "client"),
            "DO_NOT_TRACK": "1",
        }

    def clear(self) -> None:
        """Delete what tests have made, so that the server is as if it had just been started."""
        for kind in ("deployments", "flows", "work_pools", "automations", "block_documents",
                     "variables"):  # fmt: skip
            for row in self.rows(kind):
                key = row["name" if kind == "work_pools" else "id"]
                self.http.delete(f"/{kind}/{key}").raise_for_status()

    def rows(self, kind: str) -> list[dict[str, Any]]:
        """Return everything of a kind, but blocks of Prefect's own."""
        answer = self.http.post(f"/{kind}/filter", json={"limit": 200}).raise_for_status().json()
        return [row for row in answer if not row.get("is_protected")]

    # Work pools and deployments of flows that do not exist.

    def post(self, path: str, body: dict[str, Any]) -> Any:
        return self.http.post(path, json=body).raise_for_status().json()

    def set_state(self, run_id: str, kind: str, name: str, message: str = "") -> None:
        state = {"type": kind, "name": name, "message": message}
        self.post(f"/flow_runs/{run_id}/set_state", {"state": state, "force": True})

    def declare_staffed_and_deserted(self) -> None:
        """Declare two environments, of which one has a worker."""
        self.deployment("staffed", "with-a-worker")
        self.worker("with-a-worker")
        self.deployment("deserted", "without-a-worker")

    def deployment(self, environment: str, pool: str) -> None:
        """Declare `deploy/<environment>`, whose runs wait in a work pool of its own."""
        flow = self.post("/flows/", {"name": "deploy"})["id"]
        self.post("/work_pools/", {"name": pool, "type": "process"})
        parameters = {"type": "object", "properties": {"ref": {"type": "string"}}}
        body = {
            "name": environment, "flow_id": flow, "work_pool_name": pool,
            "entrypoint": "flows/deploy.py:deploy", "parameter_openapi_schema": parameters,
        }  # fmt: skip
        self.post("/deployments/", body)

    def worker(self, pool: str) -> None:
        """Let the server hear of a worker, which then never asks for work."""
        answer = self.http.post(
            f"/work_pools/{pool}/workers/heartbeat",
            json={"name": "idle", "heartbeat_interval_seconds": 600},
        )
        answer.raise_for_status()

    def runs(self) -> int:
        return len(self.post("/flow_runs/filter", {}))

    def _answers(self) -> bool:
        try:
            return self.http.get("/health").is_success
        except httpx.HTTPError:
            return False


@contextmanager
def in_shell_of(url: str, password: str | None = None) -> Iterator[None]:
    """Prefect in this process uses a server until the end of the block."""
    from prefect.events.worker import EventsWorker
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: password}):
        yield
        EventsWorker.drain_all()  # while the server is there


async def listed(findings: AsyncIterator[Finding]) -> dict[str, Finding]:
    """Findings by what was looked at."""
    return {finding.thing: finding async for finding in findings}


def clean_environment() -> dict[str, str]:
    """This process's environment without what it says of servers and buckets."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PREFECT_", "SLIPWAY_", "AWS_"))
    }


# Of what it is started in, Prefect remembers what these variables say.
_REMEMBERED = "PREFECT_"
_RUN = """
import os, runpy, sys
sys.path.insert(0, os.getcwd())
os.dup2(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT), 2)
del sys.argv[:2]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


@dataclass(frozen=True)
class Repository:
    """A clone from which a server is set up; without a model environment.

    Args:
        folder: Where it is.
        variables: Those of its shell.
        forks: Forks programs in its shell, so that Prefect is imported once.
    """

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)
    forks: ForkServer | None = None

    def start(self, *arguments: str, **variables: str | None) -> subprocess.Popen[str]:
        """Start a Python module of it; a variable that is None is not set."""
        return subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=self.folder,
            env=self._environment(variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **variables: str | None) -> subprocess.CompletedProcess[str]:
        """Run a Python module of it to its end."""
        if self.forks and not any(name.startswith(_REMEMBERED) for name in variables):
            return self._fork(self.forks, arguments, variables)
        process = self.start(*arguments, **variables)
        out, err = process.communicate()
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def apply(self, *options: str, **variables: str | None) -> subprocess.CompletedProcess[str]:
        """Apply it."""
        return self.run("deployments.cli", "apply", *options, **variables)

    def _environment(self, variables: Mapping[str, str | None]) -> dict[str, str]:
        environment = {**clean_environment(), **self.variables, **variables}
        return {name: value for name, value in environment.items() if value is not None}

    def _fork(
        self, forks: ForkServer, arguments: Sequence[str], variables: Mapping[str, str | None]
    ) -> subprocess.CompletedProcess[str]:
        with tempfile.NamedTemporaryFile("r") as errors:
            process = forks.start(
                _RUN, [errors.name, *arguments], self._environment(variables), self.folder
            )
            with process.stdout as output:
                out = output.read()
            return subprocess.CompletedProcess(arguments, process.wait(), out, errors.read())

    def commit(self, message: str) -> str:
        """Commit everything; return the commit."""
        git = ["git", "-c", "user.name=Test", "-c", "user.email=test@localhost"]
        subprocess.run([*git, "add", "--all"], cwd=self.folder, check=True)
        subprocess.run(
            [*git, "commit", "--quiet", "--no-gpg-sign", "--no-verify", "-m", message],
            cwd=self.folder, check=True,
        )  # fmt: skip
        return self.head()

    def head(self) -> str:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=self.folder,
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()


# The checkout itself, with the environments of the tests.
CHECKED_OUT = Repository(CHECKOUT, {"SLIPWAY_ENVIRONMENTS_FOLDER": str(ENVIRONMENTS)})


def clone(source: Path, folder: Path, server: PrefectServer) -> Repository:
    """Clone the repository for use with a server."""
    subprocess.run(["git", "clone", "--quiet", str(source), str(folder)], check=True)
    variables = {
        **server.variables(),
        **STORAGE.to_environment(),
        "SLIPWAY_CHECKOUT": str(folder),
        "SLIPWAY_GIT_TOKEN": "secret-git-token",
        block_variables.NOTIFY_VARIABLE: "http://127.0.0.1:9/secret-path",
    }
    return Repository(folder, variables, server.forks)
