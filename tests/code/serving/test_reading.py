"""Training and serving read a value the same way, for all types, missing values and names."""

import csv
import io
import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as some

from tests.code.model import support
from tests.code.serving.running import HERE, ROOT, clean_environment

MISSING = ["?", "unknown"]
NUMBER_WORDS = ["NA", "NaN", "None", "null", "n/a"]
PARAMS = {
    "name": "paper",
    "seed": 1,
    "data": {"source": "data/source/table.csv", "target": "y", "task": "classification"}
    | {"missing": MISSING, "split": "random", "schema": {"at": {"type": "date"}}},
    "train": {"estimator": "sklearn.linear_model.LogisticRegression", "scoring": "accuracy"},
    "save": {},
    "gate": {"metric": "accuracy", "minimum": 0.5},
}
ROWS = 20

text = some.text(some.characters(exclude_categories=["Cs", "Cc"]), max_size=6)
lines = some.sampled_from(["a\nb", 'say "x"', "a,b", " a ", "C:\\n", "\u2028", "=1", "1_000"])
holes = some.just("")
integers = some.integers(-(2**64), 2**64).map(str)
floats = some.floats(allow_nan=False, allow_infinity=False).map(repr)
codes = some.integers(0, 999).map(lambda number: f"{number:05}")
truth = some.sampled_from(["True", "False"])
words = some.sampled_from([*NUMBER_WORDS, *MISSING])
kinds = [integers, floats, codes, truth, text, lines, words, some.integers(-9, 9).map(str)]
cells = some.lists(some.sampled_from([*kinds, holes]), min_size=1, max_size=2).flatmap(
    lambda kinds: some.lists(some.one_of(kinds), min_size=ROWS, max_size=ROWS)
)
names = some.one_of(text, some.integers(0, 20).map(str), codes).filter(
    lambda name: name.strip() and name not in {"y", "row", "at"}
)
tables = some.dictionaries(names, cells, min_size=1, max_size=4)
zones = some.sampled_from([None, UTC, timezone(timedelta(hours=-5, minutes=30))])
moments = some.one_of(
    some.dates().map(date.isoformat),
    some.builds(datetime.replace, some.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)),
                tzinfo=zones).map(datetime.isoformat),
    some.sampled_from(["", "NA", "?", "2024-02-29 23:59", "2024-01-01T00:00:00Z"]),
    some.just("2024-01-01T00:00:00.123456789+01:00"),
)  # fmt: skip
dates = some.lists(moments, min_size=ROWS, max_size=ROWS)


class Worker:
    """A process that answers each line of JSON with one."""

    def __init__(self, *argv: str | Path, **variables: str) -> None:
        self.process = subprocess.Popen(
            [str(item) for item in argv],
            cwd=ROOT,
            env={**clean_environment(), **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, question: Any) -> Any:
        """Send a question and wait for the answer."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@pytest.fixture(scope="module")
def workers(runtime: Path) -> Iterator[tuple[Worker, Worker]]:
    python = Path(support.environment()["UV_PROJECT_ENVIRONMENT"], "bin", "python")
    training = Worker(python, ROOT / "tests/code/model/read_splits.py", json.dumps(PARAMS))
    serving = Worker(runtime, HERE / "read_requests.py", PYTHONPATH=str(ROOT))
    yield training, serving
    for worker in (training, serving):
        worker.process.communicate()


def make_value(cell: str, kind: str) -> Any:
    """Make the JSON value that a client sends for a cell of the table."""
    if kind == "text":
        return cell or None
    if cell in {"", *NUMBER_WORDS, *MISSING}:
        return None
    if kind == "datetime":
        return cell
    if kind == "boolean":
        return cell == "True"
    return int(cell) if kind == "integer" else float(cell)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(table=tables, at=dates)
@example(table={"0": ["0"] * 18 + [str(2**63), ""]}, at=["2000-01-01"] * ROWS)
def test_rows_of_a_table_are_read_alike(
    workers: tuple[Worker, Worker], table: dict[str, list[str]], at: list[str]
) -> None:
    training, serving = workers
    columns = {
        "row": [str(number) for number in range(ROWS)],
        **table,
        "at": at,
        "y": ["a", "b"] * 10,
    }
    content = io.StringIO()
    writer = csv.writer(content, lineterminator="\n")
    writer.writerows([list(columns), *zip(*columns.values(), strict=True)])
    split = training.ask(content.getvalue())
    if "refused" in split:
        assert "has no values" in split["refused"] or "infinite" in split["refused"]
        return
    types = split["runtime"]["columns"]
    rows = [
        {name: make_value(columns[name][row[0]], kind) for name, kind in types.items()}
        for row in split["rows"]
    ]
    answer = serving.ask({**split, "rows": rows})
    assert answer == {"names": list(types), "dtypes": split["dtypes"], "rows": split["rows"]}
