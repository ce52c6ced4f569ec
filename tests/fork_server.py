"""Start Python programs without importing what they share anew.

`import prefect` costs seconds of CPU, in every flow run; so does `import sklearn`, in every model
server and stage. A `ForkServer` is a process that has imported some modules and nothing else: no
thread and no event loop is there yet. It forks a child for each program, as `python -c` would start
one. What depends on the start of a process itself, or on variables that modules read while they are
imported, needs a process of its own. Only the standard library is used here: a fork server runs in
any Python environment.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
_HEADER_BYTES = 10  # in which the length of a request is written


class ForkedProcess:
    """A forked program, with those methods of `subprocess.Popen` that tests use."""

    def __init__(self, pid: int, exit_code: int, output: int) -> None:
        self.pid = pid
        self.stdout = os.fdopen(output, "r")
        self._exit_code = exit_code
        self._lock = threading.Lock()
        self._code: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, or None while the program runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end of the program, and return its exit code."""
        with self._lock:
            if self._code is None:
                if not select.select([self._exit_code], [], [], timeout)[0]:
                    raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
                self._code = int(os.read(self._exit_code, 16))
                os.close(self._exit_code)
            return self._code

    def terminate(self) -> None:
        """Ask the program to end, if it has not ended."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the program, if it has not ended."""
        self.send_signal(signal.SIGKILL)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the program, if it has not ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


class ForkServer:
    """A process that has imported some modules, and forks; it starts with the first program.

    Args:
        modules: The modules to import.
        environment: Its variables.
        python: The interpreter and its options; by default that of the tests.
    """

    def __init__(
        self,
        modules: Sequence[str],
        environment: Mapping[str, str],
        python: Sequence[str] = (sys.executable, "-W", "error::SyntaxWarning"),
    ) -> None:
        self._python = python
        self._modules = modules
        self._environment = dict(environment)
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def start(
        self,
        code: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        folder: Path = _ROOT,
    ) -> ForkedProcess:
        """Start Python code as a program; its output, errors included, is read from `stdout`."""
        output, output_end = os.pipe()
        exit_code, exit_code_end = os.pipe()
        request = {
            "code": code,
            "arguments": list(arguments),
            "environment": dict(environment),
            "folder": str(folder),
        }
        message = json.dumps(request).encode()
        try:
            with self._lock:
                connection = self._connect()
                header = f"{len(message):{_HEADER_BYTES}}".encode()
                socket.send_fds(connection, [header], [output_end, exit_code_end])
                connection.sendall(message)
                pid = int(connection.recv(64))
        finally:
            os.close(output_end)
            os.close(exit_code_end)
        return ForkedProcess(pid, exit_code, output)

    def close(self) -> None:
        """End the server; programs that it has forked go on."""
        if self._socket and self._process:
            self._socket.close()
            self._process.wait()

    def _connect(self) -> socket.socket:
        if self._socket is None:
            self._socket, theirs = socket.socketpair()
            with theirs:
                self._process = subprocess.Popen(
                    [*self._python, __file__, *self._modules],
                    stdin=theirs, stdout=subprocess.DEVNULL, cwd=_ROOT, env=self._environment,
                )  # fmt: skip
        return self._socket


def _serve() -> None:
    """Fork for each request on standard input, until it is closed; return in the child."""
    requests = socket.socket(fileno=0)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for keepers
    while True:
        header, files, *_ = socket.recv_fds(requests, _HEADER_BYTES, 2)
        if not header:
            sys.exit()
        message = requests.recv(int(header), socket.MSG_WAITALL)
        if os.fork() == 0:
            break
        for file in files:
            os.close(file)
    # The keeper sends the program's id, waits for its end, and writes its exit code.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    output, exit_code = files
    if pid := os.fork():
        requests.send(str(pid).encode())
        os.close(output)
        _, status = os.waitpid(pid, 0)
        os.write(exit_code, str(os.waitstatus_to_exitcode(status)).encode())
        os._exit(0)
    os.close(exit_code)
    for standard in (1, 2):
        os.dup2(output, standard)
    os.close(output)
    with open(os.devnull) as nothing:  # noqa: PTH123
        os.dup2(nothing.fileno(), 0)
    request = json.loads(message)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.argv = ["-c", *request["arguments"]]
    exec(compile(request["code"], "<string>", "exec"), {"__name__": "__main__"})


if __name__ == "__main__":
    sys.path[0] = str(_ROOT)
    importlib.import_module("tests.tls").share_contexts()
    for module in sys.argv[1:]:
        importlib.import_module(module)
    gc.freeze()  # what children share with the server is not to be copied by their collectors
    _serve()
