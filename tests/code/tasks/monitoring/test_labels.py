"""Labels of a table find their rows; what is wrong with the table is named."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tasks.core.errors import ConfigurationError
from tasks.monitoring import labels
from tasks.monitoring.labels import Labels, fetch_labels, read_labels
from tasks.monitoring.quality import join_labels
from tasks.monitoring.settings import LabelTable
from tasks.monitoring.window import Answer

ANSWERS = [
    Answer("r1", 0, {"order": 17, "city": "Bern"}, "a"),
    Answer("r1", 1, {"order": 18.0, "city": "Bern"}, "b"),
    Answer("r2", 0, {"order": 19, "city": None}, "a"),
]


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "fetch_labels", fetch_labels.fn)


async def read(folder: Path, text: str, **table: Any) -> Labels:
    file = folder / "labels.csv"
    file.write_text(text)
    return await read_labels(LabelTable(file=str(file), **table), ANSWERS)


async def test_labels_are_matched_by_request_and_row(tmp_path: Path) -> None:
    text = "request,row,label\nr1,0,a\nr1,1,a\nr9,0,a\nr2,,\nr1,0,b\n"
    table = await read(tmp_path, text)
    assert table.by_row == {("r1", 0): "b", ("r1", 1): "a"}
    assert (table.unmatched, table.replaced) == (1, 1)
    feedback = {"r1": ("x", "x"), "r2": ("c",)}
    labelled = join_labels(ANSWERS, feedback, table.by_row)
    assert (labelled.actual, labelled.predicted) == (["b", "a", "c"], ["a", "b", "a"])
    assert [row["city"] for row in labelled.rows] == ["Bern", "Bern", ""]


async def test_labels_are_matched_by_columns_however_numbers_are_written(tmp_path: Path) -> None:
    table = await read(
        tmp_path,
        "order,city,is\n17.0,Bern,a\n18,Bern,b\n19,,c\n",
        key=("order", "city"),
        label="is",
    )
    assert table.by_row == {("r1", 0): "a", ("r1", 1): "b", ("r2", 0): "c"}


@pytest.mark.parametrize(
    ("text", "key"),
    [("city,label\n,a\n", ("city",)), ("name,city,label\n,Bern,a\n", ("name", "city"))],
)
async def test_missing_key_names_no_row(tmp_path: Path, text: str, key: tuple[str, ...]) -> None:
    """Nor does a column that the log leaves out because it is private."""
    table = await read(tmp_path, text, key=key)
    assert (table.by_row, table.unmatched) == ({}, 1)


def test_label_that_is_no_number_hides_no_other() -> None:
    labels: list[Any] = [1, "2.5", "x", 1e200, True, None]
    answers = [Answer(f"r{n}", 0, {}, 1.0) for n in range(len(labels))]
    feedback = {f"r{n}": (label,) for n, label in enumerate(labels)}
    labelled = join_labels(answers, feedback, {}, are_numbers=True)
    assert (labelled.actual, labelled.invalid) == (["1.0", "2.5"], 3)
    assert len(labelled.predicted) == len(labelled.rows) == 2


async def test_labels_come_from_parquet(
    tmp_path: Path, install: Callable[[Path, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "labels.parquet"
    file.write_bytes(b"PAR1")
    table = LabelTable(file=str(file), key=("order",), label="is")
    if find_spec("pyarrow") is None:
        with pytest.raises(ConfigurationError, match="no package that reads Parquet") as refused:
            await read_labels(table, ANSWERS)
        assert "uv sync --inexact --extra parquet" in refused.value.next_step
        monkeypatch.syspath_prepend(install(Path(sys.executable), "pyarrow>=26,<27"))
    import pyarrow
    from pyarrow import parquet

    def write(**columns: list[Any]) -> None:
        parquet.write_table(pyarrow.table(columns), file, row_group_size=2)

    with pytest.raises(ConfigurationError, match=r"labels\.parquet: Parquet"):
        await read_labels(table, ANSWERS)
    nan = float("nan")
    write(order=[17.0, 18.0, 18.0, 3.0], note=[[1], [2], [], None], **{"is": ["a", "b", "c", "d"]})
    read = await read_labels(table, ANSWERS)
    assert read == Labels({("r1", 0): "a", ("r1", 1): "c"}, unmatched=1, replaced=1)
    write(order=[17, 18, None], **{"is": [nan, 0.5, 1.0]})
    assert (await read_labels(table, ANSWERS)).by_row == {("r1", 1): "0.5"}
    write(request=["r1", "r1"], row=[1, 0], label=[True, None])
    read = await read_labels(LabelTable(file=str(file)), ANSWERS)
    assert read.by_row == {("r1", 1): "true"}
    content = file.read_bytes()
    file.write_bytes(content[:4] + b"\xff" * 20 + content[24:])
    with pytest.raises(ConfigurationError, match=r"labels\.parquet: Couldn't deserialize"):
        await read_labels(LabelTable(file=str(file)), ANSWERS)
    write(order=[17], **{"is": [[1, 2]]})
    with pytest.raises(ConfigurationError, match="column 'is' has values of type list; cast it"):
        await read_labels(table, ANSWERS)
    with pytest.raises(ConfigurationError, match="it has no column label, request"):
        await read_labels(LabelTable(file=str(file)), ANSWERS)


async def test_table_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="it has no column label"):
        await read(tmp_path, "request\nr1\n")
    with pytest.raises(ConfigurationError, match="there is no such file"):
        await read_labels(LabelTable(file="/nowhere.csv"), ANSWERS)
    assert await read_labels(None, ANSWERS) == Labels()


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"file": "labels.csv"},
        {"file": "/a.csv", "query": "SELECT 1", "database": "shop"},
        {"query": "SELECT 1"},
        {"file": "/a.csv", "key": []},
        {"file": "/a.csv", "key": ["request", "order"]},
        {"file": "/a.csv", "columns": []},
    ],
)
def test_settings_name_one_table(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        LabelTable.model_validate(values)
