"""The start and the configuration of supervisord, the process runner of the local stack."""

from __future__ import annotations

import hashlib
import shlex
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from deployments.local import log_rotation
from deployments.local.credentials import write_private
from deployments.local.ports import HOST
from deployments.local.program import Program
from tasks.core.errors import TransientError
from tasks.platforms.process.supervisor import plain, section

USERNAME = "slipway"
SUPERVISOR_PORT = "supervisor"
LOG_ROTATION = "log-rotation"
_START_SECONDS = 20.0


def start_daemon(configuration: Path, environment: Mapping[str, str]) -> None:
    """Start supervisord in the background, in a session of its own.

    Args:
        configuration: Its configuration file.
        environment: All of its environment.

    Raises:
        TransientError: It ended at once or refused its configuration.
    """
    result = subprocess.run(
        [sys.executable, "-m", "supervisor.supervisord", "-c", str(configuration)],
        env=dict(environment),
        cwd=configuration.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_START_SECONDS,
        check=False,
    )
    if result.returncode:
        raise TransientError(
            f"supervisord does not start: {result.stdout.strip()[-800:]}",
            state="no program of the local stack runs",
            next_step="run the same command again",
        )


def write_configuration(
    path: Path, *, port: int, password: str, logs: Path, programs: Sequence[Program]
) -> None:
    """Write supervisord's configuration, readable by its owner alone.

    supervisord itself gets a digest of its password. Its clients need the password: the worker's
    section has it in clear, with whatever else the worker's environment holds.

    Args:
        path: The file, of mode 0600; model servers are read from `conf.d/*.conf` beside it.
        port: Where supervisord listens on loopback.
        password: Its password.
        logs: Folder for the log files.
        programs: What to keep alive.
    """
    (path.parent / "conf.d").mkdir(parents=True, exist_ok=True)
    # SHA-1 is what supervisord knows; the password is random, so nothing is to be guessed.
    digest = hashlib.sha1(password.encode(), usedforsecurity=False).hexdigest()
    rotation = [sys.executable, "-I", "-S", log_rotation.__file__, str(logs)]
    text = f"""\
[supervisord]
logfile = {plain(logs / "supervisord.log")}
logfile_maxbytes = 5MB
logfile_backups = 1
pidfile = {plain(path.parent / "supervisord.pid")}
childlogdir = {plain(logs)}
umask = 077

[inet_http_server]
port = {HOST}:{port}
username = {USERNAME}
password = {{SHA}}{digest}

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[include]
files = conf.d/*.conf

[eventlistener:{LOG_ROTATION}]
command = {plain(shlex.join(rotation))}
events = TICK_60
autorestart = true
stderr_logfile = NONE
"""
    write_private(path, text + "".join(section(program, logs) for program in programs))


def listens(port: int) -> bool:
    """Return whether anything listens on a port of loopback."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((HOST, port)) == 0
