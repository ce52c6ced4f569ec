"""Attacks by code of a ref, in a box; the same code without one is the control."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from deployments.diagnosis import sandbox as diagnosis
from tasks.core.errors import ConfigurationError
from tasks.core.free_port import find_free_ports
from tasks.sandbox import bubblewrap, launcher
from tasks.sandbox.box import Box, start_in
from tasks.sandbox.launcher import LIMIT_EXCEEDED

pytestmark = pytest.mark.skipif(
    bubblewrap.find_bubblewrap() is None, reason="bubblewrap makes no boxes on this host"
)

# Each attack is an expression; its value is what it got.
_ATTACKS = """
import json, os, pathlib, socket, subprocess, sys
secret, other, host, port = sys.argv[1:5]
cache = os.environ["CACHE"]
def connect():
    return socket.create_connection(("127.0.0.1", int(port)), timeout=2)
def link():
    os.symlink(secret, "link")
    return open("link").read()
def up():
    return open("../secrets/" + pathlib.Path(secret).name).read()
attacks = {
    "the secrets of the host": lambda: open(secret).read(),
    "the secrets of the host, by a link": link,
    "the secrets of the host, by a relative path": up,
    "the variables of another process": lambda: open(f"/proc/{host}/environ").read(),
    "other processes": lambda: [p for p in os.listdir("/proc") if p == host] or 1 / 0,
    "the bundle of another release": lambda: os.listdir(other),
    "to write over another release": lambda: open(other + "/model", "w"),
    "a port of the host": connect,
    "an address of the network": lambda: socket.create_connection(("192.0.2.1", 80), timeout=2),
    "a name": lambda: socket.getaddrinfo("example.com", 80),
    "to change the cache": lambda: open(cache, "w"),
    "to make the cache writable": lambda: os.chmod(cache, 0o666),
    "to change the repository's settings": lambda: open(".git/config", "a"),
    "to replace the repository": lambda: os.rename(".git", "git"),
    "to write to the system": lambda: open("/usr/evil", "w"),
    "to change the kernel's settings": lambda: open("/proc/sys/kernel/core_pattern", "w"),
    "passwords of the system": lambda: open("/etc/shadow").read(),
    "a variable of the worker": lambda: os.environ["SECRET_TOKEN"],
    "a user namespace": lambda: subprocess.check_output(["unshare", "-U", "true"]),
    "a capability": lambda: os.setgroups([1]),
}
got = []
for name, attack in attacks.items():
    try:
        attack()
        got.append(name)
    except Exception:
        pass
pathlib.Path("made").write_text("own workspace")
print(json.dumps({"got": got, "tried": len(attacks), "cached": open(cache).read()}))
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("secrets", "bundles/local/other", "workspaces/mine/.git", "dvc-cache"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "secrets" / "s3.json").write_text("a secret")
    (tmp_path / "workspaces" / "mine" / ".git" / "config").touch()
    (tmp_path / "dvc-cache" / "object").write_text("bytes")
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path))
    monkeypatch.setenv("SECRET_TOKEN", "a secret")
    return tmp_path


@pytest.fixture
def box(home: Path) -> Box:
    mine = home / "workspaces" / "mine"
    return Box(
        folder=mine,
        writable=(mine,),
        readable=(mine / ".git", home / "dvc-cache"),
        pythons=(Path(sys.executable),),
        settings={"CACHE": str(home / "dvc-cache" / "object")},
    )


