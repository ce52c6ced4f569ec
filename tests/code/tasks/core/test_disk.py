"""Full, read-only and closed disks: what stays as it was, and what a person reads."""

from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from deployments.local import state_file
from deployments.local.credentials import write_private
from deployments.local.layout import Layout
from tasks.core import commands
from tasks.core.disk import explain_disk_error, explaining_disk_errors
from tasks.core.errors import TerminalError
from tasks.images.layers import write_layer
from tasks.package.bundle import make_bundle
from tasks.package.package import Package
from tasks.platforms.host.gateway import Gateway
from tasks.platforms.host.route import Route
from tasks.platforms.process import launch
from tasks.platforms.process.supervisor import Program, Supervisor
from tasks.release.locks.host import HostLock
from tasks.release.locks.lock import hold
from tasks.repository.workspace import Workspace, open_workspace


@pytest.fixture
def full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A disk of 256 kB without a free byte, which is the home of flows."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k,mode=700", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk")
    monkeypatch.setenv("SLIPWAY_HOME", str(disk))
    try:
        for name in ("routes", "locks"):
            (disk / name).mkdir()
        (disk / "routes" / "local.yml").write_text("as it was")
        _fill(disk / "filler")
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def _fill(file: Path) -> None:
    with suppress(OSError), file.open("wb", buffering=0) as filler:
        while True:
            filler.write(bytes(4096))


def _package(folder: Path) -> Package:
    """Return a package of two files, in no repository."""
    (folder / "serving").mkdir(parents=True)
    (folder / "serving" / "app.py").write_text("# code\n" * 9000)
    (folder / "model").mkdir()
    (folder / "params.yaml").write_text("name: wine\n")
    for name in ("wine", "wine.mlem", "wine.golden.json", "wine.runtime.json"):
        (folder / "model" / name).write_bytes(b"")
    workspace = Workspace(folder, "0" * 40, "main")
    return Package(workspace, "wine", "0" * 40, "md5", "", 0, "3.12.1", {}, {}, "")


def _switch(disk: Path, _: Path) -> None:
    Gateway(disk / "routes", "http://127.0.0.1:1", "local").switch(Route("new", (1,)))


def _add(disk: Path, other: Path) -> None:
    program = Program("model", ("true",) * 9000, other)
    Supervisor("http://127.0.0.1:1", "", "").add(program, disk / "supervisor" / "conf.d", other)


def _bundle(disk: Path, other: Path) -> None:
    package, folder = _package(other), disk / "bundles" / "local"
    file = package.workspace.path / "model" / "wine"
    try:
        make_bundle(package, file, other, folder, environment="local", identifier="r")
    finally:
        assert not list(folder.iterdir())


def _layer(disk: Path, _: Path) -> None:
    write_layer(disk / "layers" / "one", {"/noise": os.urandom(100_000)})


def _remember(disk: Path, other: Path) -> None:
    ports = {f"port-{number}": number for number in range(9000)}
    state_file.write_ports(Layout(disk, other, ports, "local"))


def _keep_secret(disk: Path, _: Path) -> None:
    write_private(disk / "secrets" / "credentials.json", "x" * 9000)


@pytest.mark.parametrize(
    "write", [_switch, _add, _bundle, _layer, _remember, _keep_secret], ids=lambda it: it.__name__
)
def test_full_disk_is_named_wherever_something_is_written(
    full: Path, tmp_path: Path, write: Callable[[Path, Path], None]
) -> None:
    says = f"the disk of {full}.* is full"
    with pytest.raises(TerminalError, match=says) as error, explaining_disk_errors():
        write(full, tmp_path / "other")
    assert error.value.state
    assert "df" in error.value.next_step
    assert (full / "routes" / "local.yml").read_text() == "as it was"


def test_program_starts_although_the_disk_is_full(full: Path) -> None:
    launcher = [sys.executable, "-I", "-S", launch.__file__, str(full / "model.pid"), "10"]
    program = [sys.executable, "-c", "print('serving')"]
    done = subprocess.run([*launcher, *program], capture_output=True, text=True, check=True)
    assert done.stdout == "serving\n"
    assert launch.read_process(full / "model.pid") is None


async def test_lock_on_a_full_disk_is_free_again(full: Path) -> None:
    with pytest.raises(TerminalError, match="is full"):
        async with hold(HostLock("local"), "wine@1234567"):
            raise AssertionError("the lock has a holder that nobody can read")
    assert await HostLock("local").read_holder() is None
    (full / "filler").unlink()
    async with hold(HostLock("local"), "wine@1234567"):
        assert str(await HostLock("local").read_holder()).startswith("flow run by hand")


async def test_clone_to_a_full_disk_says_so(
    full: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_ORIGIN", str(source))
    monkeypatch.setattr("tasks.repository.workspace.check_out", _check_out())
    with pytest.raises(TerminalError, match=r"the disk of .* is full: `git .*` failed"):
        async with open_workspace("main"):
            raise AssertionError("there is no room for a clone")
    assert not list((full / "workspaces").iterdir())


def _check_out() -> Callable[..., object]:
    """Return `check_out` without the task around it, which needs a server."""
    from tasks.repository.workspace import check_out

    return check_out.fn


async def test_failed_command_is_not_blamed_on_a_disk_with_space(tmp_path: Path) -> None:
    result = await commands.run([sys.executable, "-c", "exit(3)"], timeout=20, cwd=tmp_path)
    assert result.code == 3


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "/a/file"),
            "the disk of /a/file is full",
        ),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "/a/file"), "the disk of /a/file is full"),
        (OSError(errno.EROFS, "Read-only file system", "/a/file"), "use /a/file: Read-only"),
        (PermissionError(errno.EACCES, "Permission denied", "/a/file"), "/a/file: Permission"),
        (PermissionError(errno.EACCES, "Permission denied"), None),  # of a port, not of a file
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "/a/file"), None),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), None),
    ],
)
def test_errors_of_disks_and_no_others_are_explained(error: OSError, says: str | None) -> None:
    explanation = explain_disk_error(error)
    if says is None:
        assert explanation is None
    else:
        assert explanation
        assert says in explanation.what
        assert explanation.state
        assert str(pickle.loads(pickle.dumps(explanation))) == str(explanation)
