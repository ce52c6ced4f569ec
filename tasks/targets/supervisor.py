"""Remote control of a supervisord (XML-RPC), which keeps model servers alive on a host."""

from __future__ import annotations

import base64
import configparser
import http.client
import time
import xmlrpc.client
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from tasks.errors import TerminalError, TransientError

_RPC_SECONDS = 20.0
_STOP_SECONDS = 30


class _Transport(xmlrpc.client.Transport):
    """HTTP with a time-out; credentials in a header, as URLs end up in the texts of errors."""

    def __init__(self, login: str) -> None:
        super().__init__(headers=[("Authorization", f"Basic {login}")])

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        connection = super().make_connection(host)
        connection.timeout = _RPC_SECONDS
        return connection


@dataclass(frozen=True)
class Program:
    """A program that supervisord is to keep alive.

    Attributes:
        name: Its name.
        argv: What to run.
        folder: Where to run it.
        environment: All that is added to supervisord's own environment.
        log: File for what it says.
    """

    name: str
    argv: Sequence[str]
    folder: Path
    environment: Mapping[str, str]
    log: Path

    def configuration(self) -> str:
        """The section for supervisord's configuration; % is special there."""

        def quoted(text: str) -> str:
            return '"' + text.replace("%", "%%").replace('"', '\\"') + '"'

        settings = {
            "command": " ".join(quoted(word) for word in self.argv),
            "directory": str(self.folder).replace("%", "%%"),
            "environment": ",".join(f"{k}={quoted(v)}" for k, v in self.environment.items()),
            "autostart": "true",
            "autorestart": "true",
            "startsecs": "0",
            "stopwaitsecs": str(_STOP_SECONDS),
            "stopasgroup": "true",
            "killasgroup": "true",
            "redirect_stderr": "true",
            "stdout_logfile": str(self.log).replace("%", "%%"),
            "stdout_logfile_maxbytes": "5MB",
            "stdout_logfile_backups": "1",
        }
        lines = "".join(f"{key} = {value}\n" for key, value in settings.items() if value)
        return f"[program:{self.name}]\n{lines}"


class Supervisor:
    """One supervisord, and the folder from which it includes configuration.

    Args:
        url: Where it listens.
        username: Login.
        password: Password.
        folder: `conf.d` folder.
    """

    def __init__(self, url: str, username: str, password: str, folder: Path) -> None:
        self._url = f"{url}/RPC2"
        self._login = base64.b64encode(f"{username}:{password}".encode()).decode()
        self._where = urlsplit(url).netloc
        self._folder = folder

    def running(self, prefix: str) -> dict[str, dict[str, Any]]:
        """Programs whose name begins with a prefix: supervisord's own description of each."""
        found = cast("list[dict[str, Any]]", self._call("getAllProcessInfo"))
        return {each["name"]: each for each in found if each["name"].startswith(prefix)}

    def add(self, program: Program) -> None:
        """Start a program and keep it alive, over restarts of supervisord too.

        Args:
            program: The program.

        Raises:
            TransientError: supervisord does not answer.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._folder / f"{program.name}.conf"
        partial = file.with_suffix(".partial")
        partial.touch(mode=0o600)
        partial.write_text(program.configuration())
        partial.replace(file)
        self._call("reloadConfig")
        self._call("addProcessGroup", program.name, tolerate=("ALREADY_ADDED",))

    def remove(self, name: str) -> None:
        """Stop a program, waiting until it has ended, and forget it.

        Args:
            name: Its name; one that is not known is not an error.

        Raises:
            TransientError: supervisord does not answer, or the program does not end.
        """
        (self._folder / f"{name}.conf").unlink(missing_ok=True)
        deadline = time.monotonic() + _STOP_SECONDS + 5
        while self.running(name):
            # Again and again: one that has just died is started again unless it is told to stop.
            self._call("stopProcess", name, False, tolerate=("NOT_RUNNING", "BAD_NAME"))
            self._call("removeProcessGroup", name, tolerate=("STILL_RUNNING", "BAD_NAME"))
            if time.monotonic() > deadline:
                raise TransientError(
                    f"{name} does not end",
                    state="it still runs, without traffic",
                    next_step="run the flow again; it stops what is not live",
                )
            time.sleep(0.05)
        self._call("reloadConfig")

    def _call(self, method: str, *arguments: Any, tolerate: Sequence[str] = ()) -> Any:
        try:
            with xmlrpc.client.ServerProxy(self._url, _Transport(self._login)) as rpc:
                return getattr(rpc.supervisor, method)(*arguments)
        except xmlrpc.client.Fault as fault:
            if any(word in fault.faultString for word in tolerate):
                return None
            raise TransientError(
                f"supervisord at {self._where}: {method}: {fault.faultString}",
                state="the live model is untouched",
                next_step="run the flow again",
            ) from fault
        except xmlrpc.client.ProtocolError as error:
            raise TerminalError(
                f"supervisord at {self._where} refuses us: {error.errcode} {error.errmsg}",
                state="the live model is untouched",
                next_step="run `make down` and `make up`",
            ) from error
        except (OSError, http.client.HTTPException, configparser.Error) as error:
            raise TransientError(
                f"supervisord at {self._where} does not answer: {error}",
                state="the live model, if there was one, is untouched",
                next_step="run `make up`, then the flow again",
            ) from error
