"""supervisord: the section of a program in its configuration, and its remote control (XML-RPC)."""

from __future__ import annotations

import base64
import http.client
import shlex
import sys
import time
import xmlrpc.client
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.core.errors import ConfigurationError, TransientError
from tasks.platforms.base.no_answer import no_answer
from tasks.platforms.process import launch

_RPC_SECONDS = 20.0
_STOP_SECONDS = 40.0
_ENDS = ("\n", "\r", " ;", " #")  # these end a value in supervisord's configuration


@dataclass(frozen=True)
class Program:
    """A program that supervisord keeps alive.

    Attributes:
        name: Its name, also of its log file.
        argv: Command and arguments; never a secret, every user of the machine can read them.
        directory: Working directory.
        environment: Variables beside the inherited ones.
        autostart: Start it together with supervisord.
        stop_signal: Signal that asks it to stop.
        stop_seconds: Time to stop before it is killed.
        priority: Lower ones start first and stop last.
    """

    name: str
    argv: tuple[str, ...]
    directory: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    autostart: bool = True
    stop_signal: str = "TERM"
    stop_seconds: int = 10
    priority: int = 100


@dataclass(frozen=True)
class Reload:
    """The outcome of a reload of the configuration.

    Attributes:
        restarted: Programs that were added, or stopped because they changed; none runs yet.
        outdated: Programs that changed and were kept as they were.
    """

    restarted: Sequence[str]
    outdated: Sequence[str]


class _Transport(xmlrpc.client.Transport):
    """HTTP with a time-out; credentials in a header, as URLs end up in the texts of errors."""

    def __init__(self, login: str) -> None:
        super().__init__(headers=[("Authorization", f"Basic {login}")])

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        connection = super().make_connection(host)
        connection.timeout = _RPC_SECONDS
        return connection


class Supervisor:
    """Remote control of one supervisord.

    Args:
        url: Address on which it listens.
        username: Login.
        password: Password.
    """

    def __init__(self, url: str, username: str, password: str) -> None:
        self.url = url
        self._login = base64.b64encode(f"{username}:{password}".encode()).decode()

    def alive(self) -> bool:
        """Return whether supervisord answers to our password."""
        try:
            return bool(self._call("getState"))
        except TransientError:
            return False

    def programs(self, prefix: str = "") -> dict[str, dict[str, Any]]:
        """Return supervisord's description of the programs whose name begins with a prefix."""
        programs = self._call("getAllProcessInfo")
        return {
            program["name"]: program for program in programs if program["name"].startswith(prefix)
        }

    def start(self, name: str) -> None:
        """Start a program unless it runs; does not wait until it is ready."""
        self._call("startProcess", name, False, ignore=("ALREADY_STARTED",))

    def stop(self, name: str) -> None:
        """Stop a program and wait until it has ended."""
        self._call("stopProcess", name, False, ignore=("NOT_RUNNING",))
        while self.programs(name)[name]["statename"] in {"STOPPING", "RUNNING"}:
            time.sleep(0.05)

    def stop_all(self) -> None:
        """Ask every program to stop, all at once."""
        self._call("stopAllProcesses", False)

    def shutdown(self) -> None:
        """Ask supervisord to stop its programs and itself."""
        self._call("shutdown")

    def add(self, program: Program, folder: Path, logs: Path) -> None:
        """Start one more program and keep it alive, over restarts of supervisord too.

        Args:
            folder: Folder from which supervisord includes its configuration.
            logs: Folder for its log.

        Raises:
            TransientError: supervisord does not answer.
        """
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{program.name}.conf"
        partial = file.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        partial.touch(mode=0o600)  # its variables may be secret
        partial.write_text(section(program, logs))
        partial.replace(file)
        self._call("reloadConfig")
        self._call("addProcessGroup", program.name, ignore=("ALREADY_ADDED",))

    def remove(self, names: Collection[str], folder: Path) -> None:
        """Stop programs that were added, all at once, wait until they have ended, and forget them.

        Args:
            names: Their names; one that is not known is not an error.
            folder: Folder from which supervisord includes its configuration.

        Raises:
            TransientError: supervisord does not answer, or a program does not end.
        """
        for name in names:
            (folder / f"{name}.conf").unlink(missing_ok=True)
        deadline = time.monotonic() + _STOP_SECONDS
        while remaining := sorted(self.programs().keys() & set(names)):
            for name in remaining:
                # Repeatedly: supervisord restarts a program that has just died unless it is
                # stopped.
                self._call("stopProcess", name, False, ignore=("NOT_RUNNING", "BAD_NAME"))
                self._call("removeProcessGroup", name, ignore=("STILL_RUNNING", "BAD_NAME"))
            if time.monotonic() > deadline:
                raise TransientError(
                    f"could not stop {remaining[0]}",
                    state="it still runs, without traffic",
                    next_step="run the flow again; it stops what is not live",
                )
            time.sleep(0.05)
        self._call("reloadConfig")

    def reload(self, ours: Sequence[str], *, keep: Collection[str] = ()) -> Reload:
        """Take over what changed in the configuration of some programs.

        Args:
            ours: Names of the programs; others are left as they are.
            keep: Those that go on with their former configuration until a later reload.
        """
        added, changed, removed = self._call("reloadConfig")[0]
        outdated = [name for name in ours if name in keep and name in (*changed, *removed)]
        ours = [name for name in ours if name not in outdated]
        for name in ours:
            if name in changed or name in removed:
                self.stop(name)
                self._call("removeProcessGroup", name)
        fresh = [name for name in ours if name in added or name in changed]
        for name in fresh:
            self._call("addProcessGroup", name)
        return Reload(fresh, outdated)

    def _call(self, method: str, *arguments: Any, ignore: Sequence[str] = ()) -> Any:
        """Call a method of supervisord, ignoring some faults by their names."""
        try:
            with xmlrpc.client.ServerProxy(f"{self.url}/RPC2", _Transport(self._login)) as rpc:
                return getattr(rpc.supervisor, method)(*arguments)
        except xmlrpc.client.Fault as fault:
            if any(name in fault.faultString for name in ignore):
                return None
            raise TransientError(
                f"supervisord at {self.url} refuses {method}{arguments}: {fault.faultString}",
                state="its programs are unchanged",
                next_step="run the same again; if that fails too, run `slipway down` first",
            ) from fault
        except (OSError, http.client.HTTPException, xmlrpc.client.Error) as error:
            raise no_answer(
                f"supervisord at {self.url}",
                method,
                error,
                state="its programs may run without it",
                next_step="run `slipway up`, then the same again",
            ) from error


