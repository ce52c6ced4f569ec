"""Run a module of Prefect in a fork of a process that has imported Prefect already.

`python -m deployments.fork prefect.engine` is `python -m prefect.engine` without the two seconds of
CPU that importing Prefect takes. The first run of a worker starts a server, which imports packages
and nothing of any checkout: the code of a ref is imported in the fork alone. To everybody else, the
process that asks for the run is the run: it forwards signals and ends as the run ends, and if it is
killed, so is the run.

A server works for the runs of one worker, and ends with it, after some idle minutes, and as soon as
a run comes with other packages or variables. Where a server cannot be started or asked, the run
gets a process of its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import marshal
import os
import signal
import socket
import stat
import sys
from pathlib import Path
from typing import Any

# What flows need of other packages: an interpreter imports it for a second or two.
LIBRARIES = (
    "prefect.artifacts", "prefect.concurrency.asyncio", "prefect.deployments.flow_runs",
    "prefect.deployments.steps.core", "prefect.engine", "prefect.flow_engine",
    "prefect.runner.storage", "prefect.task_engine", "prefect.utilities.visualization",
    "prefect._internal.metrics", "prefect_aws", "boto3.s3.inject",
    "cryptography.hazmat.primitives.serialization.ssh", "cryptography.x509", "dvc_render",
    "fastapi", "filelock", "markdown_it", "psutil", "ruamel.yaml", "runpy", "yaml",
)  # fmt: skip
# Of one run, and not of the worker.
_OF_ONE_RUN = "PREFECT__"
# Files of Prefect's settings in the current folder, which it reads while it is imported.
_SETTINGS = (".env", "prefect.toml", "pyproject.toml")
_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_IDLE_SECONDS = 600.0
_START_SECONDS = 60.0  # of a server, on a machine that has much else to do
# A signal for all processes of a service or stack reaches them within this time.
_SAME_SIGNAL_SECONDS = 0.2
_HEADER_BYTES = 10  # in which the length of a request is written
_READY, _GO = b"r", b"g"


def run(module: str) -> None:
    """Run a module, forked from the server if there is one; end this process as the run ends.

    Args:
        module: Its full name.
    """
    has_settings = any(Path(name).exists() for name in _SETTINGS)
    with contextlib.suppress(AttributeError, OSError):  # another system than Linux, or no server
        # A server ends if it has read something else than what is there now: then a second time.
        for _ in range(0 if has_settings else 2):
            if (connection := _connect(os.getppid())) and _is_accepted(connection, module):
                _end(_watch(connection))
    os.execv(sys.executable, [sys.executable, "-m", module])  # noqa: S606 - the same interpreter


def serve(worker: int, listener: socket.socket) -> tuple[socket.socket, dict[str, Any], list[int]]:
    """Fork for each request of a worker's runs; return the request in the fork.

    Args:
        worker: The process whose children may ask.
        listener: The socket that they connect to, named after the worker in the current folder.
    """
    import gc
    import importlib
    import select

    state, address = read_state(), Path(str(worker))
    gc.disable()  # nothing that is imported is garbage
    for name in LIBRARIES:
        importlib.import_module(name)
    gc.freeze()
    gc.enable()
    end_of_worker = os.pidfd_open(worker)
    # Process 1 of a container does not collect ended servers: it would have one more every time.
    idle_seconds = None if worker == 1 else _IDLE_SECONDS
    signal.signal(signal.SIGCHLD, _collect_keepers)
    # A fork has none of the threads of its parent, but all the locks that these held.
    while len([*Path("/proc/self/task").iterdir()]) == 1:
        ready = select.select([listener.fileno(), end_of_worker], [], [], idle_seconds)[0]
        if listener.fileno() not in ready:
            break
        connection, _ = listener.accept()
        files: list[int] = []
        try:
            request = _receive(connection, worker, files)
            if request["state"] != state:
                address.unlink()  # first, as who asked then looks for another server
                sys.exit()
            if os.fork() == 0:
                listener.close()
                os.close(end_of_worker)
                return connection.dup(), request, [os.dup(file) for file in files]
        except (EOFError, OSError, ValueError):
            continue  # it was killed, or is no run of this worker
        finally:
            for file in files:  # else who reads the output of the run waits for its end here, too
                os.close(file)
            connection.close()
    address.unlink()
    sys.exit()


def _collect_keepers(*_: object) -> None:
    """Wait for ended keepers, or the kernel would forget the CPU time of their runs."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _connect(worker: int) -> socket.socket | None:
    """Connect to the server of a worker; start one if there is none."""
    os.close(os.pidfd_open(worker))  # Linux before 5.3 and gVisor tell of the end of no process
    path = Path(os.environ.get("TMPDIR", "/tmp"), f"slipway-fork-{os.geteuid()}")  # noqa: S108
    path.mkdir(mode=0o700, exist_ok=True)  # whoever can connect runs code as this user
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        status = os.fstat(folder)
        if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) != 0o700:
            return None
        fcntl.flock(folder, fcntl.LOCK_EX)  # two first runs share one server
        # By its descriptor, as the path of a socket may have 107 bytes only.
        address = Path(f"/proc/self/fd/{folder}/{worker}")
        connection = socket.socket(socket.AF_UNIX)
        with contextlib.suppress(ConnectionRefusedError, FileNotFoundError):
            connection.connect(str(address))
            return connection
        address.unlink(missing_ok=True)  # of a server that was killed
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(address))
            listener.listen()
            _start_server(worker, path, listener)
        connection.connect(str(address))
        return connection
    finally:
        os.close(folder)


