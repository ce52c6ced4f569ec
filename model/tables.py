"""Read data/raw.csv as a table of typed columns: as `data.schema` says, or as the cells look.

A column is of one of five types, which training, serving and the reports share:

| dtype     | type    | cells                                                                     |
|-----------|---------|---------------------------------------------------------------------------|
| `int64`   | integer | whole numbers, none missing                                               |
| `float64` | number  | numbers; the empty cell and words such as `NA` are missing                |
| `bool`    | boolean | true and false; `boolean`, a dtype of pandas', where some are missing     |
| `datetime64[us]` | date | what `data.schema` says to be dates, in UTC                          |
| `object`  | text    | all else, and digits with leading zeros; only the empty cell is missing   |
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
import pandas as pd
from pandas.api import types

from model.dates import parse_dates
from model.params import ConfigError
from model.sections import ColumnSchema, Data

# Missing values in the middle of numbers, as R, SQL, spreadsheets and pandas write them.
NUMBER_WORDS = frozenset(
    {"#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"}
    | {"<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"}
)
TRUTH = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
BLOCK = 2**22  # bytes
SEPARATORS = [ord(mark) for mark in ',"\n']  # before the first character of a cell
SHOWN = 5  # rows and words that a message names


class Table(NamedTuple):
    """Typed columns, and the words that were read as missing: column -> word -> rows."""

    frame: "pd.DataFrame"
    words: dict[str, dict[str, int]]


def read_table(path: Path, data: Data) -> Table:
    """Read a CSV file as `fetch` writes it.

    Args:
        path: UTF-8, commas, one header line.
        data: which columns to leave out, and how the others are read.

    Returns:
        The columns that are not dropped, each of one of the four types.

    Raises:
        ConfigError: a column is not what `data.schema` says; names rows.
    """
    names = [name for name in pd.read_csv(path, nrows=0).columns if name not in data.drop]
    missing = {name: ["", *list_missing_words(data, name)] for name in names}
    text = [name for name in names if _get_schema(data, name).type in ("text", "date")]
    frame = _read(path, data, missing, dict.fromkeys(text, "str"))[names]
    if frame.empty:
        raise ConfigError("data.source", f"{data.source} has a header, but no rows")
    frame = _restore_codes(path, data, missing, frame)
    words: dict[str, dict[str, int]] = {}
    columns = {}
    for name in names:
        columns[name], words[name] = _convert(frame.pop(name), data)
    table = pd.DataFrame(columns)
    for name, schema in data.columns.items():
        if name in table:
            _check_values(table[name], schema, is_private=name in data.private)
    return Table(table, {name: counts for name, counts in words.items() if counts})


def list_missing_words(data: Data, name: str) -> list[str]:
    """List the words that `data` says stand for a missing value in a column."""
    return sorted({*data.missing, *_get_schema(data, name).missing})


def to_numbers(values: "pd.Series", decimal: str, thousands: str | None) -> "pd.Series":
    """Convert text to numbers, NaN where it is none."""
    text = values.astype("str").str.strip()
    if thousands:
        text = text.str.replace(thousands, "", regex=False)
    if decimal != ".":
        text = text.str.replace(decimal, ".", regex=False)
    numbers = pd.to_numeric(text, errors="coerce").astype("float64")
    return numbers.where(np.isfinite(numbers))


def hash_rows(frame: "pd.DataFrame") -> "pd.Series":
    """Hash rows: equal ones have equal hashes, found in a sixth of the time of `duplicated`."""
    hashes: pd.Series = pd.util.hash_pandas_object(frame, index=False)
    return hashes


def list_rows(mask: "pd.Series") -> str:
    """List the first rows of a mask: `rows 14, 52`; row 1 is the first below the header.

    Args:
        mask: its index is the position of each row in the file, from 0.
    """
    positions = [int(position) + 1 for position in mask.index[mask.to_numpy(dtype=bool)]]
    more = len(positions) - SHOWN
    listed = ", ".join(map(str, positions[:SHOWN])) + (f" and {more} more" if more > 0 else "")
    return f"row{'s' if len(positions) > 1 else ''} {listed}"


def list_words(words: Iterable[Any], *, is_private: bool = False) -> str:
    """List the first words, in quotes; of a private column, only how many there are."""
    shown = list(words)
    if is_private:
        return f"{len(shown)} value{'s' if len(shown) > 1 else ''}"
    more = ", …" if len(shown) > SHOWN else ""
    return ", ".join(f"'{word}'" for word in shown[:SHOWN]) + more


def _get_schema(data: Data, name: str) -> ColumnSchema:
    return data.columns.get(name, ColumnSchema())


def _read(
    path: Path,
    data: Data,
    missing: dict[str, list[str]],
    dtypes: dict[str, str],
    columns: list[str] | None = None,
) -> "pd.DataFrame":
    return pd.read_csv(
        path,
        dtype=dtypes,
        usecols=columns or list(missing),
        keep_default_na=False,
        na_values=missing,
        decimal=data.decimal,
        thousands=data.thousands,
        low_memory=False,
    )


def _restore_codes(
    path: Path, data: Data, missing: dict[str, list[str]], frame: "pd.DataFrame"
) -> "pd.DataFrame":
    """Replace whole numbers by their cells, where they are codes that a number does not keep."""
    free = [name for name in frame if _get_schema(data, name).type is None]
    large = [name for name in free if _has_large_numbers(frame[name], missing[name])]
    whole = [name for name in free if _is_whole(frame[name])]
    codes = large + (whole if whole and _has_leading_zeros(path) else [])
    if not codes:
        return frame
    cells = _read(path, data, missing, dict.fromkeys(codes, "str"), codes)
    return frame.assign(
        **{name: cells[name] for name in codes if _are_codes(cells[name].dropna().unique())}
    )


def _has_large_numbers(column: "pd.Series", missing: list[str]) -> bool:
    """Tell whether pandas has found numbers beyond int64: then it leaves missing cells as text."""
    if types.is_string_dtype(column.dtype) and column.dtype != object:
        return bool(column.isin(missing).any())
    return column.dtype in (object, np.uint64)


def _is_whole(column: "pd.Series") -> bool:
    """Tell whether all cells were read as whole numbers; among missing ones they are floats."""
    if column.dtype == np.float64:
        values = column.to_numpy()
        return bool(((values == np.floor(values)) | np.isnan(values)).all())
    return bool(column.dtype == np.int64)


def _has_leading_zeros(path: Path) -> bool:
    """Tell whether any cell of a CSV file begins with 0 and a digit: quick, for large files."""
    last = b"\n"
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            part = np.frombuffer(last + block, dtype=np.uint8)
            starts = np.flatnonzero(part[1:-1] == ord("0"))
            begins = np.isin(part[starts], SEPARATORS)
            after = part[starts + 2]
            if (begins & (after >= ord("0")) & (after <= ord("9"))).any():
                return True
            last = block[-2:]
    return False


def _are_codes(cells: Iterable[str]) -> bool:
    """Tell whether cells are digits that a number would not keep: 007, or more than 18 of them."""
    return all(re.fullmatch(r"[+-]?\d+", cell) for cell in cells) and any(
        (cell[0] == "0" and len(cell) > 1) or abs(int(cell)) >= 2**63 for cell in cells
    )


def _convert(column: "pd.Series", data: Data) -> "tuple[pd.Series, dict[str, int]]":
    """Convert a column to its type; also count the words that stand for missing values."""
    name, kind = str(column.name), _get_schema(data, str(column.name)).type
    if kind == "text":
        return column.astype(object), {}
    if kind == "date":
        return _convert_dates(column, data)
    words: dict[str, int] = {}
    is_class = name == data.target and data.task == "classification"
    if types.is_string_dtype(column.dtype) and (kind or not is_class):
        counts = column.value_counts()
        known = counts[counts.index.isin(NUMBER_WORDS)]
        cells = counts.index[~counts.index.isin(NUMBER_WORDS)].to_series().astype("str")
        values = _find_values(cells, data, kind)
        if kind and values.isna().any():
            wrong = cells[values.isna()]
            is_private = name in data.private
            _refuse(name, kind, list_rows(column.isin(wrong)), wrong, is_private=is_private)
        if kind or (len(known) and values.notna().all() and not _are_codes(cells)):
            words = {str(word): int(count) for word, count in known.items()}
            column = column.map(dict(zip(cells, values, strict=True)))
    return (_apply(column, kind, data) if kind else _simplify(column)), words


def _convert_dates(column: "pd.Series", data: Data) -> "tuple[pd.Series, dict[str, int]]":
    name = str(column.name)
    is_word = column.isin(NUMBER_WORDS)
    words = {str(word): int(count) for word, count in column[is_word].value_counts().items()}
    cells = column.mask(is_word)
    dates = parse_dates(cells, _get_schema(data, name).format)
    wrong = cells.notna() & dates.isna()
    if wrong.any():
        kind = f"date such as 2024-01-31 (for others, set data.schema.{name}.format)"
        is_private = name in data.private
        _refuse(name, kind, list_rows(wrong), cells[wrong].unique(), is_private=is_private)
    return dates, words


def _find_values(cells: "pd.Series", data: Data, kind: str | None) -> "pd.Series":
    """Find the truth value or the number of each distinct text, NaN where it is neither."""
    if kind == "boolean" or (kind is None and len(cells) and cells.isin(TRUTH).all()):
        return cells.map(TRUTH).astype(object)
    return to_numbers(cells, data.decimal, data.thousands)


def _simplify(column: "pd.Series") -> "pd.Series":
    """Convert what pandas read to one of the four types."""
    values = column.dropna()
    if column.dtype == object and len(values) and values.map(type).eq(bool).all():
        column = column.astype("boolean")  # pandas reads True, False and holes as objects
    if column.dtype == "boolean" and not column.isna().any():
        return column.astype(bool)
    if types.is_bool_dtype(column.dtype) or column.dtype == np.int64:
        return column
    if types.is_numeric_dtype(column.dtype):
        return column.astype("float64")
    return column.map(str, na_action="ignore").astype(object)


def _apply(column: "pd.Series", kind: str, data: Data) -> "pd.Series":
    """Convert a column of numbers or truth values to the type that `data.schema` names."""
    simple = _simplify(column)
    is_truth = types.is_bool_dtype(simple.dtype)
    if kind == "boolean":
        wrong = simple.notna() & (not is_truth) & ~simple.isin([0, 1])
        typed = simple.astype("boolean") if not wrong.any() else simple
    else:
        wrong = simple.notna() & is_truth
        if kind == "integer" and not is_truth:
            wrong = simple.notna() & (simple != np.floor(simple))
        whole = kind == "integer" and not simple.isna().any()
        typed = simple.astype("int64" if whole else "float64") if not wrong.any() else simple
    if wrong.any():
        is_private = column.name in data.private
        cells = column[wrong].unique()
        _refuse(str(column.name), kind, list_rows(wrong), cells, is_private=is_private)
    return _simplify(typed)


def _refuse(name: str, kind: str, rows: str, cells: Iterable[Any], *, is_private: bool) -> NoReturn:
    problem = f"{list_words(cells, is_private=is_private)} ({rows}) is no {kind}"
    hint = f"if it stands for a missing value, name it in data.schema.{name}.missing"
    raise ConfigError(f"data.schema.{name}.type", f"{problem}; {hint}")


def _check_values(column: "pd.Series", schema: ColumnSchema, *, is_private: bool) -> None:
    """Refuse values outside the categories or the range of `data.schema`."""
    name = str(column.name)
    if schema.categories is not None:
        wrong = column.notna() & ~column.map(str, na_action="ignore").isin(schema.categories)
        if wrong.any():
            values = list_words(column[wrong].unique(), is_private=is_private)
            problem = f"{values} ({list_rows(wrong)}) is not among the categories"
            raise ConfigError(f"data.schema.{name}.categories", problem)
    if schema.minimum is None and schema.maximum is None:
        return
    if not types.is_numeric_dtype(column.dtype):
        raise ConfigError(f"data.schema.{name}", f"column '{name}' has no numbers, so no range")
    low = -np.inf if schema.minimum is None else schema.minimum
    high = np.inf if schema.maximum is None else schema.maximum
    wrong = column.notna() & ~column.between(low, high)
    if wrong.any():
        values = list_words(column[wrong].unique(), is_private=is_private)
        problem = f"{values} ({list_rows(wrong)}) is not between {low:g} and {high:g}"
        raise ConfigError(f"data.schema.{name}", problem)