def section(program: Program, logs: Path) -> str:
    """Make a program's section of supervisord's configuration.

    Args:
        logs: Folder for its log, to which it writes itself.

    Raises:
        ConfigurationError: Something in it cannot be said in supervisord's configuration.
    """
    variables = ",".join(
        f"{name}={_quote(name, value)}" for name, value in program.environment.items()
    )
    return f"""
[program:{program.name}]
command = {plain(shlex.join(_launch(program, logs)))}
directory = {plain(program.directory)}
environment = {variables}
autostart = {str(program.autostart).lower()}
autorestart = true
startsecs = 1
startretries = 5
stopsignal = {program.stop_signal}
stopwaitsecs = {program.stop_seconds}
stopasgroup = true
killasgroup = true
priority = {program.priority}
redirect_stderr = true
stdout_logfile = NONE
"""


def record_of(name: str, logs: Path) -> Path:
    """Return the file that names the process of a program, beside its log."""
    return logs / f"{name}.pid"


def _launch(program: Program, logs: Path) -> list[str]:
    """Make the command that becomes the program, unless a former supervisord's still runs."""
    launcher = [sys.executable, "-I", "-S", launch.__file__]
    record = str(record_of(program.name, logs))
    return [*launcher, record, str(program.stop_seconds), *program.argv]


def plain(value: object) -> str:
    """Escape what supervisord would expand, and refuse what would end the line."""
    text = str(value)
    if any(end in text for end in _ENDS):
        raise ConfigurationError(
            f"supervisord cannot hold {text!r}: line breaks, ` ;` and ` #` end a value",
            state="nothing was started",
            next_step="move the checkout to a folder with a simpler name",
        )
    return text.replace("%", "%%")


def check_variables(variables: Mapping[str, str]) -> None:
    """Refuse variables that supervisord's configuration cannot hold."""
    for name, value in variables.items():
        _quote(name, value)


def _quote(name: str, value: str) -> str:
    """Quote the value of a variable; errors name the variable alone, its value may be secret."""
    # supervisord strips quotes from both ends of a value, and knows no escape for them.
    inner = value.strip("\"'") == value
    quote = next((mark for mark in "\"'" if mark not in value), None)
    if quote is None or not inner or any(end in value for end in _ENDS):
        raise ConfigurationError(
            f"supervisord cannot hold the value of {name}",
            state="nothing was started",
            next_step=f"give {name} a value without line breaks, ` ;`, ` #`, a quote at an end, or"
            " both kinds of quotes",
        )
    return f"{quote}{plain(value)}{quote}"
