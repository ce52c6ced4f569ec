"""A lab for the flows: the real stack, commits made to order on its origin, runs to be killed."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import psutil
import yaml

from deployments.local.signing import key_file
from deployments.local.stack import Stack
from deployments.prefect_api.client import PrefectAPI
from deployments.prefect_api.models import FlowRun
from deployments.sign import sign_checkout
from tasks.core.settings import CHECKOUT
from tasks.core.tls import ssl_context
from tasks.package.package import make_body
from tasks.package.statement import read_private_key
from tasks.sandbox.bubblewrap import find_bubblewrap
from tests.fork_server import ForkedProcess, ForkServer
from tests.stack_access import prefect_http, wait_for_end

_RUNNER = """
import asyncio, importlib, json, sys
name, parameters = sys.argv[1], json.loads(sys.argv[2])
flow = getattr(importlib.import_module(f"flows.{name}"), name)

async def run():
    state = await flow(**parameters, return_state=True)
    data = None if state.is_failed() or state.is_crashed() else await state.aresult()
    error = await state.aresult(raise_on_failure=False)
    print("OUTCOME " + json.dumps({
        "state": state.name, "message": state.message, "data": data,
        "error": type(error).__name__ if isinstance(error, BaseException) else None,
    }))

asyncio.run(run())
"""
_BLOCK = """
import json, sys
from tasks.bucket.stores.s3.blocks import AwsClientParameters, S3Bucket
name, changes = sys.argv[1], json.loads(sys.argv[2])
if url := changes.pop("endpoint_url", None):
    changes["aws_client_parameters"] = AwsClientParameters(endpoint_url=url)
bucket = S3Bucket.load("slipway-read-write", _sync=True)
old = bucket.credentials
fields = {key: getattr(old, key) for key in type(old).model_fields}
bucket.credentials = type(old)(**{**fields, **changes})
bucket.save(name, overwrite=True)
"""
SECONDS = 150.0
_FLOWS = [f"flows.{path.stem}" for path in sorted((CHECKOUT / "flows").glob("[!_]*.py"))]
# Variables that are read when a module is imported: a run with others needs a new process.
_READ_AT_IMPORT = frozenset({"SLIPWAY_RETRIES", "SLIPWAY_BACKOFF_SECONDS", "SLIPWAY_STORE"})


@dataclass(frozen=True)
class Outcome:
    """The end of a flow run: state, result or exception, and log."""

    state: str
    message: str
    data: Any
    error: str | None
    log: str


class FlowProcess:
    """A flow run in a process of its own."""

    def __init__(self, process: subprocess.Popen[str] | ForkedProcess) -> None:
        self.process = process
        self._lines: list[str] = []
        self._is_over = False
        self._more = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        with self.process.stdout as pipe:
            for line in pipe:
                with self._more:
                    self._lines.append(line)
                    self._more.notify_all()
        with self._more:
            self._is_over = True
            self._more.notify_all()

    @property
    def log(self) -> str:
        return "".join(self._lines)

    def wait_for(self, words: str) -> None:
        """Wait until the log has these words."""
        with self._more:
            came = self._more.wait_for(lambda: self._is_over or self._has(words), SECONDS)
            assert came, f"never said {words!r}:\n{self.log}"
            assert self._has(words), f"ended before {words!r}:\n{self.log}"

    def _has(self, words: str) -> bool:
        return any(words in line for line in self._lines)

    def wait_for_children(self, words: str) -> list[psutil.Process]:
        """Wait until a child has these words in its command line; return all such children."""
        deadline = time.monotonic() + SECONDS
        while not (result := self._children(words)):
            assert self.process.poll() is None, f"ended before it started {words!r}:\n{self.log}"
            assert time.monotonic() < deadline, f"never started {words!r}:\n{self.log}"
            time.sleep(0.05)
        return result

    def _children(self, words: str) -> list[psutil.Process]:
        results = []
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):  # it has just ended
                if words in " ".join(child.cmdline()):
                    results.append(child)
        return results

    def cancel(self) -> None:
        """Ask the run to end, as Prefect does with one that is cancelled, and wait for its end."""
        # Prefect's handler raises wherever the signal finds the run. Between two callbacks of the
        # event loop that would be lost: so not right after a line that the run has just logged.
        time.sleep(0.5)
        self.process.terminate()
        self.process.wait(20)

    def kill(self, *, alone: bool = False) -> None:
        """Kill the run so that nothing cleans up; with `alone`, its children go on."""
        for child in [] if alone else psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        self.process.kill()
        self.process.wait()
        self._reader.join()

    def outcome(self) -> Outcome:
        self.process.wait(SECONDS)
        self._reader.join()
        lines = [line for line in self._lines if line.startswith("OUTCOME ")]
        assert lines, self.log
        return Outcome(**json.loads(lines[-1].removeprefix("OUTCOME ")), log=self.log)


class Traffic:
    """Clients that send one request after another to the live model on keep-alive connections.

    Args:
        url: Where it is.
        row: The row of each request.
        clients: Number of clients.
        pause: Seconds between an answer and the next request.
    """

    def __init__(self, url: str, row: Any, clients: int = 3, pause: float = 0.1) -> None:
        self._url, self._row, self._pause = url, row, pause
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]
        self.answered = 0
        self.failures: list[str] = []

    def _ask(self) -> None:
        # Not HTTPX: dozens of requests a second for minutes, each at a tenth of its CPU.
        parts = urlsplit(self._url)
        secure = {"context": ssl_context()} if parts.scheme == "https" else {}
        kind = HTTPSConnection if secure else HTTPConnection
        connection = kind(parts.netloc, timeout=20, **secure)
        body = json.dumps(make_body([self._row]))
        headers = {"Content-Type": "application/json"}
        with contextlib.closing(connection):
            while not self._stop.is_set():
                if connection.sock and select.select([connection.sock], [], [], 0)[0]:
                    connection.close()  # the server has closed it between two requests, as it may
                try:
                    connection.request("POST", f"{parts.path}/predict", body, headers)
                    answer = connection.getresponse()
                    content = answer.read()
                    if answer.status != 200:
                        self.failures.append(f"{answer.status} {content[:100]!r}")
                except (OSError, HTTPException) as error:
                    self.failures.append(repr(error))
                    connection.close()
                self.answered += 1
                self._stop.wait(self._pause)

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        assert self.answered, "no request was answered"


def connect_s3(stack: Stack) -> Any:
    """Return an S3 client with all rights in a stack's bucket."""
    import boto3

    identity = stack.storage.read_write
    return boto3.client(
        "s3",
        endpoint_url=stack.s3_endpoint_url,
        aws_access_key_id=identity.key_id,
        aws_secret_access_key=identity.secret,
        region_name="us-east-1",
    )