@pytest.fixture
def port() -> Iterator[int]:
    """A port on which a program of the host listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def _attack(home: Path, port: int) -> list[str]:
    return [sys.executable, "-c", _ATTACKS, str(home / "secrets" / "s3.json"),
            str(home / "bundles" / "local" / "other"), str(os.getpid()), str(port)]  # fmt: skip


def _run(box: Box, argv: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        start_in(box, argv), capture_output=True, text=True, timeout=60, check=False
    )


def test_code_in_a_box_gets_nothing_of_the_host(box: Box, home: Path, port: int) -> None:
    done = _run(box, _attack(home, port))
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["got"] == []
    assert answer["tried"] == 20
    assert answer["cached"] == "bytes", "what it may read it can"
    assert (box.folder / "made").read_text() == "own workspace"
    assert (home / "dvc-cache" / "object").read_text() == "bytes"


def test_without_a_box_the_same_code_gets_the_secrets(box: Box, home: Path, port: int) -> None:
    attack = _attack(home, port)
    variables = {**os.environ, **box.settings}
    done = subprocess.run(
        attack, capture_output=True, text=True, cwd=box.folder, env=variables, check=True
    )
    got = json.loads(done.stdout)["got"]
    assert {"the secrets of the host", "a port of the host", "a variable of the worker"} <= {*got}


def test_spool_is_writable_and_a_box_starts_without(box: Box, home: Path) -> None:
    spool = home / "spool" / "wine" / "local" / "v1"
    logging = replace(box, spool=spool)
    write = f"import pathlib; pathlib.Path({str(spool / 'a')!r}).write_text('record')"
    assert _run(logging, [sys.executable, "-c", "print('started')"]).stdout == "started\n"
    spool.mkdir(parents=True)
    (spool.parent / "v2").mkdir()
    assert _run(logging, [sys.executable, "-c", write]).returncode == 0
    assert (spool / "a").read_text() == "record"
    other = write.replace("v1", "v2")
    assert "FileNotFoundError" in _run(logging, [sys.executable, "-c", other]).stderr


def test_a_box_with_network_reaches_it(box: Box, port: int) -> None:
    connect = f"import socket; socket.create_connection(('127.0.0.1', {port})); print('connected')"
    argv = [sys.executable, "-c", connect]
    assert _run(replace(box, network=True), argv).stdout == "connected\n"
    assert "ConnectionRefusedError" in _run(box, argv).stderr


@pytest.mark.parametrize(
    ("code", "limit"),
    [
        # It stops by itself, or a failure of this test would be one of the whole machine.
        ("import os, time\nfor _ in range(3000): os.fork() or time.sleep(60)", "processes"),
        (
            "import os, time\nfor _ in range(4): os.fork()\nx = b'x' * (60 << 20)\ntime.sleep(60)",
            "memory",
        ),
    ],
)
def test_a_program_without_end_is_ended_by_its_limits(
    box: Box, monkeypatch: pytest.MonkeyPatch, code: str, limit: str
) -> None:
    monkeypatch.setenv("SLIPWAY_SANDBOX_PROCESSES", "60")
    monkeypatch.setenv("SLIPWAY_SANDBOX_MEMORY_GB", "0.2")
    before = len(psutil.pids())
    done = _run(box, [sys.executable, "-c", code])
    assert done.returncode == LIMIT_EXCEEDED, done.stderr
    assert limit in done.stderr
    assert len(psutil.pids()) < before + 50, "none of them is left"


def test_a_program_that_fills_the_disk_is_ended(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_SANDBOX_FREE_DISK_GB", "1")
    program = launcher.Program(json.loads(start_in(box, ["/bin/true"])[-1]))
    free = iter([2 << 30, (1 << 30) - 1])
    monkeypatch.setattr(launcher, "free_bytes", lambda _: next(free))
    assert program.excess() is None
    assert "1.0 GB of free disk" in str(program.excess())


def test_a_disk_that_is_full_already_is_not_its_doing(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "free_bytes", lambda _: 100 << 20)
    assert launcher.Program(json.loads(start_in(box, ["/bin/true"])[-1])).excess() is None


def test_memory_of_one_process_is_an_error_of_its_own(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_SANDBOX_MEMORY_GB", "0.2")
    done = _run(box, [sys.executable, "-c", "bytearray(1 << 30)"])
    assert done.returncode == 1
    assert "MemoryError" in done.stderr


def test_signals_and_exit_status_go_through(box: Box) -> None:
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)"
    )
    argv = start_in(box, [sys.executable, "-c", code])
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        assert process.wait(20) == 7


def test_nothing_outlives_a_killed_launcher(box: Box) -> None:
    code = "import os, time; os.setsid(); print('ready', flush=True); time.sleep(60)"
    argv = start_in(box, [sys.executable, "-c", code])
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        inside = psutil.Process(process.pid).children(recursive=True)
        process.kill()
    assert len(inside) >= 2
    _, alive = psutil.wait_procs(inside, timeout=10)
    assert not alive


# It answers with what it could connect to. The socket that it serves on is of the host's network.
_ECHO = """
import os, socket, sys, uvicorn
ACCEPTS = socket.SO_ACCEPTCONN
host = ("127.0.0.1", int(sys.argv[1]))
def find_listener():
    for number in range(3, 64):
        try: held = socket.socket(fileno=os.dup(number))
        except OSError: continue
        if held.family == socket.AF_INET and held.getsockopt(socket.SOL_SOCKET, ACCEPTS):
            return held