def _start_server(worker: int, folder: Path, listener: socket.socket) -> None:
    """Start a server that is nobody's child, in a session of its own."""
    if pid := os.fork():
        os.waitpid(pid, 0)
        return
    os.setsid()
    if os.fork() == 0:
        with contextlib.suppress(OSError):
            os.chdir(folder)
            nothing = os.open(os.devnull, os.O_RDWR)
            for number, file in enumerate((listener.fileno(), nothing, nothing)):
                os.dup2(file, number)
            argv = [sys.executable, __file__, str(worker)]
            os.execve(argv[0], argv, _lasting_environment())  # noqa: S606 - the same interpreter
    os._exit(0)


def read_state() -> list[Any]:
    """Return all that a server depends on: variables, packages, Prefect's profile."""
    home = os.environ.get("PREFECT_HOME") or Path("~/.prefect").expanduser()
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    state: list[Any] = [_lasting_environment()]
    for file in (
        Path(__file__),
        Path(sys.executable).resolve(),
        Path(sys.prefix, "pyvenv.cfg"),
        Path(sys.prefix, "lib", python, "site-packages"),  # each installation changes this folder
        Path(os.environ.get("PREFECT_PROFILES_PATH") or Path(home, "profiles.toml")),
    ):
        with contextlib.suppress(FileNotFoundError):
            status = file.stat()
            state.append((str(file), status.st_mtime_ns, status.st_ino, status.st_size))
    return state


def _lasting_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(_OF_ONE_RUN)}


def _is_accepted(connection: socket.socket, module: str) -> bool:
    """Ask for a run, and return whether the server can have it forked."""
    request = {
        "module": module,
        "folder": str(Path.cwd()),
        "environment": dict(os.environ),
        "state": read_state(),
    }
    message = marshal.dumps(request)  # both ends are the same Python
    connection.settimeout(_START_SECONDS)
    with contextlib.suppress(ConnectionError):
        socket.send_fds(connection, [f"{len(message):{_HEADER_BYTES}}".encode()], [0, 1, 2])
        connection.sendall(message)
        return connection.recv(1) == _READY
    return False


def _watch(connection: socket.socket) -> int:
    """Begin the run, forward signals to it, and return its exit code."""

    def forward(number: int, _: object) -> None:
        with contextlib.suppress(ConnectionError):  # it has just ended
            connection.send(bytes([number]))

    for number in _FORWARDED:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, forward)
    connection.settimeout(None)
    answer = b""
    with contextlib.suppress(ConnectionError):
        connection.sendall(_GO)  # from here on there is no other process for this run
        while chunk := connection.recv(16):
            answer += chunk
    return int(answer or -signal.SIGKILL)


def _end(code: int) -> None:
    if code < 0:  # ended by a signal, as this process then is
        with contextlib.suppress(OSError):  # those that nobody can handle
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def _receive(connection: socket.socket, worker: int, files: list[int]) -> dict[str, Any]:
    peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 4)
    # Another container has its own numbers: its processes are 0 here.
    process = Path("/proc", str(int.from_bytes(peer, sys.byteorder)), "stat").read_text()
    if int(process.rpartition(")")[2].split()[1]) != worker:
        raise PermissionError
    connection.settimeout(_START_SECONDS)
    header, received, *_ = socket.recv_fds(connection, _HEADER_BYTES, 3)
    files += received
    with connection.makefile("rb") as stream:
        request: dict[str, Any] = marshal.loads(stream.read(int(header)))  # noqa: S302 - its own
    connection.settimeout(None)
    return request


def _keep(connection: socket.socket, request: dict[str, Any], files: list[int]) -> None:
    """Run a module in a child, and report its exit code; return in the child.

    The child is killed if the process that asked for it, or this process, is killed.
    """
    import ctypes
    import select

    keeper, prctl = os.getpid(), ctypes.CDLL(None).prctl
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)
    connection.sendall(_READY)
    if connection.recv(1) != _GO:  # it had waited too long, or was killed
        os._exit(0)
    if (child := os.fork()) == 0:
        connection.close()
        prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != keeper:  # it was killed before
            os._exit(1)
        os.setsid()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        _become(request, files)
        return
    for file in files:
        os.close(file)
    end = os.pidfd_open(child)
    while end not in select.select([end, connection.fileno()], [], [])[0]:
        if not (number := connection.recv(1)):
            os.kill(child, signal.SIGKILL)
            break
        # Who signals all processes of a stack or service has reached the run, too: not twice, since
        # the second signal would break off what the first makes the run take back.
        if not signal.sigtimedwait(number, _SAME_SIGNAL_SECONDS):
            os.kill(child, number[0])
    _, status = os.waitpid(child, 0)
    connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _become(request: dict[str, Any], files: list[int]) -> None:
    """Make this process what `python -m MODULE` would be."""
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path.insert(0, request["folder"])
    sys.argv = [sys.argv[0], request["module"]]


def main() -> None:
    """Run the module that is named, or serve a worker on the socket that is standard input."""
    if __spec__:  # python -m
        run(sys.argv[1])
    sys.path.pop(0)  # the folder of this file
    listener = socket.socket(fileno=os.dup(0))
    os.dup2(1, 0)
    _keep(*serve(int(sys.argv[1]), listener))
    import runpy
    import warnings

    warnings.filterwarnings("ignore", category=RuntimeWarning, module="runpy")  # imported before
    module = sys.argv.pop()
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
