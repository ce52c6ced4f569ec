"""Sources and targets: which a worker may use, what has changed, how a result is published."""

from __future__ import annotations

import json
import os
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from tasks.bucket.bucket import Bucket
from tasks.bucket.stores.s3.store import S3Store
from tasks.core.commands import CommandResult
from tasks.core.errors import ConfigurationError, DataRejected, TerminalError, TransientError
from tasks.core.settings import CHECKOUT
from tasks.runs.retrying import without_prefect
from tasks.scoring import load
from tasks.scoring.boxed import Totals, describe_reading, read_totals
from tasks.scoring.jobs import Job, Start, hold_job, remove_old
from tasks.scoring.places import Place, read_place
from tasks.scoring.rejected_rows import require_few_rejected
from tasks.scoring.snapshot import bring_files, require_unchanged, take_snapshot
from tasks.scoring.targets import publish
from tasks.training.database_names import URL_VARIABLE

_START = Start("c" * 40, "v1", "run", "2026-11-30T12:00:00+00:00", {"a.csv": "1"})


@pytest.fixture(autouse=True)
def _places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SLIPWAY_SCORE_PLACES", f"data/scores,{tmp_path / 'free'},sql://warehouse")
    (tmp_path / "free").mkdir()


def _local(path: Path) -> Place:
    return Place(str(path), "local")


def test_places_that_a_worker_may_use(tmp_path: Path) -> None:
    assert read_place("data/scores/x.csv", "source").address == f"{CHECKOUT}/data/scores/x.csv"
    assert read_place("s3://models/scores/a/", "to", "models").key == "scores/a"
    table = read_place("sql://warehouse/sales.rows", "to")
    assert (table.database, table.table, table.ending) == ("warehouse", "sales.rows", "")
    assert read_place(str(tmp_path / "free" / "x.csv.gz"), "source").ending == ".csv.gz"


@pytest.mark.parametrize(
    "address",
    [
        "/etc/passwd", "data/scores/../../params.yaml", "data/source/x.csv", "free/link/passwd",
        "s3://models/files/md5", "s3://models/scores/../files", "s3://other/scores/x", "s3://models",
        "sql://elsewhere/rows", "sql://warehouse/rows;drop", "sql://warehouse", "ftp://host/x", " ",
    ],
)  # fmt: skip
def test_places_that_it_may_not(address: str, tmp_path: Path) -> None:
    (tmp_path / "free" / "link").symlink_to("/etc")
    own = address.replace("free/", f"{tmp_path}/free/")
    with pytest.raises(ConfigurationError):
        read_place(own, "source", "models")


async def test_source_is_what_it_was_at_the_start(tmp_path: Path) -> None:
    folder = tmp_path / "free"
    for name in ("b.csv", "sub/a.csv", "rejected/c.csv", ".hidden/d.csv", "notes.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("x\n1\n")
    snapshot = await take_snapshot(_local(folder), None)
    files = await bring_files(snapshot, None, tmp_path)
    assert files == {"b.csv": folder / "b.csv", "sub/a.csv": folder / "sub" / "a.csv"}
    (folder / "later.csv").write_text("x\n2\n")  # not of this job
    require_unchanged(snapshot)
    with (folder / "b.csv").open("a") as file:
        file.write("2\n" * 10)
    with pytest.raises(DataRejected, match=r"b\.csv of source .* has changed"):
        require_unchanged(snapshot)


async def test_source_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"there is no file of \.csv"):
        await take_snapshot(_local(tmp_path / "free"), None)
    for name in ("a.csv", "b.parquet"):
        (tmp_path / "free" / name).touch()
    with pytest.raises(ConfigurationError, match="different formats"):
        await take_snapshot(_local(tmp_path / "free"), None)


def _make_job(folder: Path, run: str = "run") -> Job:
    job = Job(folder / f"job-{run}")
    job.begin(replace(_START, run=run))
    (job.work / "result" / "rejected").mkdir(parents=True)
    for number, text in enumerate(["row,prediction\n1,7\n", "row,prediction\n2,08\n"]):
        (job.work / "result" / f"part-{number:05}.csv").write_text(text)
    (job.work / "result" / "rejected" / "part-00001.csv").write_text("row,problem\n3,bad\n")
    (job.work / "single.csv").write_text("row,prediction\n1,7\n2,8\n")
    return job