def flow_environment(stack: Stack) -> dict[str, str]:
    """Return the variables of a process that runs a flow on a stack: impatient, unlike the rest."""
    variables = {
        **os.environ,
        **stack.environment(),
        "SLIPWAY_RETRIES": "2",
        "SLIPWAY_BACKOFF_SECONDS": "0.2",
        "SLIPWAY_LOCAL_SOAK_SECONDS": "0.5",
    }
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    return variables


@contextlib.contextmanager
def flow_fork_server(stack: Stack) -> Iterator[ForkServer]:
    """Run a process that has imported Prefect and all flows, and forks one process per run."""
    forks = ForkServer([*_FLOWS, "tasks.bucket.stores.s3.blocks", "boto3"], flow_environment(stack))
    try:
        yield forks
    finally:
        forks.close()


@dataclass
class Lab:
    """The stack and its clients, for tests of flows."""

    stack: Stack
    api: PrefectAPI
    folder: Path
    forks: ForkServer

    def start(
        self, flow: str, parameters: Mapping[str, Any] | None = None, **env: str
    ) -> FlowProcess:
        """Start a flow in a process of its own."""
        arguments = [flow, json.dumps(parameters or {})]
        variables = {**flow_environment(self.stack), **env}
        if _READ_AT_IMPORT.isdisjoint(env):
            return FlowProcess(self.forks.start(_RUNNER, arguments, variables))
        return FlowProcess(
            subprocess.Popen(
                [sys.executable, "-W", "error::SyntaxWarning", "-c", _RUNNER, *arguments],
                cwd=CHECKOUT, env=variables, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )
        )  # fmt: skip

    def run_by_worker(self, deployment: str) -> FlowRun:
        """Have the worker run a deployment at main, to its end; it has to succeed."""
        run = self.api.create_run(deployment, {"ref": "main"})
        run = wait_for_end(self.api, run.id)
        lines = "\n".join(line.message for line in self.api.read_logs([run.id]))
        assert run.succeeded, f"{run.state}: {run.message}\n{lines}"
        return run

    def run(self, flow: str, parameters: Mapping[str, Any] | None = None, **env: str) -> Outcome:
        """Run a flow to its end."""
        return self.start(flow, parameters, **env).outcome()

    def block(self, name: str, **changes: str) -> None:
        """Register a copy of the read-write block that differs in its credentials."""
        self.run_code(_BLOCK, [name, json.dumps(changes)])

    def run_code(self, code: str, arguments: list[str], **env: str) -> str:
        """Run a program as flows run, in a process of its own; return its output."""
        variables = {**flow_environment(self.stack), **env}
        process = self.forks.start(code, arguments, variables)
        with process.stdout as output:
            log = output.read()
        assert process.wait(SECONDS) == 0, log
        return log

    def artifacts(self, *runs: FlowRun) -> list[dict[str, Any]]:
        """Return the artifacts of some runs and their subflow runs."""
        family = [run.id for first in runs for run in self.api.read_run_tree(first.id)]
        query = {"flow_runs": {"id": {"any_": family}}, "limit": 200}
        with prefect_http(self.stack) as http:
            return list(http.post("/artifacts/filter", json=query).raise_for_status().json())

    def commit_model(self, folder: Path, base: str, branch: str, *, signed: bool = False) -> str:
        """Commit a model that was saved in a folder, as `save` and `push` would."""
        content = (folder / "wine").read_bytes()
        names = ("wine.mlem", "wine.golden.json", "wine.runtime.json")
        files = {f"model/{name}": (folder / name).read_text() for name in names}
        contents = {"model/wine": content, **{name: t.encode() for name, t in files.items()}}
        digests = {
            name: hashlib.md5(data, usedforsecurity=False).hexdigest()
            for name, data in contents.items()
        }
        key = self.key(digests["model/wine"])
        self.s3().put_object(Bucket=self.bucket, Key=key, Body=content)

        def lock(text: str) -> str:
            locked = yaml.safe_load(text)
            for stage in locked["stages"].values():
                for entry in (*stage.get("deps", ()), *stage.get("outs", ())):
                    if digest := digests.get(entry["path"]):
                        entry.update(md5=digest, size=len(contents[entry["path"]]))
            return yaml.safe_dump(locked)

        return self.commit({"dvc.lock": lock, **files}, base, branch, signed=signed)

    def git(self, *argv: str, cwd: Path | None = None) -> str:
        """Run Git on origin, or in a clone of it."""
        result = subprocess.run(
            ["git", "-c", "user.name=Test", "-c", "user.email=test@localhost", *argv],
            cwd=cwd or self.stack.origin, capture_output=True, check=False,
            text=True, errors="replace",  # a table of the tests is not UTF-8
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        return result.stdout.strip()

    def commit(
        self,
        changes: Mapping[str, str | bytes | Callable[[str], str] | None],
        base: str,
        branch: str,
        *,
        signed: bool = False,
    ) -> str:
        """Make a commit on origin: new content by path, a function of the old, or None."""
        clone = self.folder / f"clone-{uuid4().hex[:8]}"
        self.git("clone", "--quiet", str(self.stack.origin), str(clone))
        self.git("checkout", "--quiet", "-B", branch, base, cwd=clone)
        for name, change in changes.items():
            path = clone / name
            if change is None:
                path.unlink()
            elif callable(change):
                path.write_text(change(path.read_text()))
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(change.encode() if isinstance(change, str) else change)
        self.git("add", "--all", cwd=clone)
        if signed:
            signing = sign_checkout(clone, read_private_key(key_file(self.stack.home)))
            with ThreadPoolExecutor(1) as pool:  # a browser's test has a loop in its own thread
                pool.submit(asyncio.run, signing).result()
        self.git("commit", "--quiet", "--message", f"Changes for {branch}", cwd=clone)
        self.git("push", "--quiet", "--force", "origin", branch, cwd=clone)
        return self.git("rev-parse", "HEAD", cwd=clone)

    def head(self, ref: str = "main") -> str:
        """The commit of a ref of origin."""
        return self.git("rev-parse", ref)

    def refs(self) -> dict[str, str]:
        """Every ref of origin with its commit."""
        listed = self.git("for-each-ref", "--format=%(refname) %(objectname)")
        return dict(line.split(" ") for line in listed.splitlines())

    def show(self, path: str, commit: str = "main") -> Any:
        """A JSON file of a commit."""
        return json.loads(self.git("show", f"{commit}:{path}"))

    @property
    def url(self) -> str:
        """The public URL of the live model."""
        return self.stack.model_url("local")

    def live(self) -> dict[str, Any]:
        """Return `/version` of the live model."""
        answer = httpx.get(f"{self.url}/version", timeout=10, trust_env=False, verify=ssl_context())
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def live_commit(self) -> str | None:
        """The commit of the live model, None if it does not answer."""
        try:
            return str(self.live()["commit"])
        except (AssertionError, httpx.HTTPError):
            return None

    def is_live(self, commit: str) -> bool:
        """Check that the live model answers and is this commit's."""
        return self.live_commit() == commit

    def live_tag(self) -> str:
        """The newest tag of the history of `local`."""
        return self.git(
            "for-each-ref", "--sort=-version:refname", "--count=1", "--format=%(refname)",
            "refs/tags/wine#local#*",
        )  # fmt: skip

    def row(self) -> dict[str, Any]:
        """A row that the live model can predict."""
        return dict(self.show("model/wine.golden.json", self.live_commit() or "main")["inputs"][0])

    def servers(self) -> list[str]:
        """Return the names of the model servers that supervisord runs."""
        return sorted(n for n in self.stack.supervisor.programs() if n.startswith("model-local-"))

    def traffic(self, clients: int = 3, pause: float = 0.1) -> Traffic:
        """Requests without end for the live model."""
        return Traffic(self.url, self.row(), clients, pause)

    def read_log(self, prefix: str) -> list[dict[str, Any]]:
        """Read all records below a prefix of the bucket; tests put lines there that are none."""
        s3 = self.s3()
        objects = s3.list_objects_v2(Bucket=self.bucket, Prefix=prefix).get("Contents", [])
        bodies = [s3.get_object(Bucket=self.bucket, Key=item["Key"])["Body"] for item in objects]
        lines = [line for body in bodies for line in gzip.decompress(body.read()).splitlines()]
        return [json.loads(line) for line in lines if line.startswith(b'{"specversion"')]

    def wait_for_record(self, prefix: str, identifier: str) -> None:
        """Wait until the record of a request is in the bucket; each object is read once."""
        s3, keys = self.s3(), set[str]()
        deadline = time.monotonic() + SECONDS
        while True:
            listed = s3.list_objects_v2(Bucket=self.bucket, Prefix=prefix).get("Contents", [])
            for key in sorted({item["Key"] for item in listed} - keys):
                body = s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
                if f'"id":"{identifier}"'.encode() in gzip.decompress(body):
                    return
                keys.add(key)
            assert time.monotonic() < deadline, f"the record of {identifier} is not in the bucket"
            time.sleep(0.5)

    def read_stored(self, commit: str, path: str) -> str:
        """Read an output of the pipeline at a commit, which DVC stores in the bucket."""
        lock = yaml.safe_load(self.git("show", f"{commit}:dvc.lock"))
        outs = [out for stage in lock["stages"].values() for out in stage["outs"]]
        key = self.key(next(out["md5"] for out in outs if out["path"] == path))
        return str(self.s3().get_object(Bucket=self.bucket, Key=key)["Body"].read().decode())

    def s3(self) -> Any:
        """An S3 client that may do everything in the bucket."""
        return connect_s3(self.stack)

    @property
    def bucket(self) -> str:
        """Name of the bucket."""
        return self.stack.storage.bucket

    def key(self, md5: str) -> str:
        """Key of an object of DVC's in the bucket."""
        return f"dvc/files/md5/{md5[:2]}/{md5[2:]}"

    def model_key(self, commit: str = "main") -> str:
        """Key of a commit's model in the bucket."""
        runtime = self.show("model/wine.runtime.json", commit)
        return self.key(runtime["artifacts"]["model/wine"]["md5"])


@contextlib.contextmanager
def open_lab(stack: Stack, folder: Path) -> Iterator[Lab]:
    """Make a lab of a stack that is up."""
    with stack.open_api() as api, flow_fork_server(stack) as forks:
        lab = Lab(stack, api, folder, forks)
        lab.block("wrong-credentials", aws_secret_access_key="wrong")  # not the bucket's
        yield lab


def is_in_box(process: psutil.Process) -> bool:
    """Return whether a process has files and a network of its own; True where no process has."""
    if find_bubblewrap() is None:
        return True
    own, others = (Path(f"/proc/{pid}/ns") for pid in (process.pid, "self"))
    return all((own / kind).readlink() != (others / kind).readlink() for kind in ("mnt", "net"))


def select_running(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    """Return the processes that run; a zombie does not."""
    results = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                results.append(process)
    return results


def stages_run(names: Sequence[str], log: str) -> list[str]:
    """Return those of the stages that ran, as a log says."""
    return [name for name in names if f"Running stage '{name}'" in log]
