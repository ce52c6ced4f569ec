"""The process runner: supervisord, its configuration and its remote control."""

from __future__ import annotations

import base64
import hashlib
import http.client
import shlex
import socket
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deployments.credentials import write_private
from deployments.ports import HOST
from deployments.program import Program
from tasks.errors import ConfigurationError, TransientError

USERNAME = "slipway"
_RPC_SECONDS = 20.0
_START_SECONDS = 20.0


class _Transport(xmlrpc.client.Transport):
    """HTTP with a time-out, and credentials that never get into an error's text."""

    def __init__(self, headers: list[tuple[str, str]]) -> None:
        super().__init__(headers=headers)

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        connection = super().make_connection(host)
        connection.timeout = _RPC_SECONDS
        return connection


class Supervisor:
    """Remote control of one supervisord.

    Args:
        port: Where it listens on loopback.
        password: Its password.
    """

    def __init__(self, port: int, password: str) -> None:
        self.url = f"http://{HOST}:{port}"
        login = base64.b64encode(f"{USERNAME}:{password}".encode()).decode()
        # Not in the URL: xmlrpc puts that, with the password, into the text of its errors.
        self._transport = _Transport([("Authorization", f"Basic {login}")])
        self._rpc = xmlrpc.client.ServerProxy(f"{self.url}/RPC2", self._transport)

    def alive(self) -> bool:
        """Whether it answers to our password."""
        try:
            return bool(self._call("getState"))
        except TransientError:
            return False

    def programs(self) -> dict[str, dict[str, Any]]:
        """Every program it knows, by name: supervisord's own description of each."""
        return {each["name"]: each for each in self._call("getAllProcessInfo")}

    def start(self, name: str) -> None:
        """Start a program unless it runs; does not wait until it is ready."""
        self._call("startProcess", name, False, but="ALREADY_STARTED")

    def stop(self, name: str) -> None:
        """Stop a program and wait until it has ended."""
        self._call("stopProcess", name, False, but="NOT_RUNNING")
        while self.programs()[name]["statename"] in {"STOPPING", "RUNNING"}:
            time.sleep(0.05)

    def stop_all(self) -> None:
        """Ask every program to stop, all at once."""
        self._call("stopAllProcesses", False)

    def shutdown(self) -> None:
        """Ask supervisord to stop its programs and itself."""
        self._call("shutdown")

    def reload(self, ours: Sequence[str]) -> list[str]:
        """Take over what changed in the configuration of some programs.

        Args:
            ours: Names of the programs; others, the model servers, are left as they are.

        Returns:
            The programs that were added, or stopped because they changed.
        """
        added, changed, removed = self._call("reloadConfig")[0]
        for name in ours:
            if name in changed or name in removed:
                self.stop(name)
                self._call("removeProcessGroup", name)
        fresh = [name for name in ours if name in added or name in changed]
        for name in fresh:
            self._call("addProcessGroup", name)
        return fresh

    def _call(self, method: str, *arguments: Any, but: str | None = None) -> Any:
        """Call a method of supervisord; a fault named `but` is none."""
        try:
            return getattr(self._rpc.supervisor, method)(*arguments)
        except xmlrpc.client.Fault as fault:
            if but and but in fault.faultString:
                return None
            raise TransientError(
                f"supervisord at {self.url} refuses {method}{arguments}: {fault.faultString}",
                state="its programs are as they were",
                next_step="make down, then run the same command again",
            ) from fault
        except (OSError, http.client.HTTPException, xmlrpc.client.Error) as error:
            raise TransientError(
                f"supervisord at {self.url} does not answer: {error!r}",
                state="its programs may run without it",
                next_step="make down, then run the same command again",
            ) from error
        finally:
            self._transport.close()


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
    """Write supervisord's configuration.

    Args:
        path: The file; model servers are read from `conf.d/*.conf` beside it.
        port: Where supervisord listens on loopback.
        password: Its password; the file holds a digest of it.
        logs: Folder for the log files.
        programs: What to keep alive.
    """
    (path.parent / "conf.d").mkdir(parents=True, exist_ok=True)
    # SHA-1 is what supervisord knows; the password is random, so nothing is to be guessed.
    digest = hashlib.sha1(password.encode(), usedforsecurity=False).hexdigest()
    text = f"""\
[supervisord]
logfile = {_plain(logs / "supervisord.log")}
logfile_maxbytes = 5MB
logfile_backups = 1
pidfile = {_plain(path.parent / "supervisord.pid")}
childlogdir = {_plain(logs)}
umask = 077

[inet_http_server]
port = {HOST}:{port}
username = {USERNAME}
password = {{SHA}}{digest}

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[include]
files = conf.d/*.conf
"""
    write_private(path, text + "".join(_section(program, logs) for program in programs))


def _section(program: Program, logs: Path) -> str:
    variables = ",".join(f"{key}={_quoted(value)}" for key, value in program.environment.items())
    return f"""
[program:{program.name}]
command = {_plain(shlex.join(program.argv))}
directory = {_plain(program.directory)}
environment = {variables}
autostart = {str(program.autostart).lower()}
autorestart = true
startsecs = 1
startretries = 5
stopwaitsecs = {program.stop_seconds}
stopasgroup = true
killasgroup = true
priority = {program.priority}
redirect_stderr = true
stdout_logfile = {_path(logs / f"{program.name}.log")}
stdout_logfile_maxbytes = 5MB
stdout_logfile_backups = 1
"""


def _plain(value: object) -> str:
    """Escape what supervisord would expand, and refuse what would end the line."""
    text = str(value)
    if any(end in text for end in ("\n", " ;", " #")):
        raise ConfigurationError(
            f"supervisord cannot be given {text!r}: line breaks, ` ;` and ` #` end a value",
            state="nothing was started",
            next_step="move the checkout to a folder with a simpler name",
        )
    return text.replace("%", "%%")


def _path(path: Path) -> str:
    """Refuse what supervisord expands twice in names of log files, so that no escape helps."""
    if "%" in str(path):
        raise ConfigurationError(
            f"supervisord cannot write to {path}: the name has a `%`",
            state="nothing was started",
            next_step="move the checkout to a folder with a simpler name",
        )
    return _plain(path)


def _quoted(value: str) -> str:
    quote = next((each for each in "\"'" if each not in value), None)
    if quote is None:
        raise ConfigurationError(
            "supervisord cannot be given a variable that has both kinds of quotes",
            state="nothing was started",
            next_step="remove the quotes from the environment variables SLIPWAY_* and PATH",
        )
    return f"{quote}{_plain(value)}{quote}"


def last_lines(log: Path, count: int = 15) -> str:
    """The end of a log file, for an error message.

    Args:
        log: The file; one that does not exist is empty.
        count: How many lines at most.

    Returns:
        Those lines.
    """
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-count:])
    except FileNotFoundError:
        return ""


def answers(port: int) -> bool:
    """Whether anything listens on a port of loopback."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((HOST, port)) == 0
