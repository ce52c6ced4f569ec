"""Bulk predictions read, check and answer rows as requests do, however a file is cut."""

from __future__ import annotations

import csv
import io
import json
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.code.serving.running import HERE, ROOT, clean_environment

Score = Callable[..., dict[str, Any]]
_NAMES = ["id", "age", "visits", "colour", "member", "size"]
# Cells that a request carries as a value of the column, and those that it does not.
_CELLS = {
    "age": ["20.5", "31", "", "NA", "1e999", "inf", "old", "True", " 7 ", "1_0", "-0.0", "007"],
    "visits": ["1", "2.0", "3", "", "2.5", "9223372036854775808", "many", "False", "1e2"],
    "colour": ["red", "", "blue", "NA", "ré, d", 'say "x"', "a\nb"],
    "member": ["True", "false", "TRUE", "", "yes", "1", "NA"],
    "size": ["small", "big", "", "None", "1"],
}


@pytest.fixture(scope="module")
def score(runtime: Path, bundles: Path, install: Callable[[Path, str], Path]) -> Iterator[Score]:
    """Scores a text of CSV in a process that has the model loaded."""
    program = [str(runtime), "-W", "error", str(HERE / "score_tables.py")]
    # What a model whose lock has pyarrow has beside it.
    pyarrow = install(runtime, "pyarrow>=26,<27")
    environment = {**clean_environment(), "PYTHONPATH": f"{ROOT}:{pyarrow}"}
    with subprocess.Popen(
        program, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        stdin, stdout = process.stdin, process.stdout

        def run(text: str = "", **options: Any) -> dict[str, Any]:
            case = {"bundle": str(bundles / "mixed"), "text": text, **options}
            stdin.write(json.dumps(case) + "\n")
            stdin.flush()
            return dict(json.loads(stdout.readline()))

        yield run
        stdin.close()


def _write(rows: list[list[str]], **options: Any) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n", **options).writerows([_NAMES, *rows])
    return text.getvalue()


def _draw_rows(count: int, good: float) -> list[list[str]]:
    draws = random.Random(7)
    return [
        [
            f"id {number}",
            *(
                draws.choice(cells if draws.random() > good else cells[:2])
                for cells in _CELLS.values()
            ),
        ]
        for number in range(count)
    ]


@pytest.mark.parametrize("good", [0.0, 0.9])
def test_rows_are_answered_as_requests_are(score: Score, good: float) -> None:
    result = score(_write(_draw_rows(400, good)), compare=True, block_bytes=2000)
    answers = {int(row["row"]): row["prediction"] for row in result["rows"]}
    reasons = {int(row["row"]): row["problem"] for row in result["rejected"]}
    assert len(result["chunks"]) > 3
    assert answers
    assert reasons
    assert len(answers) + len(reasons) == 400
    for number, answer in enumerate(result["answers"], 1):
        reason = answer.removeprefix("Row 1: ").removeprefix("Row 1, ")
        assert answers.get(number, reasons.get(number)) == reason
    assert [row["id"] for row in result["rows"]] == [f"id {number - 1}" for number in answers]


def test_number_words_are_those_of_training() -> None:
    from tests.code.model import support

    code = "import json, model.tables as t; print(json.dumps(sorted(t.NUMBER_WORDS)))"
    trained = support.model_python("-c", code, cwd=ROOT)
    source = (ROOT / "serving" / "scoring" / "cells.py").read_text()
    words = source.partition("NUMBER_WORDS = frozenset(")[2].partition("\n)")[0]
    assert sorted(eval("frozenset(" + words + ")")) == json.loads(trained.stdout)


def test_result_names_what_made_it(score: Score) -> None:
    rows = [["7", "20", "1", "red", "True", "small"]]
    (row,) = score(_write(rows), method="predict_proba")["rows"]
    names = ["file", "row", "id", "prediction", "probability_no", "probability_yes"]
    assert list(row) == [*names, "model", "version", "commit", "run", "time"]
    assert float(row["probability_no"]) + float(row["probability_yes"]) == pytest.approx(1)


def test_ragged_rows_and_blank_lines(score: Score) -> None:
    text = _write([[str(n), "20", "1", "red", "True", "small"] for n in range(6)])
    lines = text.splitlines()
    lines[2] = lines[2].removesuffix(",small")
    lines[3] += ",more"
    lines.insert(5, "")
    result = score("\r\n".join(lines))
    assert [row["row"] for row in result["rows"]] == ["1", "4", "5", "6"]
    problems = {row["row"]: row["problem"] for row in result["rejected"]}
    assert problems == {
        "2": "The row has 5 values, not 6.",
        "3": "The row has 7 values, not 6.",
    }
    note = "x" * 200_000  # longer than a cell that Python's module for CSV takes by default
    (long,) = score("\n".join([f"{lines[0]},note", "", f"{lines[1]},{note}"]))["rows"]
    assert long["note"] == note


_AROUND = [
    '{n},20,1,red,True,small', '"{n}","20","1","red","True","small"', '{n},20,1,red,True',
    '"{n}\n""x""\r\n",20,1,red,True,small', '', '{n}" pipe,20,1,red,True,small', '{n},20,1',
]  # fmt: skip


@pytest.mark.parametrize(("kinds", "block_bytes"), [(2, 200), (4, 200), (7, 1), (7, 200)])
def test_rows_are_found_however_a_file_is_cut(score: Score, kinds: int, block_bytes: int) -> None:
    draws = random.Random(kinds * block_bytes)
    lines = [draws.choice(_AROUND[:kinds]).format(n=number) for number in range(60)]
    text = "\n".join([",".join(_NAMES), *lines])
    rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
    result = score(text, block_bytes=block_bytes)
    ids = {int(row["row"]): row["id"] for row in [*result["rows"], *result["rejected"]]}
    assert ids == {number: row[0] for number, row in enumerate(rows[1:], 1)}
    refused = {int(row["row"]) for row in result["rejected"]}
    assert refused == {number for number, row in enumerate(rows[1:], 1) if len(row) < len(_NAMES)}


def test_files_are_read_as_the_data_of_the_model(score: Score) -> None:
    reading = {"separator": ";", "decimal": ",", "encoding": "latin-1", "missing_words": ["?"]}
    rows = [["é", "20,5", "1", "red", "True", "small"], ["ü", "?", "1", "réd", "True", "big"]]
    result = score(_write(rows, delimiter=";"), reading=reading, compare=True)
    assert [row["prediction"] for row in result["rows"]] == result["answers"]
    assert [row["id"] for row in result["rows"]] == ["é", "ü"]
    # Not all that ends a line of text ends one of a file.
    rows = [[f"{n}\v\x85", "20", "1", "red", "True", "small"] for n in range(5)]
    for encoding in ("latin-1", "utf-16"):
        result = score(_write(rows), reading={"encoding": encoding}, block_bytes=1)
        assert (result["total"]["rows"], result["rejected"]) == (5, [])
        assert [row["id"] for row in result["rows"]] == [row[0] for row in rows]


def test_columns_of_files_may_have_another_order(score: Score) -> None:
    row = "20,1,red,True,small"
    names = ",".join(_NAMES)
    second = f"note,{names}\nnew,2,{row}\n"
    rows = score(f"{names},note\n1,{row},old\n", more={"second.csv": second})["rows"]
    assert [(row["file"], row["id"], row["note"]) for row in rows] == [
        ("table.csv", "1", "old"), ("second.csv", "2", "new"),
    ]  # fmt: skip


def test_rejected_row_keeps_its_reason_beside_a_column_of_that_name(score: Score) -> None:
    header = [*_NAMES, "problem", "problem_"]
    (row,) = score(",".join(header) + "\n1,20,many,red,True,small,mine,too\n")["rejected"]
    assert (row["problem"], row["problem_"], row["visits"]) == ("mine", "too", "many")
    assert row["problem__"] == "column 'visits': must be a whole number."


def test_finished_chunks_are_not_scored_again(score: Score) -> None:
    rows = [[str(n), "20", "1", "red", "True", "small"] for n in range(300)]
    result = score(_write(rows), block_bytes=1000, finished=[1])
    first, second = result["chunks"][:2]
    numbers = [int(row["row"]) for row in result["rows"]]
    assert result["total"]["rows"] == 300 - second[1]
    assert numbers == [n for n in range(1, 301) if not second[0] < n <= second[0] + second[1]]
    assert first[0] == 0


def test_parquet_is_scored_by_row_groups(score: Score) -> None:
    columns = {
        "id": ["a", "b", "c", "d", "e"],
        "age": [20.0, None, None, 31.0, 1.0],
        "visits": [1, 2, 3, None, 5],
        "colour": ["red", None, None, "blue", "red"],
        "member": [True, False, True, True, False],
        "size": ["small", "big", "small", "big", "small"],
        "note": [None, None, None, None, 7],
    }
    result = score(columns=columns, method="predict_proba")
    assert result["chunks"] == [[0, 2], [2, 2], [4, 1]]
    assert [(row["row"], row["id"], row["note"]) for row in result["rows"]] == [
        (1, "a", None), (2, "b", None), (3, "c", None), (5, "e", 7),
    ]  # fmt: skip
    (rejected,) = result["rejected"]
    assert rejected["problem"] == "column 'visits': must be a whole number."
    assert (rejected["row"], rejected["visits"], rejected["colour"]) == ("4", "", "blue")
    cells = zip(*(columns[name] for name in _NAMES), strict=True)
    text = _write([["" if cell is None else str(cell) for cell in row] for row in cells])
    answers = score(text, method="predict_proba")["rows"]
    for name in ("prediction", "probability_no"):
        assert [str(row[name]) for row in result["rows"]] == [row[name] for row in answers]


def test_other_hosts_give_the_same_result(score: Score) -> None:
    text = _write(_draw_rows(100, 0.7))
    here, there = (score(text, block_bytes=700, ahead=ahead) for ahead in (0, 2))
    assert len(here["chunks"]) > 3
    assert there == here
    columns = {
        "id": [1, 2, 3], "age": [20.0, None, 1.0], "visits": [1, 2, None], "colour": ["red"] * 3,
        "member": [True] * 3, "size": ["small", "big", ""],
    }  # fmt: skip
    here, there = (score(columns=columns, ahead=ahead) for ahead in (0, 1))
    assert (len(here["rows"]), there) == (2, here)
    assert "is not written as CSV" in score(_write([]) + '1,"2"x,3,a,b,c\n', ahead=1)["problem"]
    # A model may load here, and fail on a host of another kind.
    assert score(text, ahead=1, failure="not as proved") == {"problem": "not as proved"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "table.csv is empty"),
        (",".join(_NAMES) + "\n", "the source has no rows"),
        ("id,age,visits\n1,2,3\n", "table.csv lacks colour, member, size, which mixed needs"),
        ("a,a\n1,2\n", "table.csv has two columns of one name"),
        (
            ",".join([*_NAMES, "run"]) + "\n",
            "table.csv has a column run, which is the name of a column of the result",
        ),
        (",".join(_NAMES) + '\n1,"2"x,3,a,b,c\n', "is not written as CSV"),
    ],
)
def test_source_is_refused_as_a_whole(score: Score, text: str, problem: str) -> None:
    assert problem in score(text)["problem"]


def test_file_that_cannot_be_read_is_named(score: Score) -> None:
    text = _write([["1", "20", "1", "red", "True", "small"]])
    refused = score(text.replace("id", "größe"), written="latin-1")
    assert refused == {"problem": "table.csv is not utf-8 text"}
    refused = score(text, more={"more.csv.gz": text})
    assert refused["problem"].startswith("more.csv.gz cannot be read: Not a gzipped file")
