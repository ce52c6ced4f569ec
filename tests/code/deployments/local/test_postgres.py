"""Finding PostgreSQL, and the commands it is run with; `test_self_healing.py` runs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployments.local import postgres
from tasks.core.errors import ConfigurationError


def install(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True)
    for name in names or ("initdb", "postgres"):
        (folder / name).touch(mode=0o755)
    return folder


def test_what_is_on_path_comes_first_then_the_newest(tmp_path: Path) -> None:
    old, new = (install(tmp_path / "postgresql" / each / "bin") for each in ("9", "17"))
    patterns = (f"{tmp_path}/postgresql/*/bin",)
    assert postgres.find(path="/nowhere", folders=patterns) == new
    assert postgres.find(path=str(old), folders=patterns) == old


def test_a_client_alone_is_not_a_server(tmp_path: Path) -> None:
    client = install(tmp_path / "client", "postgres")
    server = install(tmp_path / "server")
    assert postgres.find(path=str(client), folders=[str(server)]) == server


def test_without_postgresql_it_says_how_to_install_it() -> None:
    with pytest.raises(ConfigurationError, match=r"PostgreSQL is not installed.*\n.*\n.* install"):
        postgres.find(path="/nowhere", folders=["/nowhere/*/bin"])


def test_no_command_has_a_password_and_none_listens_to_others() -> None:
    folder = Path("/usr/lib/postgresql/17/bin")
    assert postgres.serve(folder, "/data", 5432)[:3] == [f"{folder}/postgres", "-D", "/data"]
    assert "--listen_addresses=127.0.0.1" in postgres.serve(folder, "/data", 5432)
    assert "--unix_socket_directories=" in postgres.serve(folder, "/data", 5432)
    assert "--auth=scram-sha-256" in postgres.initialize(folder, "/data")
    program = postgres.program(Path("/"), folder, Path("/data"), {postgres.PORT: 1}, "secret")
    assert "secret" not in " ".join(program.argv)
    assert "secret" in postgres.connection_url({postgres.PORT: 1}, "secret")