async def test_result_is_published_whole_or_not(tmp_path: Path) -> None:
    job, target = _make_job(tmp_path), tmp_path / "free" / "out"
    send = without_prefect(publish)
    await send(_local(target), None, job, {"rows": 3}, overwrite=False)
    manifest = json.loads((target / "manifest.json").read_text())
    assert manifest["files"] == ["part-00000.csv", "part-00001.csv", "rejected/part-00001.csv"]
    with pytest.raises(ConfigurationError, match="exists"):
        await send(_local(target), None, job, {"rows": 3}, overwrite=False)
    (job.work / "result" / "part-00001.csv").unlink()
    await send(_local(target), None, job, {"rows": 1}, overwrite=True)
    assert not (target / "part-00001.csv").exists()

    file = tmp_path / "free" / "one.csv"
    await send(_local(file), None, job, {}, overwrite=False)
    assert file.read_text().count("\n") == 3
    assert (tmp_path / "free" / "one.rejected" / "part-00001.csv").is_file()
    file.unlink()
    with pytest.raises(ConfigurationError, match="exists"):
        await send(_local(file), None, job, {}, overwrite=False)
    await send(_local(file), None, job, {}, overwrite=True)
    names = {path.name for path in (tmp_path / "free").iterdir()}
    assert names == {"out", "one.csv", "one.rejected"}


_FACTS = {"Size": 1, "ETag": '"x"', "LastModified": datetime.now(UTC)}


class _Objects(dict[str, bytes]):
    """The objects of a bucket, with the calls of its client that publication needs."""

    def put_object(self, **request: Any) -> None:
        body = request["Body"]
        self[request["Key"]] = body if isinstance(body, bytes) else body.read()

    def delete_object(self, **request: Any) -> None:
        del self[request["Key"]]

    def get_paginator(self, _name: str) -> Any:
        return self

    def paginate(self, **request: str) -> list[Any]:
        keys = sorted(key for key in self if key.startswith(request["Prefix"]))
        return [{"Contents": [{"Key": key, **_FACTS} for key in keys]}]


async def test_object_has_the_rejected_rows_of_its_run_alone(tmp_path: Path) -> None:
    objects = _Objects({"scores/one.rejectedly": b"of somebody"})
    bucket = Bucket("write", "slipway-write", "dvc", {}, S3Store("models", cast("Any", objects)))
    target, send = Place("s3://models/scores/one.csv", "bucket"), without_prefect(publish)
    for run in ("first", "second"):
        job = _make_job(tmp_path, run)
        await send(target, bucket, job, {}, overwrite=True)
        file, rejected, other = sorted(objects)
        assert (file, other) == ("scores/one.csv", "scores/one.rejectedly")
        assert rejected.startswith("scores/one.rejected/run=")
        assert rejected.endswith("/part-00001.csv")
    prefix = Place("s3://models/scores/all", "bucket")
    await send(prefix, bucket, job, {}, overwrite=True)
    assert json.loads(objects["scores/all/manifest.json"])["files"][0].startswith("run=")


@pytest.mark.parametrize("name", ["part-00009.csv", "rejected/x.csv"])
async def test_links_of_the_models_code_are_not_followed(tmp_path: Path, name: str) -> None:
    job = _make_job(tmp_path)
    (job.work / "result" / name).symlink_to("/etc/passwd")
    with pytest.raises(TerminalError, match=f"the model's code has written {name}"):
        await without_prefect(publish)(
            _local(tmp_path / "free" / "out"), None, job, {}, overwrite=False
        )
    assert not (tmp_path / "free" / "out").exists()


async def test_job_is_kept_for_who_continues_it() -> None:
    async with hold_job("a") as job:
        with pytest.raises(TerminalError, match="another run scores the same"):
            async with hold_job("a"):
                pass

    async def fail(error: Exception, start: Start | None) -> None:
        async with hold_job("a") as job:
            assert job.read_start() == start
            job.begin(_START)
            raise error

    for error, start in ((TransientError("killed"), None), (DataRejected("bad rows"), _START)):
        with pytest.raises(type(error)):
            await fail(error, start)
    async with hold_job("a") as job:
        assert job.read_start() is None


def test_job_that_ends_meanwhile_is_no_old_one(tmp_path: Path) -> None:
    (tmp_path / "gone").symlink_to("nowhere")  # as a folder that was removed since it was listed
    old = tmp_path / "old"
    old.mkdir()
    os.utime(old, (0, 0))
    remove_old(tmp_path, "other")
    assert not old.exists()


def _refuse(*_: object) -> None:
    raise load.Refused("no columns")


