"""Tables of Arrow and Parquet are answered as JSON is; what could harm the server is refused."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.media_types import ARROW, PARQUET
from tests.code.serving.running import HERE, ROOT, clean_environment

FINITE, WHOLE = "must be a finite number.", "must be a whole number."
# Of both forms, unless one is named.
REFUSED = {
    "dictionary": (422, "column 'size': must be text, not a dictionary: write its values."),
    "nested": (422, "column 'size': must be text, not a list or structure."),
    "missing column": (422, "columns: column 'size' is missing."),
    "unknown column": (422, "columns: unknown column 'sizes'; did you mean 'size'?"),
    "text for a number": (422, "column 'visits': must be a whole number, not of type string."),
    "missing value": (422, f"Row 2, column 'visits': {WHOLE}"),
    "fraction": (422, f"Row 3, column 'visits': {WHOLE}"),
    "too large": (422, "Row 1, column 'visits': must be within the range of int64."),
    "not a number": (422, f"Row 2, column 'age': {FINITE}"),
    "infinite": (422, f"Row 1, column 'age': {FINITE}"),
    "no rows": (422, "There are no rows in the table: give at least one."),
    "too many rows": (413, "Too many rows: at most 2000 a request."),
    "cut": (400, "The body cannot be read as a "),
    "other": (400, "The body cannot be read as a "),
    "arrow: column twice": (422, "columns: column 'size' is there twice."),
    "arrow: no text": (400, "The body cannot be read as a stream of Arrow."),
    "arrow: lz4": (415, "The columns are compressed: write the stream without compression."),
    "arrow: nothing": (400, "The body cannot be read as a stream of Arrow."),
    "arrow: empty batches": (413, "Too many rows: at most 2000 a request."),
    "parquet: long page": (413, "The Parquet file has more than 20000 pages or 1048576 bytes"),
    "parquet: long texts": (413, "The Parquet file has texts of more than 1048576 bytes."),
    "parquet: shared beginnings": (415, "The Parquet file has the encoding DELTA_BYTE_ARRAY"),
    "parquet: row groups": (413, "The Parquet file has more than 1000 row groups."),
}
FORMS = ("arrow", "parquet")


@pytest.fixture(scope="module")
def report(
    runtime: Path,
    bundles: Path,
    install: Callable[[Path, str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Any]:
    """All answers of one process: see `ask_tables.py`."""
    pyarrow = install(runtime, "pyarrow>=26,<27")
    done = subprocess.run(
        [runtime, "-W", "error", HERE / "ask_tables.py", bundles / "mixed",
         tmp_path_factory.mktemp("log")],
        cwd=ROOT, env={**clean_environment(), "PYTHONPATH": f"{ROOT}:{pyarrow}"},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_tables_get_the_answers_of_json(report):
    answers = report["answers"]
    expected = answers.pop("json")
    assert expected[1] == '{"colour": 400}'
    good = {name for name, answer in answers.items() if answer == expected}
    same = {"good", "other order", "small types", "whole floats", "a trap"}
    assert good == {
        *(f"{form}: {name}" for form in FORMS for name in same), "parquet: zstd", "parquet: plain"
    }  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [n for name in REFUSED for n in ([name] if ":" in name else [f"{f}: {name}" for f in FORMS])],
)
def test_what_does_not_fit_or_could_fill_the_memory_is_refused(report, name):
    status, message = REFUSED.get(name) or REFUSED[name.partition(": ")[2]]
    got, _, answer = report["answers"][name]
    assert got == status
    assert answer["error"].startswith(message)


def test_every_case_is_expected(report):
    refused = {name for name, (status, *_) in report["answers"].items() if status != 200}
    assert refused <= {*REFUSED, *(f"{form}: {name}" for form in FORMS for name in REFUSED)}


def test_nothing_of_a_client_is_unpickled(report):
    assert not report["is_trapped"]


def test_damaged_tables_are_refused_and_the_server_goes_on(report):
    assert {400, 200} <= {*report["statuses"]} <= {200, 400, 413, 415, 422}


def test_answer_is_a_table_if_the_client_accepts_one(report):
    proba = report["proba"]
    rows = proba["*/*"][1]
    assert proba["*/*"][0] == "application/json"
    columns = {"probability_no": [no for no, _ in rows], "probability_yes": [y for _, y in rows]}
    assert proba[ARROW] == [ARROW, columns]
    assert proba[PARQUET] == [PARQUET, columns]
    assert proba[f"text/html, {ARROW};q=0.5"] == [ARROW, columns]


def test_docs_name_the_types(report):
    assert report["described"] == [["application/json", ARROW, PARQUET]] * 2


def test_record_has_the_rows_as_json_without_private_columns(report):
    record = report["record"]
    rows = [{name: row[name] for name in row if name != "colour"} for row in report["rows"]] * 400
    assert record["inputs"] == rows
    assert record["outputs"] == report["answers"]["arrow: good"][2]


@pytest.mark.parametrize(("name", "hint"), [("mixed", "save.arrow"), ("array", "takes arrays")])
def test_server_without_pyarrow_says_what_to_do(served, name, hint):
    for kind in (ARROW, PARQUET):
        answer = httpx.post(f"{served(name).url}/predict", headers={"Content-Type": kind})
        assert answer.status_code == 415
        assert hint in answer.json()["error"]
