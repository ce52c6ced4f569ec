"""Queries of a real PostgreSQL, with the driver that docs/data.md names."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deployments.local import postgres
from tasks.core import programs
from tasks.core.errors import ConfigurationError, DataRejected, TerminalError, TransientError
from tasks.core.settings import CHECKOUT
from tasks.monitoring import labels
from tasks.monitoring.labels import fetch_labels, read_labels
from tasks.monitoring.quality import join_labels
from tasks.monitoring.settings import LabelTable
from tasks.monitoring.window import Answer
from tasks.scoring import load
from tasks.scoring.places import Place
from tasks.scoring.tables import has_table, load_rows, run_query
from tasks.training import query, updates
from tasks.training.database_names import URL_VARIABLE
from tasks.training.sources import Source
from tests.containers import end_with, free_port

PASSWORD = "a%2Fsecret"
SALES = Path("data/source/sales.csv")
TABLE = """
CREATE TABLE sales (id bigint, name text, price numeric, paid boolean, at timestamptz, day date);
INSERT INTO sales SELECT i, 'n' || i, i * 0.10, i % 2 = 0, '2024-01-02 03:04+00', '2024-01-02'
FROM generate_series(1, 1500) i;
INSERT INTO sales (id) VALUES (0);
"""


@pytest.fixture(scope="module")
def driver(install: Callable[[Path, str], Path]) -> Path:
    """Install the driver."""
    return install(Path(sys.executable), "psycopg[binary]>=3.3,<4")


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Yield the port of a server of its own."""
    folder, port = tmp_path_factory.mktemp("postgres"), free_port()
    program = postgres.program(CHECKOUT, folder, {postgres.PORT: port}, PASSWORD)
    environment = {**os.environ, **program.environment}
    server = subprocess.Popen(
        program.argv,
        cwd=CHECKOUT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with end_with(server):
            yield port
            server.send_signal(signal.SIGINT)
            server.wait(30)
    finally:
        postgres.remove_copy(folder)


@pytest.fixture(scope="module")
def url(port: int) -> str:
    return f"postgresql+psycopg://slipway:a%252Fsecret@127.0.0.1:{port}/postgres"


@pytest.fixture(scope="module")
def connection(driver: Path, url: str) -> Iterator[Any]:
    """Yield a connection of the database's owner."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(driver))
        import psycopg

        deadline = time.monotonic() + 60
        while True:
            try:
                connection = psycopg.connect(url.replace("+psycopg", ""), autocommit=True)
                break
            except psycopg.OperationalError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        with connection:
            connection.execute(TABLE)
            yield connection


@pytest.fixture
def _programs(connection: Any, driver: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have programs that talk to a database find the driver."""
    monkeypatch.setitem(programs.VARIABLES, "PYTHONPATH", f"{CHECKOUT}{os.pathsep}{driver}")


@pytest.fixture
def source(_programs: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    """Return a source of a query; DVC keeps nothing."""
    monkeypatch.setattr(updates.dvc, "add", lambda path: ["true", path])
    (tmp_path / "data/source").mkdir(parents=True)
    return Source(tmp_path, SALES, Path(f"{SALES}.dvc"), "", "shop")


def write(source: Source, query: str) -> None:
    (source.folder / source.query).write_text(query)


async def test_query_of_postgresql_becomes_a_table(source: Source, url: str) -> None:
    write(
        source,
        "SELECT *, '50%' AS \"a:b\" FROM sales WHERE name IS NULL OR name LIKE 'n%' ORDER BY id;",
    )
    await updates.refresh_query(source, url, {})
    header, empty, first, *rest = (source.folder / SALES).read_text().splitlines()
    assert header == "id,name,price,paid,at,day,a:b"
    assert empty == "0,,,,,,50%"
    assert first == "1,n1,0.10,false,2024-01-02T03:04:00+00:00,2024-01-02,50%"
    assert len(rest) == 1499


@pytest.mark.usefixtures("_programs")
async def test_labels_come_from_postgresql(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_DATABASE_SHOP", url)
    monkeypatch.setattr(labels, "fetch_labels", fetch_labels.fn)
    at = "2024-01-02T03:04:00+00:00"
    answers = [Answer(f"r{n}", 0, {"id": n, "at": at}, n % 3 == 0) for n in (1, 2, 9999)]
    query = "SELECT id, at, paid FROM sales WHERE price < 1 ORDER BY id"
    table = LabelTable(query=query, database="shop", key=("id", "at"), label="paid")
    result = await read_labels(table, answers)
    assert result.by_row == {("r1", 0): "false", ("r2", 0): "true"}
    assert result.unmatched == 7
    joined = join_labels(answers, {}, result.by_row)
    assert (joined.actual, joined.predicted) == (["False", "True"], ["False", "False"])
    monkeypatch.setenv("SLIPWAY_DATABASE_SHOP", url.replace("127.0.0.1:", "127.0.0.1:1"))
    with pytest.raises(TransientError, match="cannot reach database shop for labels"):
        await read_labels(table, answers)


@pytest.mark.usefixtures("_programs")
async def test_scores_come_from_postgresql_and_go_there_in_one_move(
    url: str, connection: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_DATABASE_SHOP", url)
    connection.execute('CREATE VIEW "Recent" AS SELECT id, price FROM sales WHERE id < 3')
    await run_query(Place("sql://shop/Recent", "database"), tmp_path / "rows.csv")
    rows = (tmp_path / "rows.csv").read_text().split()
    assert sorted(rows) == ["0,", "1,0.10", "2,0.20", "id,price"]

    monkeypatch.setenv(URL_VARIABLE, url)
    result, part = tmp_path / "result", tmp_path / "result/part-00000.csv"
    (result / "rejected").mkdir(parents=True)
    (result / "rejected" / part.name).write_text("row,problem\n9,bad\n")
    part.write_text("row,prediction,a%b (c)\n1,7,x\n2,,x\n")
    target = Place("sql://shop/Scored", "database")
    assert not await has_table(target, tmp_path)
    await load_rows(target, result, overwrite=False)
    with pytest.raises(ConfigurationError, match="it exists, or Scored_rejected does"):
        await load_rows(target, result, overwrite=False)
    connection.execute('CREATE VIEW copy AS SELECT * FROM "Scored"; CREATE ROLE reader')
    connection.execute('GRANT SELECT ON "Scored", copy, "Scored_rejected" TO reader')

    def read(table: str = "copy") -> list[Any]:
        connection.execute("SET ROLE reader; SET lock_timeout = '2s'")
        rows: list[Any] = connection.execute(f'SELECT * FROM "{table}" ORDER BY 1').fetchall()
        connection.execute("RESET ROLE")
        return rows

    assert (read(), read("Scored_rejected")) == ([(1, 7, "x"), (2, None, "x")], [(9, "bad")])
    # Others read the former rows until the new ones are all there, and go on to have their rights.
    from psycopg.errors import LockNotAvailable

    fill, seen = load._fill, []
    (result / "rejected" / part.name).unlink()
    part.write_text("row,prediction,a%b (c)\n3,8,y\n")

    def fill_and_read(*arguments: Any) -> None:
        fill(*arguments)
        seen.append(read())
        # Another run waits: else the table would have the rows of both.
        with pytest.raises(LockNotAvailable):
            connection.execute('INSERT INTO "Scored" SELECT * FROM "Scored" WHERE false')

    with monkeypatch.context() as patch:
        patch.setattr(load, "_fill", fill_and_read)
        assert load.main("Scored", str(result), "replace") == 0
    assert seen == [[(1, 7, "x"), (2, None, "x")]]
    assert (read(), read("Scored_rejected")) == ([(3, 8, "y")], [])
    # Other columns need another table, which the view does not let go.
    part.write_text("row,prediction\n4,8.5\n")
    assert load.main("Scored", str(result), "replace") == 1
    assert read() == [(3, 8, "y")]
    connection.execute("DROP VIEW copy")
    assert load.main("Scored", str(result), "replace") == 0
    assert connection.execute('SELECT * FROM "Scored"').fetchall() == [(4, 8.5)]
    monkeypatch.setenv("SLIPWAY_DATABASE_SHOP", url.replace("127.0.0.1:", "127.0.0.1:1"))
    with pytest.raises(TransientError, match="database shop cannot be reached"):
        await load_rows(target, result, overwrite=True)


@pytest.mark.parametrize(
    "text",
    [
        "DELETE FROM sales RETURNING id",
        "SELECT 1; COMMIT; DELETE FROM sales",
        "WITH gone AS (DELETE FROM sales RETURNING id) SELECT * FROM gone",
    ],
)
def test_query_changes_nothing_in_postgresql(
    url: str, connection: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    (tmp_path / "q.sql").write_text(text)
    monkeypatch.setenv(URL_VARIABLE, url)
    assert query.main(str(tmp_path / "q.sql"), str(tmp_path / "rows.csv"), "60") == 1
    assert connection.execute("SELECT count(*) FROM sales").fetchone() == (1501,)


async def test_query_without_rows_is_rejected(source: Source, url: str) -> None:
    write(source, "SELECT id FROM sales WHERE id < 0")
    with pytest.raises(DataRejected, match="returned no rows"):
        await updates.refresh_query(source, url, {})
    assert not (source.folder / SALES).exists()


async def test_query_that_takes_too_long_ends_in_the_database_as_well(
    source: Source, url: str, connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_REFRESH_SECONDS", "6")
    write(source, "SELECT pg_sleep(600)")
    with pytest.raises(TerminalError, match="took longer than 6 s"):
        await updates.refresh_query(source, url, {})
    deadline = time.monotonic() + 30
    running = (
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active'"
        " AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )
    assert connection.execute(running).fetchone() == (1,), "it does not notice the client's end"
    while connection.execute(running).fetchone() != (0,):
        assert time.monotonic() < deadline, "it goes on"
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("change", "error", "mentions"),
    [
        (("a%252F", "an-other-"), TransientError, "password authentication failed"),
        (("/postgres", "/none"), TransientError, 'database "none" does not exist'),
        (("+psycopg", "+nothing"), ConfigurationError, "add the database's driver"),
    ],
)
async def test_wrong_address_names_no_password(
    source: Source, url: str, change: tuple[str, str], error: type[Exception], mentions: str
) -> None:
    write(source, "SELECT id FROM sales")
    with pytest.raises(error, match=mentions) as refused:
        await updates.refresh_query(source, url.replace(*change), {})
    assert "secret" not in str(refused.value)