def close_and_send(listener):
    listener.shutdown(socket.SHUT_RDWR)
    listener.sendto(b"1", socket.MSG_FASTOPEN, host)
attacks = {
    "a socket of its own": lambda _: socket.create_connection(host),
    "the one that listens": lambda listener: listener.connect(host),
    "the one that listened, by sending": close_and_send,
    "the one that listened": lambda listener: listener.connect(host),
}
async def app(scope, receive, send):
    got, listener = [], find_listener()
    for name, attack in attacks.items():
        try:
            attack(listener)
            got.append(name)
        except OSError:
            pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": f"reached by {got}".encode()})
uvicorn.run(app, port=1, log_level="error", lifespan="off")
"""


def test_a_server_gets_its_socket_and_no_network(box: Box, home: Path, port: int) -> None:
    (box.folder / "echo.py").write_text(_ECHO)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        own = probe.getsockname()[1]
    argv = start_in(replace(box, port=own), [sys.executable, "-m", "echo", str(port)])
    with subprocess.Popen(argv) as process:
        try:
            deadline = time.monotonic() + 30
            while True:
                try:
                    with socket.create_connection(("127.0.0.1", own), timeout=20) as client:
                        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                        answer = b"".join(iter(lambda: client.recv(4096), b""))
                    break
                except ConnectionRefusedError:
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
        finally:
            process.terminate()
        process.wait(20)
    assert b"reached by []" in answer


def test_a_host_without_boxes_runs_code_plainly_or_refuses(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bubblewrap, "find_bubblewrap", lambda: None)
    assert _run(box, ["/bin/echo", "ran"]).stdout == "ran\n"
    monkeypatch.setattr(diagnosis, "find_bubblewrap", lambda: None)
    assert not diagnosis.check_sandbox(required=True).ok
    monkeypatch.setenv("SLIPWAY_SANDBOX", "container")
    assert diagnosis.check_sandbox(required=True).ok
    monkeypatch.setenv("SLIPWAY_SANDBOX", "required")
    with pytest.raises(ConfigurationError, match="cannot run bubblewrap"):
        start_in(box, ["/bin/echo"])


def test_a_box_costs_less_than_a_fifth_of_a_second(box: Box) -> None:
    def seconds(argv: list[str]) -> float:
        before = os.times()
        subprocess.run(argv, check=True)
        after = os.times()
        return sum(after[2:4]) - sum(before[2:4])

    start_in(box, ["/bin/true"])  # the trial of bubblewrap
    argv = start_in(box, ["/bin/true"])
    assert min(seconds(argv) for _ in range(5)) < 0.2


_LATE = """
import sys, uvicorn
async def app(scope, receive, send):
    await receive()
    print("loading", flush=True)
    sys.stdin.readline()
    await send({"type": "lifespan.startup.complete"})
    await receive()
uvicorn.run(app, lifespan="on", log_level="warning")
"""


def test_port_refuses_connections_until_the_server_listens(box: Box) -> None:
    # Else a server that starts again would keep the requests that another one could answer.
    (port,) = find_free_ports(1)
    (box.folder / "late.py").write_text(_LATE)
    with subprocess.Popen(
        start_in(replace(box, port=port), [sys.executable, "-m", "late"]),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as server:  # fmt: skip
        assert server.stdin
        assert server.stdout
        assert server.stdout.readline() == "loading\n"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=5)
        server.stdin.write("\n")
        server.stdin.flush()
        deadline = time.monotonic() + 20
        with socket.socket() as client:
            while client.connect_ex(("127.0.0.1", port)):
                assert time.monotonic() < deadline
                time.sleep(0.02)
        server.terminate()
