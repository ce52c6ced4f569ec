"""A local PostgreSQL for the Prefect server, as data and as a program.

`python -m deployments.local.postgres --bin=FOLDER --folder=FOLDER --port=PORT` makes the database
on its first start and becomes the server. It listens on loopback alone and asks everybody for the
password that it finds in the variable `SLIPWAY_DATABASE_PASSWORD`.
"""

from __future__ import annotations

import argparse
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import quote

from deployments.local.ports import HOST
from deployments.local.program import Program
from tasks.core.errors import ConfigurationError

NAME = "postgres"
PORT = "postgres"
_USER = "slipway"
_DATABASE = "postgres"  # the one that every new cluster has
_PASSWORD = "SLIPWAY_DATABASE_PASSWORD"  # noqa: S105  # a name, not a secret
# Where Debian and Homebrew put what they do not put on PATH; the newest version is taken.
_FOLDERS = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",
)
_DATA = "data"
_NEEDED = ("initdb", "postgres")
# PostgreSQL refuses to run as root; its packages bring the first of these, every system the other.
_UNPRIVILEGED = ("postgres", "nobody")


def find(path: str | None = None, folders: Iterable[str] = _FOLDERS) -> Path:
    """Find PostgreSQL's programs.

    Args:
        path: Folders to look in first, as in `PATH`, which it is by default.
        folders: Patterns of further folders.

    Returns:
        The folder that they are in.

    Raises:
        ConfigurationError: PostgreSQL is not installed.
    """
    server = shutil.which("postgres", path=path)
    candidates = [Path(server).resolve().parent] if server else []
    for pattern in folders:
        found = Path("/").glob(pattern.lstrip("/"))
        candidates += sorted(found, key=_version, reverse=True)
    for candidate in candidates:
        if all((candidate / name).exists() for name in _NEEDED):
            return candidate
    macos = sys.platform == "darwin"
    install = "brew install postgresql@17" if macos else "apt-get install postgresql"
    raise ConfigurationError(
        "PostgreSQL is not installed: there is no `postgres` and `initdb` on PATH, nor in "
        + ", ".join(folders),
        state="nothing was started",
        next_step=f"{install}; or `make up DB=sqlite`, which does without automations",
    )


def _version(folder: Path) -> list[int]:
    digits = "".join(letter if letter.isdigit() else " " for letter in str(folder))
    return [int(number) for number in digits.split()]


def program(
    checkout: Path, bin_folder: Path, folder: Path, ports: Mapping[str, int], password: str
) -> Program:
    """Describe the server.

    Args:
        checkout: Where this package is.
        bin_folder: Where PostgreSQL's programs are.
        folder: Where its data are.
        ports: Its port, by name.
        password: The password that it asks for.

    Returns:
        The program.
    """
    port = ports[PORT]
    return Program(
        name=NAME,
        argv=(
            sys.executable,
            "-m",
            "deployments.local.postgres",
            f"--bin={bin_folder}",
            f"--folder={folder}",
            f"--port={port}",
        ),
        directory=checkout,
        environment={_PASSWORD: password},
        ports=(PORT,),
        health=f"tcp://{HOST}:{port}",
        # Without it the server would wait for its clients to leave first.
        stop_signal="INT",
        stop_seconds=20,
        priority=10,
    )


def connection_url(ports: Mapping[str, int], password: str) -> str:
    """How the Prefect server reaches it; has the password in it.

    Args:
        ports: Its port, by name.
        password: The password that it asks for.

    Returns:
        The URL.
    """
    login = f"{_USER}:{quote(password)}"
    return f"postgresql+asyncpg://{login}@{HOST}:{ports[PORT]}/{_DATABASE}"


def initialize(bin_folder: Path, data: str) -> list[str]:
    """The command that makes an empty database, its password from standard input."""
    return [
        str(bin_folder / "initdb"),
        f"--pgdata={data}",
        f"--username={_USER}",
        "--pwfile=/dev/stdin",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--no-locale",
    ]


def serve(bin_folder: Path, data: str, port: int) -> list[str]:
    """The command that serves a database on loopback, by TCP alone."""
    settings = {
        "listen_addresses": HOST,
        "port": str(port),
        "unix_socket_directories": "",
        # Most of what a stack for one person needs; the default reserves 128 MB.
        "shared_buffers": "32MB",
        "max_connections": "60",
        "timezone": "UTC",
    }
    options = [f"--{name}={value}" for name, value in settings.items()]
    return [str(bin_folder / "postgres"), "-D", data, *options]


def main() -> None:
    """Make the database unless it is there, then become its server."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    password = os.environ.pop(_PASSWORD)
    arguments.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = str(arguments.folder)
    if os.geteuid() == 0:
        folder = _step_down(arguments.folder)
    data, draft = f"{folder}/{_DATA}", f"{folder}/draft"
    if not Path(data).exists():
        shutil.rmtree(draft, ignore_errors=True)  # what a killed attempt left
        command = initialize(arguments.bin, draft)
        # With our descriptors, for one of them may be the folder, see `_step_down`.
        subprocess.run(
            command, input=f"{password}\n", text=True, check=True, cwd="/", close_fds=False
        )
        Path(draft).rename(data)
    os.chdir("/")
    command = serve(arguments.bin, data, arguments.port)
    os.execv(command[0], command)  # noqa: S606


def _step_down(folder: Path) -> str:
    """Become an ordinary user who owns a folder, for good.

    Folders above it are root's alone, and may stay so: an open folder can be entered by its
    descriptor, which the programs started from here inherit, whoever may pass those above it.

    Returns:
        A name of the folder that this user can use.
    """
    if not Path("/proc/self/fd").is_dir():
        raise ConfigurationError(
            "PostgreSQL does not run as root",
            state="the database does not run",
            next_step="make down, then `make up DB=postgres` as another user",
        )
    user = _owner(folder / _DATA)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    os.set_inheritable(descriptor, True)
    os.fchown(descriptor, user.pw_uid, user.pw_gid)
    os.setgroups([])
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    return f"/proc/self/fd/{descriptor}"


def _owner(data: Path) -> pwd.struct_passwd:
    """The user whose the data are, or are to be."""
    if data.exists():
        return pwd.getpwuid(data.stat().st_uid)
    users = {user.pw_name: user for user in pwd.getpwall()}
    return next(users[name] for name in _UNPRIVILEGED if name in users)


if __name__ == "__main__":
    main()
