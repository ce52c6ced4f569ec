from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks.core.errors import ConfigurationError, DataRejected, TerminalError, TransientError
from tasks.repository.git import Git
from tasks.repository.workspace import Workspace
from tasks.training import query, refresh, updates
from tasks.training.database_names import URL_VARIABLE
from tasks.training.refresh import (
    describe_newest_data,
    list_changes,
    refresh_checkout,
    require_same_columns,
)
from tasks.training.sources import Source, find_source, is_allowed, require_own_data

RECORD = {"deps": [{"path": "s3://data/sales.csv", "etag": "1"}], "outs": [{"path": "sales.csv"}]}
SALES = "data/source/sales.csv"
# A query without an end.
ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n"


@pytest.mark.parametrize(
    ("address", "is_one"),
    [
        ("s3://data/sales.csv", True),
        ("s3://data", True),
        ("s3://data-of-others/sales.csv", False),
        ("s3://data/../others/sales.csv", False),
        ("s3://data/%2e%2e/others", False),
        ("/srv/data/sales.csv", True),
        ("/srv/data/../../etc/shadow", False),
        ("https://example.org@evil.example/x", False),
        ("remote://data/sales.csv", False),
        ("", False),
    ],
)
def test_data_come_from_listed_addresses_alone(address: str, is_one: bool) -> None:
    assert is_allowed(address, "s3://data/, /srv/data,,https://example.org") is is_one
    assert not is_allowed(address, "")


@pytest.mark.parametrize(
    "change",
    [
        {"cmd": "rm -rf ~"},
        {"wdir": "../.."},
        {"outs": [{"path": "../../params.yaml"}]},
        {"outs": []},
        {"deps": [{"path": "s3://data/x", "fs_config": {"endpointurl": "http://evil"}}]},
        {"deps": [{"path": "s3://data/x"}, {"path": "s3://data/y"}]},
    ],
)
def test_record_that_dvc_does_not_write_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    record = tmp_path / f"{SALES}.dvc"
    record.parent.mkdir(parents=True)
    record.write_text(yaml.safe_dump(RECORD))
    source = find_source(tmp_path, {"data": {"source": SALES}})
    assert source
    assert source.address == "s3://data/sales.csv"
    record.write_text(yaml.safe_dump(RECORD | change))
    with pytest.raises(ConfigurationError, match="is not the record of one import by DVC"):
        find_source(tmp_path, {"data": {"source": SALES}})


def test_data_of_another_repository_are_refused_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "data/source").mkdir(parents=True)
    repository = {"url": "https://example.org/data.git", "rev_lock": "1f0c72c"}
    record = {"deps": [{"path": "sales.csv", "repo": repository}], "outs": [{"path": "sales.csv"}]}
    (tmp_path / f"{SALES}.dvc").write_text(yaml.safe_dump(record))
    with pytest.raises(ConfigurationError, match="was made by `dvc import`") as refused:
        require_own_data(tmp_path, {"data": {"source": SALES}})
    assert "`dvc import-url`" in str(refused.value)
    with pytest.raises(ConfigurationError):
        find_source(tmp_path, {"data": {"source": SALES}})
    require_own_data(tmp_path, {"data": {"source": "data/source/others.csv"}})


def test_source_is_what_its_own_record_or_that_of_its_folder_names(tmp_path: Path) -> None:
    folder = tmp_path / "data/source"
    folder.mkdir(parents=True)
    (folder / "sales.dvc").write_text(
        yaml.safe_dump({"deps": [{"path": "s3://data/sales"}], "outs": [{"path": "sales"}]})
    )
    for name in ("sales", "sales/2024.csv", "./sales/"):
        source = find_source(tmp_path, {"data": {"source": f"data/source/{name}"}})
        assert source
        assert (source.record.as_posix(), source.address) == (
            "data/source/sales.dvc",
            "s3://data/sales",
        )
    for name in ("sklearn.datasets.load_wine", "data/source/../../etc/passwd", "data/source"):
        assert find_source(tmp_path, {"data": {"source": name}}) is None


@pytest.fixture
def database(tmp_path: Path) -> str:
    path = tmp_path / "shop.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE sales (id INTEGER, name TEXT, share REAL, at TEXT)")
        connection.execute(
            "INSERT INTO sales VALUES (1, 'a,b', 0.5, '2024-01-01'), (2, NULL, 1, '')"
        )
    connection.close()
    return f"sqlite:///{path}"


def run_query(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    url: str,
    text: str,
    folder: Path,
) -> tuple[int, dict[str, Any]]:
    (folder / "q.sql").write_text(text)
    monkeypatch.setenv(URL_VARIABLE, url)
    code = query.main(str(folder / "q.sql"), str(folder / "rows.csv"), "60")
    return code, yaml.safe_load(capsys.readouterr().out)


