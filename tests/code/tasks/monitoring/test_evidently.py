"""Evidently gets tables that name nobody and run nothing, and its failure costs no report."""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tasks.bucket.stores.s3.store import S3Store
from tasks.monitoring import evidently, store
from tasks.monitoring.drift import Reference
from tasks.monitoring.evidently import EvidentlyPage, make_page, make_tables, try_evidently
from tasks.monitoring.profile import Profile
from tasks.monitoring.window import Answer
from tasks.reports import monitor_report
from tasks.reports.monitor_report import describe_evidently
from tests.code.tasks.monitoring.test_report import PROFILE, draw_row, make_reports

PYTHON = os.environ.get("SLIPWAY_TEST_EVIDENTLY", "")  # of an environment that has Evidently
SCRIPT = "</script><script>alert(1)</script>"
REFERENCE = Reference(PROFILE, ["a"] * 30 + ["b"] * 70, is_regression=False)


def answer(count: int = 300, **changes: object) -> list[Answer]:
    return [Answer(f"r{n}", 0, draw_row(1.0, **changes), "ab"[n % 2]) for n in range(count)]


def test_tables_have_what_the_profile_and_the_window_have() -> None:
    tables = make_tables(REFERENCE, [*answer(), Answer("p", 0, draw_row(), None, (0.5, 0.5))])
    assert tables["kinds"] == {"ash": "number", "city": "category", "(prediction)": "category"}
    before, now = tables["reference"], tables["current"]
    assert {len(values) for values in before.values()} == {PROFILE.rows}
    assert {len(values) for values in now.values()} == {301}
    assert sorted(before["ash"]) == list(PROFILE.columns["ash"].points)
    assert Counter(before["city"]) == {"Bern": 200, "Basel": 160, None: 40}
    assert Counter(before["(prediction)"]) == {"a": 120, "b": 280}
    assert now["(prediction)"].count(None) == 1
    assert make_tables(REFERENCE, answer(0))["kinds"] == {}, "a column that the log leaves out"


def test_tables_are_bounded() -> None:
    large = Profile.model_validate(
        {"format": 1, "rows": 10**9, "columns": {"x": {"kind": "number", "missing": 5 * 10**8,
                                                       "points": [1.0, 2.0]}}}
    )  # fmt: skip
    answers = [Answer(f"r{n}", 0, {"x": "no number"}, 1.0) for n in range(25_000)]
    tables = make_tables(Reference(large, ["1.0", "x"], is_regression=True), answers)
    assert Counter(tables["reference"]["x"]) == {None: 5_000, 1.0: 2_500, 2.0: 2_500}
    assert tables["current"]["x"] == [None] * 8_334
    assert tables["reference"]["(prediction)"].count(None) == 5_000


def test_text_of_a_client_is_no_program_and_no_name() -> None:
    """Evidently writes texts into its page as they are."""
    rows = answer(6, city=SCRIPT) + answer(4, city="Ada Lovelace") + answer(1)
    tables = make_tables(REFERENCE, rows)
    assert not {"<", ">", "&", '"'} & set("".join(filter(None, tables["current"]["city"])))
    counts = Counter(tables["current"]["city"])
    assert (counts["_/script__script_alert(1)_/script_"], counts["(others)"]) == (6, 4)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a program of the test in Evidently's place."""

    async def install() -> Path:
        return Path(sys.executable)

    monkeypatch.setattr(evidently, "make_page", make_page.fn)
    monkeypatch.setattr(evidently, "_install", install)
    monkeypatch.setattr(evidently, "_PROGRAM", tmp_path / "program.py")
    return tmp_path / "program.py"


async def test_page_is_what_the_program_writes_in_its_box(program: Path) -> None:
    program.write_text(
        "import json, pathlib, socket, sys\n"
        "tables, page = map(pathlib.Path, sys.argv[1:])\n"
        "rows = len(json.loads(tables.read_text())['current']['ash'])\n"
        "names = [name for _, name in socket.if_nameindex()]\n"
        "page.write_text(f'{rows} rows, {names}')\n"
    )
    made = await try_evidently(REFERENCE, answer(7))
    assert made.problem == ""
    assert made.content.startswith(b"7 rows, ['lo']" if os.getuid() == 0 else b"7 rows")


async def test_failure_is_said_and_raises_nothing(program: Path) -> None:
    program.write_text("raise ValueError('no such preset')\n")
    problem = "Evidently failed on the window: ValueError: no such preset"
    assert await try_evidently(REFERENCE, answer(7)) == EvidentlyPage(problem=problem)


async def test_page_is_stored_beside_the_report_which_says_where(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = SimpleNamespace(objects={})
    client.put_object = lambda **call: client.objects.update({call["Key"]: call})
    bucket = SimpleNamespace(store=S3Store("models", cast("Any", client)))

    async def load_bucket(_: str) -> object:
        return bucket

    monkeypatch.setattr(store, "load_bucket", load_bucket)
    (report,) = make_reports("d")
    text = describe_evidently(report, EvidentlyPage(b"<html>"))
    await store.store_report.fn(report, monitor_report.make_page(report, text), b"<html>")
    page, own, data = client.objects.values()
    assert (page["Body"], page["ContentType"]) == (b"<html>", "text/html; charset=utf-8")
    assert own["Key"] == page["Key"].replace(".evidently", "")
    assert f"<code>{page['Key']}</code>" in own["Body"].decode()
    assert data["Key"].endswith(".json")
    assert store.parse_name(data["Key"].rpartition("/")[2].removesuffix(".json")) == report.span
    assert "Evidently's report was not made: a\\_b" in describe_evidently(
        report, EvidentlyPage(problem="a_b")
    )


@pytest.mark.skipif(not PYTHON, reason="SLIPWAY_TEST_EVIDENTLY names no Python that has Evidently")
async def test_report_of_evidently(monkeypatch: pytest.MonkeyPatch) -> None:
    async def install() -> Path:
        return Path(PYTHON)

    monkeypatch.setattr(evidently, "_install", install)
    page = (await make_page.fn(REFERENCE, answer(city=SCRIPT))).decode()
    assert "(prediction)" in page
    assert "Dataset Drift is detected" in page
    assert "alert(1)</script>" not in page