def test_table_is_filled_in_one_transaction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "scores.db"
    monkeypatch.setenv(URL_VARIABLE, f"sqlite:///{file}")
    job = _make_job(tmp_path)
    result = str(job.work / "result")

    def run(mode: str) -> dict[str, Any]:
        load.main("scores", result, mode)
        return dict(json.loads(capsys.readouterr().out))

    def read() -> list[Any]:
        with sqlite3.connect(file) as database:
            return database.execute("SELECT * FROM scores").fetchall()

    assert run("look") == {"exists": False}
    assert run("create") == {"exists": True}
    assert read() == [(1, "7"), (2, "08")]  # a code stays a text
    assert "it exists, or" in run("create")["problem"]
    with monkeypatch.context() as patch:
        patch.setattr(load, "_fill", _refuse)  # after the former rows are deleted
        assert "no columns" in run("replace")["problem"]
    assert read() == [(1, "7"), (2, "08")]
    parts = [job.work / "result" / f"part-{number:05}.csv" for number in range(2)]
    parts[1].write_text("row,prediction\n2,8.5\n")
    run("replace")
    assert read() == [(1, "7"), (2, "8.5")]  # the table stays
    for number, part in enumerate(parts):
        part.write_text(f"row,prediction,share\n{number},{number + 0.5},1_0\n")
    run("replace")
    assert read() == [(0, 0.5, "1_0"), (1, 1.5, "1_0")]
    for part in parts:
        part.write_text(f"row,prediction,share\n2,,{'x' * 200_000}\n")
    run("replace")
    assert [len(share) for *_, share in read()] == [200_000] * 2
    for part in parts:
        part.write_text("row,prediction,share\n2,,\n")
    with sqlite3.connect(file) as database:
        database.execute("CREATE TRIGGER kept AFTER INSERT ON scores BEGIN SELECT 1; END")
    run("replace")
    with sqlite3.connect(file) as database:  # a table stays when all cells of a column are empty
        assert database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
    with sqlite3.connect(file) as database:
        database.execute("DROP TABLE scores")
    assert run("look") == {"exists": True}  # the rejected rows are somebody's still
    assert "scores_rejected does" in run("create")["problem"]


@pytest.mark.parametrize(
    ("cell", "place"),
    [
        ("-7", 0), ("9223372036854775807", 0), ("9223372036854775808", 2), ("10.50", 1),
        ("-1e-07", 1), ("0.30000000000000004", 1), ("1e20", 1), ("123456789.123456789", 2),
        ("08", 2), ("1_0", 2), ("nan", 2), ("inf", 2), (" 1", 2), ("+1", 2), ("-0", 1), ("00.5", 2),
    ],
)  # fmt: skip
def test_cell_is_kept_as_it_is(cell: str, place: int) -> None:
    assert [kind.fits(cell) for kind in load._KINDS].index(True) == place


def test_column_keeps_all_of_its_cells(tmp_path: Path) -> None:
    part = tmp_path / "part-00000.csv"
    lines = ["id,mixed,large,empty", "9007199254740993,1.5,9007199254740993,", "1,2,1.5,"]
    part.write_text("\n".join(lines))
    kinds = load._find_kinds([part])
    whole, number, text = load._KINDS
    assert {name: kinds[name][0] for name in kinds} == {
        "id": whole, "mixed": number, "large": text, "empty": text,
    }  # fmt: skip
    assert number not in kinds["id"]
    assert set(kinds["empty"]) == {whole, number, text}  # the column of a former table stays


def test_table_of_a_database_is_read_in_its_own_format() -> None:
    schema = {"age": {"missing": [-1]}, "name": None}
    data = {"separator": ";", "decimal": ",", "missing": ["?"], "schema": schema}
    missing = {"missing": {"age": ["-1"], "name": []}, "missing_words": ["?"]}
    assert describe_reading({"data": data}, is_table=True) == missing
    own = describe_reading({"data": data}, is_table=False)
    assert own == {"separator": ";", "decimal": ",", **missing}


def test_share_of_rejected_rows() -> None:
    totals = Totals(200, 2, {"bad": (2, ["a.csv row 1", "a.csv row 2"])})
    require_few_rejected(totals, 0.01)
    with pytest.raises(DataRejected, match=r"2 of 200 rows .* bad \(2 rows, such as a\.csv row 1"):
        require_few_rejected(totals, 0.005)


@pytest.mark.parametrize(
    ("code", "line", "kind"),
    [
        (1, '{"kind": "source", "problem": "x"}', ConfigurationError),
        (1, '{"kind": "model", "problem": "x"}', TerminalError),
        (-9, '{"rows": 5}', TransientError),
        (1, "Traceback", TransientError),
        (0, '{"rows": "many"}', TransientError),
        (122, "", TerminalError),
        (1, '{"kind": "cluster", "problem": "x"}', TransientError),
        (1, '{"kind": "versions", "problem": "x"}', TerminalError),
        (1, '{"kind": "versions"}', TransientError),
        (1, '{"kind": [], "problem": "x"}', TerminalError),
        (0, '{"rows": Infinity, "rejected": 0, "problems": {}}', TransientError),
    ],
)
def test_end_of_a_box(code: int, line: str, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        read_totals(CommandResult((), code, line + "\n", "", 1.0), "wine@abc")
