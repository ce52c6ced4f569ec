"""Bring the data to data/raw.csv: UTF-8, commas, one header line; values as they were, as text."""

import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sklearn import datasets

from model import estimators
from model.files import RAW
from model.params import ConfigError, Params, run, suggest, suggest_nearest

BUNDLED = {
    f"sklearn.datasets.{name}": getattr(datasets, name)
    for name in ("load_breast_cancer", "load_diabetes", "load_digits", "load_iris", "load_wine")
}
SOURCE = Path("data/source")


def main(params: Params) -> None:
    """Write data/raw.csv.

    Args:
        params: `data.source`, `data.separator`; all else is checked against the data's columns.

    Raises:
        ConfigError: params.yaml is wrong, or the file is missing or not such a CSV file.
    """
    estimators.build(params)
    rows = _read_rows(params)
    _check_columns(params, next(rows))
    part = RAW.with_suffix(".part")
    RAW.parent.mkdir(exist_ok=True)
    try:
        with part.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(_read_rows(params))
        part.replace(RAW)
    finally:
        part.unlink(missing_ok=True)


def check(params: Params) -> None:
    """Check all that `main` checks before it writes; arguments and errors are those of `main`."""
    estimators.build(params)
    _check_columns(params, next(_read_rows(params)))


def _read_rows(params: Params) -> Iterator[list[Any]]:
    """Yield the header, then the rows."""
    source = params.data.source
    if source in BUNDLED:
        frame = BUNDLED[source](as_frame=True).frame
        yield list(frame.columns)
        yield from frame.itertuples(index=False, name=None)
        return
    path = Path(source)
    if not path.is_file():
        files = [str(p) for p in sorted(SOURCE.glob("*")) if p.suffix not in (".dvc", ".md", "")]
        problem = f"no such file or bundled data set: '{source}'"
        raise ConfigError("data.source", problem + suggest(source, [*BUNDLED, *files]))
    if SOURCE.resolve() not in path.resolve().parents:
        raise ConfigError("data.source", f"'{source}' is not under {SOURCE}/, which DVC watches")
    yield from _read_csv_rows(path, params.data.separator)


def _read_csv_rows(path: Path, separator: str) -> Iterator[list[str]]:
    width = 0
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=separator, strict=True)
        try:
            for row in reader:
                width = width or len(row)
                if row and len(row) != width:
                    problem = f"{path}, line {reader.line_num}: {len(row)} values, not {width}"
                    raise ConfigError("data.source", problem)
                if row:
                    yield row
        except UnicodeDecodeError:
            raise ConfigError("data.source", f"{path} is not UTF-8 text") from None
        except csv.Error as error:
            problem = f"{path}, line {reader.line_num}: {error}"
            raise ConfigError("data.source", problem) from None
    if not width:
        raise ConfigError("data.source", f"{path} is empty")


def _check_columns(params: Params, columns: list[str]) -> None:
    source = params.data.source
    if not all(column.strip() for column in columns):
        problem = f"{source}: a column has no name (an index? write it with index=False)"
        raise ConfigError("data.source", problem)
    duplicates = [column for column, count in Counter(columns).items() if count > 1]
    if duplicates:
        raise ConfigError("data.source", f"{source}: two columns are called '{duplicates[0]}'")
    for key, names in [("target", [params.data.target]), ("drop", params.data.drop)]:
        for column in names:
            if column not in columns:
                hint = "; is data.separator right?" if len(columns) == 1 else ""
                hint = hint or suggest_nearest(column, columns) or "."
                problem = f"'{column}' is not a column of {source}{hint}"
                raise ConfigError(f"data.{key}", f"{problem} Columns: {', '.join(columns)}")
    if params.data.target in params.data.drop:
        raise ConfigError("data.drop", f"'{params.data.target}' is the target")
    if len(columns) - len(set(params.data.drop)) < 2:
        raise ConfigError("data.drop", "no column is left to learn from")


if __name__ == "__main__":
    run(main)