def test_query_becomes_a_table(
    database: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = "SELECT *, '50%' AS 'a:b' FROM sales WHERE name IS NULL OR name LIKE 'a%' ORDER BY id"
    assert run_query(capsys, monkeypatch, database, text, tmp_path) == (0, {"rows": 2})
    assert (tmp_path / "rows.csv").read_text() == (
        'id,name,share,at,a:b\n1,"a,b",0.5,2024-01-01,50%\n2,,1.0,,50%\n'
    )


@pytest.mark.parametrize(
    ("url", "text", "kind", "mentions"),
    [
        ("", "SELEC 1", "query", "syntax error"),
        ("", "SELECT * FROM orders", "query", "no such table"),
        ("", "SELECT x'00' AS b", "query", "column 'b' has values of type bytes; cast it"),
        ("", "ATTACH 'other.db' AS other", "query", "too many attached databases"),
        ("sqlite:////no/such/folder/x.db", "SELECT 1", "connection", "unable to open"),
        ("nonsense", "SELECT 1", "url", "is not one of SQLAlchemy"),
        ("mssql+pyodbc://u:secret@host/db", "SELECT 1", "driver", "uv add"),
    ],
)
def test_query_that_fails_says_why(
    database: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    url: str,
    text: str,
    kind: str,
    mentions: str,
) -> None:
    code, problem = run_query(capsys, monkeypatch, url or database, text, tmp_path)
    assert (code, problem["kind"]) == (1, kind)
    assert mentions in problem["problem"]
    assert "secret" not in problem["problem"]


@pytest.mark.parametrize(
    "text", ["DELETE FROM sales RETURNING id", "DROP TABLE sales", "VACUUM INTO 'copy.db'"]
)
def test_query_changes_nothing(
    database: str,
    text: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_query(capsys, monkeypatch, database, text, tmp_path)
    _, answer = run_query(capsys, monkeypatch, database, "SELECT * FROM sales", tmp_path)
    assert answer == {"rows": 2}


async def test_query_without_rows_or_without_an_end_leaves_the_data(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data/source"
    folder.mkdir(parents=True)
    (folder / "sales.csv").write_text("id\n1\n")
    source = Source(tmp_path, Path(SALES), Path(f"{SALES}.dvc"), "", "shop")
    with pytest.raises(ConfigurationError, match="there is no query"):
        await updates.refresh_query(source, database, {})
    (folder / "sales.sql").write_text("SELECT * FROM sales WHERE id > 9")
    # A query runs outside of the sandbox, in a folder of the commit.
    trace = tmp_path / "imported"
    for module in ("sqlalchemy.py", "tasks/__init__.py", "csv.py"):
        (tmp_path / module).parent.mkdir(exist_ok=True)
        (tmp_path / module).write_text(f"open({str(trace)!r}, 'w')\n")
    with pytest.raises(DataRejected, match="returned no rows"):
        await updates.refresh_query(source, database, {})
    assert not trace.exists()
    (folder / "sales.sql").write_text(ENDLESS)
    monkeypatch.setenv("SLIPWAY_REFRESH_SECONDS", "1")
    with pytest.raises(TerminalError, match="took longer than 1 s"):
        await updates.refresh_query(source, database, {})
    assert sorted(path.name for path in folder.iterdir()) == ["sales.csv", "sales.sql"]
    assert (folder / "sales.csv").read_text() == "id\n1\n"


async def test_person_refreshes_a_checkout(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_DATABASE_SHOP", database)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("[core]\n    no_scm = true\n")
    (tmp_path / "data/source").mkdir(parents=True)
    (tmp_path / "data/source/sales.sql").write_text("SELECT id FROM sales ORDER BY id")
    (tmp_path / "params.yaml").write_text(f"data: {{source: {SALES}, database: shop}}")
    first = await refresh_checkout(tmp_path)
    assert first == f"{SALES} was refreshed; next: commit {SALES}.dvc, and `dvc push`"
    assert (tmp_path / SALES).read_text() == "id\n1\n2\n"
    assert await refresh_checkout(tmp_path) == f"{SALES} is up to date"


def test_columns_may_move_and_numbers_widen_but_not_become_text() -> None:
    def describe(target: str, **columns: str) -> dict[str, Any]:
        return {
            "target": {"name": "y", "dtype": target},
            "columns": {name: {"dtype": dtype} for name, dtype in columns.items()},
        }

    former = describe("object", a="int64", b="datetime64[us]", c="bool")
    assert (
        list_changes(former, describe("object", c="boolean", a="float64", b="datetime64[us]")) == []
    )
    assert list_changes(former, describe("int64", a="object", b="object", d="bool")) == [
        "column 'a' was number, and is text now",
        "column 'b' was date, and is text now",
        "column 'c' is missing",
        "column 'y' was text, and is number now",
        "column 'd' is new",
    ]


async def test_other_columns_are_rejected_unless_the_commit_reads_them_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVC writes `yes` without quotes, as a text of YAML 1.2."""
    section = "data: {target: y, positive: yes, drop_classes: [no]}"
    lock = f"stages: {{process: {{params: {{params.yaml: {{{section}}}}}}}}}"
    former = {"target": {"name": "y", "dtype": "object"}, "columns": {"a": {"dtype": "int64"}}}
    files = {"dvc.lock": lock, "reports/data.json": json.dumps(former)}

    async def read(_workspace: Workspace, _commit: str, name: str) -> str:
        return files[name]

    monkeypatch.setattr("tasks.training.refresh.read_at", read)
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports/data.json").write_text(json.dumps({**former, "columns": {}}))
    text = f"name: wine\n{section}"
    (tmp_path / "params.yaml").write_text(text)
    workspace = Workspace(tmp_path, "1f0c72c", "main")
    with pytest.raises(DataRejected, match="column 'a' is missing"):
        await require_same_columns(workspace)
    (tmp_path / "params.yaml").write_text(text.replace("positive: yes", "positive: no"))
    await require_same_columns(workspace)


async def test_refresh_brings_a_new_file_of_a_folder_and_follows_no_configuration(
    tmp_path: Path,
) -> None:
    shop, workspace = tmp_path / "shop", tmp_path / "workspace"
    (workspace / ".dvc").mkdir(parents=True)
    (workspace / ".dvc" / "config").write_text("[core]\n    no_such_key = 1\n")  # DVC refuses it
    former = workspace / "data/source/sales"
    for folder, days in ((former, (1,)), (shop, (1, 2))):
        folder.mkdir(parents=True)
        for day in days:
            (folder / f"{day}.csv").write_text(f"id\n{day}\n")
    md5 = "0" * 32 + ".dir"
    record = {"deps": [{"path": str(shop), "md5": md5, "hash": "md5", "size": 5, "nfiles": 1}],
              "outs": [{"path": "sales", "md5": md5, "hash": "md5", "size": 5, "nfiles": 1}],
              "frozen": True}  # fmt: skip
    former.with_name("sales.dvc").write_text(yaml.safe_dump(record))
    source = find_source(workspace, {"data": {"source": "data/source/sales"}})
    assert source
    assert is_allowed(source.address, str(tmp_path))
    cache = tmp_path / "cache"
    with updates.separate_repository(source, tmp_path / "separate", cache) as alone:
        await updates.refresh_import(alone, {"DVC_SITE_CACHE_DIR": str(tmp_path / "site")})
    assert sorted(path.name for path in former.iterdir()) == ["1.csv", "2.csv"]
    assert source.digest not in ("", md5)
    assert (cache / "files" / "md5" / source.digest[:2] / source.digest[2:]).is_file()
    assert not (tmp_path / "separate").exists()


async def test_another_try_after_an_update_still_has_new_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else their columns would not be compared with those before."""
    record = tmp_path / f"{SALES}.dvc"
    record.parent.mkdir(parents=True)
    former = yaml.safe_dump({**RECORD, "outs": [{"path": "sales.csv", "md5": "1"}]})
    record.write_text(former)
    source = find_source(tmp_path, {"data": {"source": SALES}})
    assert source

    async def update(alone: Source, _variables: object) -> None:
        (alone.folder / alone.record).write_text(former.replace("md5: '1'", "md5: '2'"))

    reports: list[str] = []

    async def report(_workspace: Workspace, text: str) -> None:
        reports.append(text)
        if len(reports) == 1:
            raise TransientError("no server", state="", next_step="")

    monkeypatch.setenv("SLIPWAY_SOURCES", "s3://data")
    for name, stand_in in (("refresh_import", update), ("_report", report)):
        monkeypatch.setattr(refresh, name, stand_in)
    monkeypatch.setattr(refresh, "_variables", lambda *_: asyncio.sleep(0, {}))
    workspace = Workspace(tmp_path, "1f0c72c", "main")
    with pytest.raises(TransientError):
        await refresh.refresh_source.fn(workspace, source, former.encode())
    assert await refresh.refresh_source.fn(workspace, source, former.encode())
    assert reports[1].endswith(": 1 became 2.")


def test_newest_data_are_of_the_day_of_their_commit(tmp_path: Path) -> None:
    (tmp_path / "data/source").mkdir(parents=True)
    (tmp_path / "params.yaml").write_text(f"data: {{source: {SALES}}}")
    git = Git(tmp_path)
    git("init", "--quiet")
    workspace = Workspace(tmp_path, "", "main")
    for number, name in enumerate((f"{SALES}.dvc", "README.md")):
        (tmp_path / name).write_text("{}")
        git("add", "--all")
        day = f"2026-01-0{number + 1}T12:00:00Z"
        commit = ["-c", "user.name=T", "-c", "user.email=t@localhost", "commit", "-qm", "test"]
        subprocess.run(
            ["git", *commit],
            cwd=tmp_path,
            check=True,
            env={**os.environ, "GIT_COMMITTER_DATE": day},
        )
    newest = asyncio.run(describe_newest_data(workspace))
    assert newest == "its newest data, sales.csv, are of 2026-01-01"
    (tmp_path / "params.yaml").write_text("data: {source: sklearn.datasets.load_wine}")
    assert asyncio.run(describe_newest_data(workspace)) == ""
