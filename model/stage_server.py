"""Run stages in processes that are forked from one which has imported their libraries.

Importing scikit-learn takes two seconds of CPU, longer than most stages work. So the first stage
(`sh model/stage.sh model.train`) starts a server that imports it; the next stages, within seconds,
are forked from there. Nothing of the repository itself is kept: each stage reads its modules anew.

Where there is no server, as on other systems than Linux, or an old one, a stage runs in a process
of its own.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import importlib
import io
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import warnings
from pathlib import Path

LIBRARIES = (
    "pandas", "sklearn.calibration", "sklearn.compose", "sklearn.ensemble", "sklearn.impute",
    "sklearn.linear_model", "sklearn.metrics", "sklearn.model_selection", "sklearn.pipeline",
    "sklearn.preprocessing", "sklearn.svm", "tomllib",
)  # fmt: skip
# OpenBLAS reads it when it is loaded. Its idle threads go to sleep at once, as the parts of an
# operation on a small table come one by one: those that stay awake, a tenth of a second as a rule,
# take four times the CPU of the training itself. Results and the number of threads stay.
SETTINGS = {"OPENBLAS_THREAD_TIMEOUT": "4"}
_WITH_MLEM = ("model.save", "model.evaluate")
_HEADER_BYTES = 10  # in which the length of a request is written
_IDLE_SECONDS = 5.0
_STARTED = b"started "


def run_stage(module: str) -> None:
    """Run a stage, forked from the server if there is one; end this process as the stage ends."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    connection = _connect() if _can_watch() else None
    if connection is not None:
        request = {"module": module, "folder": str(Path.cwd()), "environment": dict(os.environ)}
        message = json.dumps(request).encode()
        answer = b""
        with connection, contextlib.suppress(OSError):
            header = f"{len(message):{_HEADER_BYTES}}".encode()
            socket.send_fds(connection, [header], [0, 1, 2])
            connection.sendall(message)
            while chunk := connection.recv(64):
                answer += chunk
        if answer.startswith(_STARTED):
            code = int(answer.removeprefix(_STARTED) or 1)
            if code < 0:  # ended by a signal, as this process then is
                with contextlib.suppress(OSError):  # those that nobody can handle
                    signal.signal(-code, signal.SIG_DFL)
                os.kill(os.getpid(), -code)
            sys.exit(code)
    os.execv(sys.executable, [sys.executable, "-m", module])  # noqa: S606 - the same interpreter


def serve(listener: socket.socket) -> None:
    """Fork for each request until none has come for some seconds; return in a stage's process.

    Args:
        listener: The socket that stages connect to.
    """
    _import(LIBRARIES)
    sys.path.insert(0, str(Path.cwd()))
    keepers: set[int] = set()
    listener.settimeout(_IDLE_SECONDS)
    while True:
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            keepers = {pid for pid in keepers if os.waitpid(pid, os.WNOHANG)[0] == 0}
            if keepers:
                continue
            Path(listener.getsockname()).unlink(missing_ok=True)
            sys.exit()
        with connection:
            try:
                request, files = _receive(connection)
            except (OSError, ValueError):  # whoever asked was killed
                continue
            if request["module"] in _WITH_MLEM:
                _import(["model.mlem_api"])
            if (pid := _fork()) == 0:
                listener.close()
                _keep(connection, request, files)
                return
            keepers.add(pid)
            for file in files:
                os.close(file)


def _can_watch() -> bool:
    """Check that this system tells of the end of a process: Linux since 5.3, but no gVisor."""
    with contextlib.suppress(AttributeError, OSError):
        os.close(os.pidfd_open(os.getpid()))
        return True
    return False


def _connect() -> socket.socket | None:
    """Connect to the server of this folder; start one if there is none."""
    # Relative to the root of the repository, as the path of a socket may have 107 bytes only.
    address = Path(".dvc", "tmp", f"stage-{_fingerprint()}.sock")
    with contextlib.suppress(OSError):
        connection = socket.socket(socket.AF_UNIX)
        with contextlib.suppress(ConnectionRefusedError, FileNotFoundError):
            connection.connect(str(address))
            return connection
        address.parent.mkdir(parents=True, exist_ok=True)
        address.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as listener:
            umask = os.umask(0o077)  # whoever can connect runs code as this user
            try:
                listener.bind(str(address))
            finally:
                os.umask(umask)
            listener.listen()
            subprocess.Popen(
                [sys.executable, "-P", __file__],
                stdin=listener.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        connection.connect(str(address))
        return connection
    return None


def _fingerprint() -> str:
    """Name all that a server has read when it started: packages, and variables but DVC's own."""
    variables = sorted(item for item in os.environ.items() if not item[0].startswith("DVC_"))
    lock = Path("model", "uv.lock").read_bytes()
    return hashlib.sha256(repr((sys.prefix, variables, lock)).encode()).hexdigest()[:16]


def _import(modules: tuple[str, ...] | list[str]) -> None:
    # Nothing that is imported is garbage: looking for it takes a tenth of the time.
    gc.disable()
    for name in modules:
        importlib.import_module(name)
    gc.freeze()
    gc.enable()


def _receive(connection: socket.socket) -> tuple[dict[str, object], list[int]]:
    connection.settimeout(_IDLE_SECONDS)
    header, files, *_ = socket.recv_fds(connection, _HEADER_BYTES, 3)
    try:
        with connection.makefile("rb") as stream:
            request = json.loads(stream.read(int(header)))
    except (OSError, ValueError):
        for file in files:  # else who reads the output of the stage waits for its end here, too
            os.close(file)
        raise
    connection.settimeout(None)
    return request, files


def _fork() -> int:
    with warnings.catch_warnings():
        # Of threads, which libraries for linear algebra have: they end and restart theirs.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _keep(connection: socket.socket, request: dict[str, object], files: list[int]) -> None:
    """Run a stage in a child, and say how it has ended; return in the child.

    If the process that asked for the stage is killed, so are the stage and what it has started.
    """
    stage = _fork()
    if stage == 0:
        os.setpgid(0, 0)
        connection.close()
        _become(request, files)
        return
    with contextlib.suppress(PermissionError, ProcessLookupError):  # it may have done so itself
        os.setpgid(stage, stage)
    for file in files:
        os.close(file)
    try:
        connection.sendall(_STARTED)
        end = os.pidfd_open(stage)
        if end not in select.select([end, connection.fileno()], [], [])[0]:
            raise ConnectionResetError
    except ConnectionError:
        os.killpg(stage, signal.SIGKILL)
    _, status = os.waitpid(stage, 0)
    with contextlib.suppress(ConnectionError):
        connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _become(request: dict[str, object], files: list[int]) -> None:
    """Make this process what `python -m MODULE` would be."""
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    if isinstance(sys.stdout, io.TextIOWrapper) and os.isatty(1):
        sys.stdout.reconfigure(line_buffering=True)  # as of a program that a terminal starts
    folder, environment = request["folder"], request["environment"]
    assert isinstance(folder, str)
    assert isinstance(environment, dict)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[0] = folder
    sys.argv = [sys.argv[0], str(request["module"])]
    for name in [name for name in sys.modules if name.partition(".")[0] == "model"]:
        del sys.modules[name]


def main() -> None:
    """Ask for the stage that is named, or serve on the socket that is standard input."""
    if len(sys.argv) > 1:
        run_stage(sys.argv[1])
    listener = socket.socket(fileno=os.dup(0))
    with Path(os.devnull).open() as nothing:  # of a process that lives on nobody shall expect more
        os.dup2(nothing.fileno(), 0)
    serve(listener)
    module = sys.argv.pop()
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
