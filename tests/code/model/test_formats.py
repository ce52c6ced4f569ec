"""Data come from folders, Parquet and files with other quotes, and are refused with a remedy."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.core.settings import CHECKOUT
from tests.code.model import support
from tests.code.model.tables import run_cases, write_case

HALVES = [
    "x,y\n" + "".join(f"{i},{'ab'[i % 2]}\n" for i in range(start, start + 20)) for start in (0, 20)
]
TURNED = "y,x\n" + "".join(f"{'ab'[i % 2]},{i}\n" for i in range(20, 40))
FOLDER = "data/source/shop"
# Files of the folder by name, and how the refusal begins; empty for none.
FOLDERS: dict[str, tuple[dict[str, str | bytes], str]] = {
    "same": ({"1.csv": HALVES[0], "2.csv": HALVES[1]}, ""),
    "turned": ({"1.csv": HALVES[0], "2.csv": TURNED, "notes.txt": "?"}, ""),
    "nested": ({"2023/1.csv": HALVES[0], "2024/1.csv.gz": gzip.compress(TURNED.encode())}, ""),
    "other-columns": (
        {"1.csv": HALVES[0], "2.csv": "x,z\n1,2\n"},
        f"data.source: {FOLDER}/2.csv has no 'y', 'z', unlike {FOLDER}/1.csv: files of a folder",
    ),
    "ragged": (
        {"1.csv": HALVES[0], "2.csv": "x,y\n1,a,2\n"},
        f"data.source: {FOLDER}/2.csv, line 2: 3 values, not 2",
    ),
    "empty-file": (
        {"1.csv": HALVES[0], "2.csv": ""},
        f"data.source: {FOLDER}/2.csv is empty",
    ),
    "other-encoding": (
        {"1.csv": HALVES[0], "2.csv": b"x,y\n1,\xe9\n"},
        f"data.encoding: {FOLDER}/2.csv, line 2 is not utf-8 text; is it 'cp1252'?",
    ),
    "no-files": ({"a.txt": ""}, f"data.source: {FOLDER}/ has no file that ends in .csv or .csv.gz"),
    "mixed": (
        {"1.csv": HALVES[0], "2.parquet": b"PAR1"},
        f"data.source: {FOLDER}/1.csv and {FOLDER}/2.parquet are of different formats",
    ),
    "parquet": (
        {"1.parquet": b"PAR1"},
        f"data.source: {FOLDER}/1.parquet: the model environment has no package that reads Parquet"
        "; add it: uv add --project model --group custom pyarrow",
    ),
}
QUOTES = "x,y\n" + "".join(f"{i}.5\",'{'ab'[i % 2]},c'\n" for i in range(40))
# More of `data`, and how the refusal begins.
QUOTED = {
    "double": ({}, "data.source: data/source/table.csv, line 2: 3 values, not 2"),
    "single": ({"quote": "'"}, ""),
    "part-of-text": (
        {},
        "data.quote: data/source/table.csv, line 2: ',' expected after '\"'; if \" is part of",
    ),
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    base = tmp_path_factory.mktemp("formats")
    folders = []
    for name, (files, _) in FOLDERS.items():
        folders.append(write_case(base / name, "y", data={"source": FOLDER}))
        for path, content in files.items():
            file = folders[-1] / FOLDER / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content.encode() if isinstance(content, str) else content)
    for name, (data, _) in QUOTED.items():
        csv = 'x,y\n"5" pipe,a\n' if name == "part-of-text" else QUOTES
        folders.append(write_case(base / name, "y", csv, data=data))
    return run_cases(folders)


@pytest.mark.parametrize("name", [*FOLDERS, *QUOTED])
def test_data_are_read_or_refused(outcomes: dict[str, dict[str, Any]], name: str) -> None:
    _, refusal = (FOLDERS | QUOTED)[name]
    assert outcomes[name]["refused"].startswith(f"params.yaml: {refusal}" if refusal else "")
    if not refusal:
        assert not outcomes[name]["refused"]
        columns = {column["name"]: column for column in outcomes[name]["columns"]}
        assert {column["type"] for column in columns.values()} <= {"integer", "text"}
        assert columns["x"]["distinct"] == 40


def test_table_larger_than_the_memory_is_refused_before_it_is_read(tmp_path: Path) -> None:
    folder = write_case(tmp_path / "large", "y", "x,y\n")
    with (folder / "data/source/table.csv").open("r+b") as file:
        file.truncate(2**42)
    zipped = write_case(
        tmp_path / "zipped", "y", gzip.compress(HALVES[0].encode()), suffix=".csv.gz"
    )
    script = """
