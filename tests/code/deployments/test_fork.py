"""Flow runs are forked from a process that has imported Prefect, and behave as programs."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from deployments import fork
from deployments.local import adoption

SECONDS = 30.0
_REPORT = """
import os, sys
print(__name__, sys.argv[1:], os.getcwd(), os.environ.get("PREFECT__FLOW_RUN_ID"))
print(*(name for name in ("prefect", "deployments", "tasks", "flows") if name in sys.modules))
sys.exit(7)
"""
_SLEEP = """
import os, signal, time
count = 0

def note(number, _):
    global count
    count += 1

signal.signal(signal.SIGTERM, note)
print(os.getpid(), flush=True)
while not count:
    time.sleep(0.01)
time.sleep(0.5)
raise SystemExit(10 + count)
"""
_WORKER = """
import subprocess, sys
subprocess.run([sys.executable, "-m", "deployments.fork", "mine"])
print("over", flush=True)
sys.stdin.read()
"""


@dataclass
class Worker:
    """This process as a worker, whose server imports empty modules in place of Prefect."""

    folder: Path
    started: list["subprocess.Popen[str]"] = field(default_factory=list)

    def start(
        self, code: str, *arguments: str, cwd: Path | None = None, **variables: str
    ) -> "subprocess.Popen[str]":
        """Start code as a flow run; a command line of `python` may take the place of ours."""
        (self.folder / "modules" / "mine.py").write_text(code)
        process = subprocess.Popen(
            [sys.executable, *(arguments or ("-m", "deployments.fork", "mine"))],
            cwd=cwd or self.folder / "run",
            env={**os.environ, "PYTHONPATH": str(self.folder / "modules")}
            | {"TMPDIR": str(self.folder), **variables},
            text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.started.append(process)
        return process

    def run(self, code: str, *, cwd: Path | None = None, **variables: str) -> str:
        """Run code to its end, and return its output."""
        return self.start(code, cwd=cwd, **variables).communicate(timeout=SECONDS)[0]

    def forks(self) -> list[psutil.Process]:
        """Return the servers and their forks."""
        results = []
        for process in filter(adoption.is_forked, psutil.process_iter()):
            with contextlib.suppress(psutil.Error):  # it has just ended
                if process.environ().get("TMPDIR") == str(self.folder):
                    results.append(process)
        return results

    def wait_for_run(self, run: "subprocess.Popen[str]") -> psutil.Process:
        """Wait until a run that sleeps has begun, and return its process."""
        assert run.stdout
        return psutil.Process(int(run.stdout.readline()))


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    worker = Worker(tmp_path)
    (tmp_path / "run").mkdir()
    modules = tmp_path / "modules"
    for name in set(fork.LIBRARIES) - {"runpy"}:
        (modules / name.replace(".", "/")).mkdir(parents=True, exist_ok=True)
    for folder in list(modules.rglob("*")):
        (folder / "__init__.py").touch()
    yield worker
    for process in worker.started:
        process.kill()
        process.communicate()
    for left in worker.forks():
        with contextlib.suppress(psutil.Error):
            left.kill()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_run_is_what_python_m_would_be_and_the_next_one_shares_the_server(worker: Worker) -> None:
    first = worker.start(_REPORT, PREFECT__FLOW_RUN_ID="1")
    folder = worker.folder / "run"
    assert first.communicate()[0] == f"__main__ [] {folder} 1\nprefect\n"
    assert first.returncode == 7
    [server] = worker.forks()
    assert worker.run("print('edited')", PREFECT__FLOW_RUN_ID="2") == "edited\n"
    assert worker.forks() == [server]
    assert "PREFECT__FLOW_RUN_ID" not in server.environ(), "recovery would take it for a run"


def test_signal_for_the_run_or_for_all_processes_reaches_the_run_once(worker: Worker) -> None:
    run = worker.start(_SLEEP)
    worker.wait_for_run(run)
    run.terminate()
    assert run.wait(SECONDS) == 11
    run = worker.start(_SLEEP)
    worker.wait_for_run(run)
    for process in [psutil.Process(run.pid), *worker.forks()]:
        process.terminate()
    assert run.wait(SECONDS) == 11


@pytest.mark.parametrize("victim", ["run", "keeper", "asker"])
def test_run_that_is_killed_in_whole_or_in_part_is_gone(worker: Worker, victim: str) -> None:
    asker = worker.start(_SLEEP)
    run = worker.wait_for_run(asker)
    processes = {"run": run, "keeper": run.parent(), "asker": psutil.Process(asker.pid)}
    process = processes[victim]
    assert process
    process.kill()
    assert asker.wait(SECONDS) == -signal.SIGKILL
    psutil.wait_procs([run], timeout=SECONDS)
    assert not run.is_running()
    wait_until(lambda: len(worker.forks()) == 1)


def test_other_settings_get_another_server_and_spare_runs(worker: Worker) -> None:
    run = worker.start(_SLEEP)
    worker.wait_for_run(run)
    forks = worker.forks()
    [server] = [process for process in forks if process.parent() not in forks]
    assert worker.run("print('new')", PREFECT_LOGGING_LEVEL="DEBUG") == "new\n"
    psutil.wait_procs([server], timeout=SECONDS)
    assert not server.is_running()
    run.terminate()
    assert run.wait(SECONDS) == 11


def test_installation_and_profile_make_another_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = tmp_path / "lib" / python / "site-packages"
    packages.mkdir(parents=True)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    states = [fork.read_state()]
    for name in (packages / "prefect-4.dist-info", tmp_path / "profiles.toml"):
        name.touch()
        assert fork.read_state() not in states
        states.append(fork.read_state())


def test_run_gets_a_process_of_its_own_if_forking_is_unsafe(worker: Worker) -> None:
    (worker.folder / "settings").mkdir()
    (worker.folder / "settings" / "prefect.toml").touch()
    code = "import sys; print('prefect' in sys.modules)"
    assert worker.run(code, cwd=worker.folder / "settings") == "False\n"
    sockets = worker.folder / f"slipway-fork-{os.geteuid()}"
    sockets.mkdir(mode=0o755)
    assert worker.run(code) == "False\n"
    sockets.chmod(0o700)
    assert worker.run(code) == "True\n"
    (worker.folder / "modules" / "psutil" / "__init__.py").write_text("1 / 0")
    assert worker.run(code, PREFECT_LOGGING_LEVEL="DEBUG") == "False\n"


def test_killed_server_is_replaced(worker: Worker) -> None:
    worker.run("")
    [server] = worker.forks()
    server.kill()
    psutil.wait_procs([server], timeout=SECONDS)
    assert worker.run("print('again')") == "again\n"
    assert len(worker.forks()) == 1


def test_server_ends_with_its_worker_and_serves_no_other(worker: Worker) -> None:
    other = worker.start("", "-c", _WORKER)
    assert other.stdout
    assert other.stdout.readline() == "over\n"
    [server] = worker.forks()
    [address] = (worker.folder / f"slipway-fork-{os.geteuid()}").iterdir()
    address.rename(address.with_name(str(os.getpid())))
    assert worker.run("import sys; print('prefect' in sys.modules)") == "False\n"
    assert worker.forks() == [server]
    address.with_name(str(os.getpid())).rename(address)
    other.communicate()
    psutil.wait_procs([server], timeout=SECONDS)
    assert not worker.forks()
    assert not address.exists()


def test_prefect_itself_can_be_forked(worker: Worker) -> None:
    command = [sys.executable, "-m", "deployments.fork", "prefect.engine"]
    environment = {**os.environ, "TMPDIR": str(worker.folder), "PREFECT_HOME": str(worker.folder)}
    run = subprocess.run(
        command, cwd=worker.folder / "run", env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert run.returncode == 1
    assert "Invalid flow run id" in run.stderr
    assert len(worker.forks()) == 1, "its server could not import Prefect, or had a thread"
