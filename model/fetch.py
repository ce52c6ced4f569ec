"""Bring the data to data/raw.csv: UTF-8, commas, one header line; values as they were, as text."""

import csv
import re
from collections import Counter
from pathlib import Path

from model import estimators
from model.files import RAW
from model.memory import require_memory
from model.params import ConfigError, Params, run, suggest, suggest_nearest
from model.sources import measure_files, read_rows

MEASURED_ROWS = 100_000
# A condition of gate.slices, as the gate reads it.
SLICE = re.compile(r"^(?P<column>.+?) *(<=|>=|==|!=|<|>) *.+$")


def main(params: Params) -> None:
    """Write data/raw.csv.

    Args:
        params: `data`; all else is checked against the data's columns.

    Raises:
        ConfigError: params.yaml is wrong, or the file is missing or not such a CSV file.
    """
    estimators.build(params)
    part = RAW.with_suffix(".part")
    RAW.parent.mkdir(exist_ok=True)
    try:
        write_table(params, part)
        part.replace(RAW)
    finally:
        part.unlink(missing_ok=True)


def write_table(params: Params, path: Path) -> None:
    """Write the data as `main` does, to any path; arguments and errors are those of `main`."""
    require_memory(measure_files(params.data), params.data.source)
    rows = read_rows(params.data)
    columns = name_columns(next(rows))
    _check_columns(params, columns)
    has_rows = False
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for number, row in enumerate(rows):
            writer.writerow(row)
            if number % MEASURED_ROWS == 0:  # of what is compressed, the size is seen here first
                require_memory(file.tell(), params.data.source)
            has_rows = True
    if not has_rows:
        raise ConfigError("data.source", f"{params.data.source} has a header, but no rows")


def name_columns(header: list[str]) -> list[str]:
    """Name columns without a name by their position, as pandas does: `Unnamed: 0`."""
    return [name if name.strip() else f"Unnamed: {at}" for at, name in enumerate(header)]


def _check_columns(params: Params, columns: list[str]) -> None:
    source = params.data.source
    duplicates = [column for column, count in Counter(columns).items() if count > 1]
    if duplicates:
        raise ConfigError("data.source", f"{source}: two columns are called '{duplicates[0]}'")
    data = params.data
    for key, names in [("target", [data.target]), ("drop", data.drop), ("private", data.private)]:
        for column in names:
            if column not in columns:
                hint = "; is data.separator right?" if len(columns) == 1 else ""
                hint = hint or suggest_nearest(column, columns) or "."
                problem = f"'{column}' is not a column of {source}{hint}"
                raise ConfigError(f"data.{key}", f"{problem} Columns: {', '.join(columns)}")
    if data.target in data.private:
        problem = f"'{data.target}' is the target, which the model answers to everybody"
        raise ConfigError("data.private", problem)
    if data.target in data.drop:
        raise ConfigError("data.drop", f"'{data.target}' is the target")
    if len(columns) - len(set(data.drop)) < 2:
        raise ConfigError("data.drop", "no column is left to learn from")
    _check_gate(params, set(columns) - {data.target, *data.drop})


def _check_gate(params: Params, columns: set[str]) -> None:
    """Check the columns that rules of the gate name."""
    for condition in params.gate.slices:
        parsed = SLICE.match(condition)
        column = condition if condition in columns or not parsed else parsed["column"]
        if column not in columns:
            problem = f"'{column}' is not a column that the model takes{suggest(column, columns)}"
            raise ConfigError("gate.slices", problem)
        if column in params.data.private:
            raise ConfigError("gate.slices", f"'{column}' is in data.private, and would be shown")
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
