"""Boxes: what a program with code of a ref may see, change and use.

Everything that a box does not name is not there: no credentials, no other workspace or release, no
process of the host, no network.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tasks.core import commands
from tasks.core.commands import Argv
from tasks.core.errors import ConfigurationError
from tasks.core.settings import Settings
from tasks.sandbox import bubblewrap, launcher
from tasks.sandbox.seccomp import forbid_connections

_LAUNCHER, _SERVER = Path(launcher.__file__), Path(__file__).with_name("server.py")
_SHARED_MEMORY_BYTES = 1 << 30  # of /dev/shm, which joblib and data loaders fill
_TEMPORARY_BYTES = 256 << 20  # of /tmp, where a box has none on disk
# Variables that say nothing of this host's secrets. The last two mark a process that outlives its
# stack or its run, so that it is found.
_VARIABLES = frozenset({
    "LANG", "LANGUAGE", "LC_ALL", "TZ", "PYTHONUNBUFFERED", "DO_NOT_TRACK",
    "ITERATIVE_DO_NOT_TRACK", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE",
    "SLIPWAY_STACK", "PREFECT__FLOW_RUN_ID",
})  # fmt: skip
_WITH_NETWORK = frozenset({
    "ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "all_proxy", "http_proxy", "https_proxy", "no_proxy",
})  # fmt: skip


@dataclass(frozen=True)
class Box:
    """The rights of one program: everything that it may see, change and use.

    Attributes:
        folder: Its working directory.
        writable: Files and folders that it may change.
        spool: A folder that it may change; it starts without, should somebody have removed it.
        readable: Files and folders that it may read; wins over `writable` further up.
        pythons: Interpreters that it runs, each with its environment.
        temporary: Folder on disk for its temporary files; in memory if there is none.
        network: Whether it reaches the network.
        variables: Names of variables that it gets beside those that every box gets.
        settings: Further variables; never a secret, the process list shows them.
        port: Port of loopback on which it serves, through a socket that it inherits; nothing in
            the box can connect one.
        yields: Whether the host's other programs come first, for processors and when memory ends.
    """

    folder: Path
    writable: tuple[Path, ...] = ()
    spool: Path | None = None
    readable: tuple[Path, ...] = ()
    pythons: tuple[Path, ...] = ()
    temporary: Path | None = None
    network: bool = False
    variables: frozenset[str] = frozenset()
    settings: Mapping[str, str] = field(default_factory=dict)
    port: int | None = None
    yields: bool = True


def start_in(box: Box, argv: Argv) -> Argv:
    """Make the command that runs a program in a box; plainly, with a warning, where there is none.

    Args:
        box: The box.
        argv: The program and its arguments. One that serves on a port is `python -m MODULE …`.

    Raises:
        ConfigurationError: This host must have a sandbox (`SLIPWAY_SANDBOX=required`), and cannot.
    """
    settings = Settings()
    program = None if settings.sandbox == "container" else bubblewrap.find_bubblewrap()
    if program is None and settings.sandbox == "required":
        raise ConfigurationError(
            "this host cannot run bubblewrap, and SLIPWAY_SANDBOX requires it",
            state="no code of the ref was started",
            next_step="allow user namespaces on this host, or set SLIPWAY_SANDBOX=container for a"
            " worker in a container of its own that holds no secrets",
        )
    if program is None and settings.sandbox == "auto":
        commands.run_logger().warning(
            "this host cannot run bubblewrap: code of the ref runs with all rights of the worker"
        )
    names = _VARIABLES | box.variables | (_WITH_NETWORK if box.network else frozenset())
    own = {"HOME": "/tmp", "TMPDIR": "/tmp"}  # noqa: S108 - of the box
    folders = own if program else _plain_folders(box)
    specification = launcher.Specification(
        sandbox=[program, *options(box, settings)] if program else [],
        command=_serve_inherited(argv) if program and box.port else argv,
        variables=sorted(names),
        settings={"PATH": _path(), **folders, **box.settings},
        filter=base64.b64encode(forbid_connections()).decode() if program and box.port else "",
        port=box.port if program else None,
        yields=box.yields,
        memory_bytes=int(settings.sandbox_memory_gb * (1 << 30)),
        processes=settings.sandbox_processes,
        disk=str(box.temporary or settings.home),
        free_disk_bytes=int(settings.sandbox_free_disk_gb * (1 << 30)),
    )
    # Without site-packages, of which it needs none: 10 ms instead of 100.
    return [sys.executable, "-I", "-S", str(_LAUNCHER), json.dumps(specification)]


def options(box: Box, settings: Settings) -> Argv:
    """Make bubblewrap's options for a box; later mounts cover earlier ones."""
    argv = [*bubblewrap.ISOLATION, *([] if box.network else ["--unshare-net"])]
    argv += bubblewrap.mount_system(network=box.network)
    argv += ["--size", str(_SHARED_MEMORY_BYTES), "--tmpfs", "/dev/shm", "--remount-ro", "/dev"]  # noqa: S108
    if box.temporary:
        argv += ["--bind", str(box.temporary), "/tmp"]  # noqa: S108
    else:
        argv += ["--size", str(_TEMPORARY_BYTES), "--tmpfs", "/tmp"]  # noqa: S108
    home = str(settings.home.absolute())
    argv += ["--tmpfs", home]  # an installation may lie inside a folder of the system
    for path in _installations(box.pythons):
        argv += ["--ro-bind", str(path.resolve()), str(path)]
    for path in box.writable:
        argv += ["--bind", str(path), str(path)]
    if box.spool:
        argv += ["--bind-try", str(box.spool), str(box.spool)]
    for path in (*box.readable, *([_SERVER] if box.port else [])):
        argv += ["--ro-bind", str(path), str(path)]
    return [*argv, "--remount-ro", home, "--remount-ro", "/", "--chdir", str(box.folder)]


def _installations(pythons: tuple[Path, ...]) -> list[Path]:
    """List the folders of interpreters and their environments, by each path that names them."""
    folders: set[Path] = set()
    for python in pythons:
        environment = python.parent.parent
        if (environment / "pyvenv.cfg").is_file():
            folders.add(environment)
        # Not the folder above `bin`: of a link in ~/bin, that is the whole home directory.
        for hop in (python, *_hops(python)):
            folders |= {hop.parent.parent / name for name in ("bin", "lib", "lib64", "include")}
    system = [Path(name) for name in bubblewrap.SYSTEM]
    return sorted(
        folder
        for folder in folders
        if folder.is_dir() and not any(folder.is_relative_to(path) for path in system)
    )


def _hops(link: Path) -> Iterator[Path]:
    while link.is_symlink():
        link = link.parent / link.readlink()
        yield Path(os.path.normpath(link))
        yield link.parent.resolve() / link.name


def _serve_inherited(argv: Argv) -> Argv:
    python, module, *arguments = argv
    if module != "-m":
        raise ValueError(f"{argv}: a program that serves is `python -m MODULE`")
    return [python, str(_SERVER), *arguments]


def _plain_folders(box: Box) -> dict[str, str]:
    home = {"HOME": str(box.temporary or box.folder)}
    return home | ({"TMPDIR": str(box.temporary)} if box.temporary else {})


def _path() -> str:
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