import json, os, sys
from model import fetch, memory, params
def refuse(folder):
    os.chdir(folder)
    try:
        fetch.main(params.load())
    except params.ConfigError as error:
        return str(error)
    return ""
answers = [refuse(sys.argv[1]), refuse(sys.argv[2])]
memory.list_limits = lambda: [300]
print(json.dumps([*answers, refuse(sys.argv[2])]))
"""
    done = support.model_python("-c", script, folder, zipped, cwd=CHECKOUT)
    large, fits, exceeds = json.loads(done.stdout)
    assert large.startswith(
        "params.yaml: data.source: data/source/table.csv is a table of at least 4,096.0 GB; to"
        " read it takes about 20,480.0 GB of memory, and a stage may have "
    )
    assert large.endswith("raise SLIPWAY_SANDBOX_MEMORY_GB, or use a larger host")
    assert not fits
    assert exceeds
    assert not list(folder.glob("data/raw*"))


@pytest.fixture(scope="module")
def pyarrow(install: Callable[[Path, str], Path]) -> Path:
    """Install what the model environment lacks."""
    python = Path(support.environment()["UV_PROJECT_ENVIRONMENT"], "bin", "python")
    return install(python, "pyarrow>=26,<27")


def test_parquet_is_read_as_what_it_is(pyarrow: Path, tmp_path: Path) -> None:
    folder = write_case(tmp_path / "parquet", "y", data={"source": FOLDER, "drop": ["many"]})
    script = """
import datetime, decimal, json, os, pathlib, sys
sys.path.append(sys.argv[1])
os.chdir(sys.argv[2])
import pyarrow
from pyarrow import parquet
from model import fetch, params, save
source = pathlib.Path("data/source/shop")
source.mkdir()
rows = {
    "whole": [1, None, 2**62], "share": [0.5, float("nan"), None],
    "name": ["a,b", "", None], "flag": [True, False, None],
    "day": [datetime.date(2024, 1, 2), None, None],
    "at": [datetime.datetime(2024, 1, 2, 3, 4), None, None],
    "price": [decimal.Decimal("1.10"), None, None], "many": [[1], [2], None],
    "y": ["a", "b", "a"],
}
table = pyarrow.table(rows)
table = table.set_column(8, "y", table["y"].dictionary_encode())
parquet.write_table(table, source / "1.parquet")
parquet.write_table(table.select(table.column_names[::-1]), source / "2.parquet")
given = params.load()
fetch.main(given)
assert {"numpy", "pyarrow"} == {*save.find_packages(["numpy"], with_arrow=True)}
assert {"numpy"} == {*save.find_packages(["numpy"], with_arrow=False)}
print(json.dumps(pathlib.Path("data/raw.csv").read_text()))
def refuse():
    try:
        fetch.main(given)
    except params.ConfigError as error:
        print(json.dumps(str(error)))
parquet.write_table(table.append_column("parts", [[{"a": 1}] * 3]), source / "1.parquet")
refuse()
(source / "1.parquet").write_bytes(b"PAR1")
refuse()
"""
    done = support.model_python("-c", script, pyarrow, folder, cwd=CHECKOUT)
    text, nested, broken = map(json.loads, done.stdout.splitlines())
    lines = text.splitlines()
    assert lines[:4] == [
        "whole,share,name,flag,day,at,price,many,y",
        '1,0.5,"a,b",true,2024-01-02,2024-01-02T03:04:00,1.10,,a',
        ",,,false,,,,,b",
        f"{2**62},,,,,,,,a",
    ]
    assert lines[4:] == lines[1:4], "columns in another order"
    assert nested.startswith(
        "params.yaml: data.source: data/source/shop/1.parquet: column 'parts' is of type"
        " struct<a: int64>, which is no single value; name it in data.drop, or write its parts"
    )
    assert broken.startswith(f"params.yaml: data.source: {FOLDER}/1.parquet cannot be read as Parq")
