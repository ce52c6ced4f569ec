"""Bring the data to data/raw.csv: UTF-8, commas, one header line; values as they were, as text."""

import csv
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from model.estimators import Traits, build
from model.files import RAW, RAW_ROWS, Counts, write_json
from model.memory import require_memory
from model.params import ConfigError, Params, run, suggest, suggest_nearest
from model.sources import SEPARATORS, measure_files, read_rows

MEASURED_ROWS = 100_000
# A condition of gate.slices, as the gate reads it.
SLICE = re.compile(r"^(?P<column>.+?) *(<=|>=|==|!=|<|>) *.+$")


def main(params: Params) -> None:
    """Write data/raw.csv, a file of test rows at its end, and data/raw.json with their numbers.

    Args:
        params: `data`; all else is checked against the data's columns.

    Raises:
        ConfigError: params.yaml is wrong, or the file is missing or not such a CSV file.
    """
    build(params, Traits())
    part = RAW.with_suffix(".part")
    RAW.parent.mkdir(exist_ok=True)
    try:
        counts = write_table(params, part)
        part.replace(RAW)
    finally:
        part.unlink(missing_ok=True)
    write_json(RAW_ROWS, counts._asdict())


def write_table(params: Params, path: Path) -> Counts:
    """Write the data as `main` does, to any path; arguments and errors are those of `main`."""
    require_memory(measure_files(params.data), params.data.source)
    rows = read_rows(params.data)
    columns = name_columns(next(rows))
    _check_columns(params, columns)
    test = params.data.split.file
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        count = _write_rows(writer, file, rows, params.data.source)
        if not test:
            return Counts(count, 0)
        if not Path(test).is_file():
            raise ConfigError("data.split", f"no such file: '{test}'")
        tests = read_rows(params.data.copy(update={"source": test}))
        order = _match_columns(columns, name_columns(next(tests)), test)
        ordered = ([row[i] for i in order] for row in tests)
        return Counts(count, _write_rows(writer, file, ordered, test))


def name_columns(header: list[str]) -> list[str]:
    """Name columns without a name by their position, as pandas does: `Unnamed: 0`."""
    return [name if name.strip() else f"Unnamed: {at}" for at, name in enumerate(header)]


def _write_rows(writer: Any, file: IO[str], rows: Iterable[list[Any]], source: str) -> int:
    count = 0
    for row in rows:
        if count % MEASURED_ROWS == 0:  # of what is compressed, the size is seen here first
            require_memory(file.tell(), source)
        writer.writerow(row)
        count += 1
    if not count:
        raise ConfigError("data.source", f"{source} has a header, but no rows")
    return count


def _match_columns(columns: list[str], test_columns: list[str], source: str) -> list[int]:
    """Return where each column is in the file of test rows, which may have another order."""
    for name in columns:
        if name not in test_columns:
            raise ConfigError("data.split", f"{source} has no column '{name}'")
    if len(test_columns) != len(columns):
        extra = ", ".join(f"'{name}'" for name in test_columns if name not in columns)
        raise ConfigError("data.split", f"{source} has columns that the data lack: {extra}")
    return [test_columns.index(name) for name in columns]


def _check_columns(params: Params, columns: list[str]) -> None:
    source = params.data.source
    duplicates = [column for column, count in Counter(columns).items() if count > 1]
    if duplicates:
        raise ConfigError("data.source", f"{source}: two columns are called '{duplicates[0]}'")
    data = params.data
    weights = [data.weights] if data.weights else []
    for key, names in [
        ("target", [data.target]),
        ("drop", data.drop),
        ("private", data.private),
        ("split", data.split.columns),
        ("weights", weights),
    ]:
        for column in names:
            if column not in columns:
                hint = _suggest_separator(columns[0]) if len(columns) == 1 else ""
                hint = hint or suggest_nearest(column, columns) or "."
                problem = f"'{column}' is not a column of {source}{hint}"
                raise ConfigError(f"data.{key}", f"{problem} Columns: {', '.join(columns)}")
    if data.target in data.private:
        problem = f"'{data.target}' is the target, which the model answers to everybody"
        raise ConfigError("data.private", problem)
    for key, names in [("drop", data.drop), ("split", data.split.columns), ("weights", weights)]:
        if data.target in names:
            raise ConfigError(f"data.{key}", f"'{data.target}' is the target")
    if data.weights in data.drop:
        problem = f"'{data.weights}' is in data.drop, too: take it out there"
        raise ConfigError("data.weights", f"{problem}; weights are not learnt from")
    if len(columns) - len({*data.drop, *weights}) < 2:
        raise ConfigError("data.drop", "no column is left to learn from")
    _check_gate(params, set(columns) - {data.target, *data.drop})


def _suggest_separator(header: str) -> str:
    """Suggest the character that a header of one column has between words."""
    mark = next((mark for mark in SEPARATORS if mark in header), "").replace("\t", "\\t")
    return f"; is data.separator '{mark}'?" if mark else "; is data.separator right?"


def _check_gate(params: Params, columns: set[str]) -> None:
    """Check the columns that rules of the gate name."""
    for condition in params.gate.slices:
        parsed = SLICE.match(condition)
        column = condition if condition in columns or not parsed else parsed["column"]
        if column not in columns:
            problem = f"'{column}' is not a column that the model takes{suggest(column, columns)}"
            raise ConfigError("gate.slices", problem)
        if column in params.data.private:
            problem = f"'{column}' is in data.private, and reports would show its values"
            raise ConfigError("gate.slices", f"{problem}: leave it out")
    for at, test in enumerate(params.gate.behaviour):
        key = f"gate.behaviour.{at}"
        if test.column not in columns:
            hint = suggest(test.column, columns)
            problem = f"'{test.column}' is not a column that the model takes{hint}"
            raise ConfigError(f"{key}.column", problem)
        if test.expect != "same" and params.data.task == "classification" and not test.label:
            problem = "missing: the class whose probability is meant, since classes have no order"
            raise ConfigError(f"{key}.label", problem)


if __name__ == "__main__":
    run(main)
