"""Read the cells of a chunk as the values that a request would carry.

Columns are read whole. What a column's fast check does not take for certain is decided by the
validator of requests, row by row: so both accept the same rows, and give the same reasons.
"""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from serving.errors import RequestError, to_json
from serving.interface import Column, Kind
from serving.predictor import Predictor
from serving.requests import NUMBER_LIMITS, find_integer_bounds, read_moment
from serving.scoring.job import Reading
from serving.scoring.layout import make_options

# Missing values in the middle of numbers, as training reads them; a test compares the two.
NUMBER_WORDS = frozenset(
    {"#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"}
    | {"<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"}
)
TRUTH = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_EXACT = 2**53  # beyond it a float may be another whole number than the cell
_ROW = re.compile(r"Row 1(: |, )")


@dataclass(frozen=True)
class Cells:
    """The cells of a chunk.

    Attributes:
        columns: As pandas reads them, those of the model alone.
        others: Columns that are carried along, as they are written.
        read_texts: Returns the cells of all columns, as they are written.
    """

    columns: pd.DataFrame
    others: Mapping[str, Any]
    read_texts: Callable[[], pd.DataFrame]


@dataclass(frozen=True)
class Checked:
    """The rows of a chunk after the check.

    Attributes:
        table: The values of all rows by column; of rows outside of `is_plain` they mean nothing.
        is_plain: Mask of the rows that the fast check takes.
        rows: Rows that the validator of requests has accepted, by position.
        problems: Reasons why it refused the others, by position.
    """

    table: Mapping[str, Any]
    is_plain: Any
    rows: Mapping[int, Any]
    problems: Mapping[int, str]


def read_csv(
    text: bytes, header: Sequence[str], columns: Sequence[Column], reading: Reading
) -> Cells:
    """Read rows of CSV.

    Args:
        text: rows without a header, in UTF-8, each of as many cells as columns.
        header: names of all columns.
        columns: those that the model takes.
        reading: how numbers are written.
    """
    names = [column.name for column in columns]
    others = list_carried(header, names)
    texts = [column.name for column in columns if column.kind in {Kind.TEXT, Kind.DATETIME}]
    common: dict[str, Any] = {
        "names": list(header), "header": None, "sep": reading.separator, "engine": "c",
        "quotechar": reading.quote or '"', "quoting": make_options(reading)["quoting"],
        "skip_blank_lines": False,  # those of the file are not in the text
    }  # fmt: skip

    def read(**options: Any) -> pd.DataFrame:
        return pd.read_csv(io.BytesIO(text), **common, **options)

    frame = read(
        dtype=dict.fromkeys([*texts, *others], object),
        keep_default_na=False,
        na_values={column.name: sorted(list_missing(column, reading)) for column in columns},
        decimal=reading.decimal,
        thousands=reading.thousands,
        low_memory=False,
    )
    return Cells(
        frame[names],
        {name: frame[name].to_numpy() for name in others},
        lambda: read(dtype=object, na_filter=False),
    )


def list_carried(header: Sequence[str], taken: Sequence[str]) -> list[str]:
    """List the columns that the model does not take; the result has them, too."""
    names = frozenset(taken)
    return [name for name in header if name not in names]


def list_missing(column: Column, reading: Reading) -> set[str]:
    """List the cells of a column that stand for a missing value."""
    if column.kind is Kind.TEXT:
        return {""}  # others reach the model as texts, as they do in a request
    named = reading.missing.get(column.name, ())
    return {"", *NUMBER_WORDS, *reading.missing_words, *named}


def check(cells: Cells, predictor: Predictor, reading: Reading) -> Checked:
    """Check the rows of a chunk as requests are checked."""
    columns = predictor.interface.columns
    values, doubt = {}, np.zeros(len(cells.columns), dtype=bool)
    for column in columns:
        values[column.name], doubtful = _check_column(cells.columns[column.name], column, reading)
        doubt |= doubtful
    positions = np.flatnonzero(doubt)
    rows: dict[int, Any] = {}
    problems: dict[int, str] = {}
    if len(positions):
        texts = cells.read_texts()[[column.name for column in columns]].iloc[positions]
        for position, record in zip(positions.tolist(), texts.itertuples(index=False), strict=True):
            row = {
                column.name: make_value(cell, column, reading)
                for column, cell in zip(columns, record, strict=True)
            }
            try:
                (rows[position],) = predictor.rows(to_json(predictor.interface.wrap([row])))
            except RequestError as refused:
                problems[position] = _ROW.sub("", str(refused), count=1)
    return Checked(values, ~doubt, rows, problems)


def make_value(cell: Any, column: Column, reading: Reading) -> Any:
    """Make the value that a request carries for a cell; what fits no value stays a text."""
    if not isinstance(cell, str):
        return cell
    if cell in list_missing(column, reading):
        return None
    if column.kind is Kind.BOOLEAN:
        return TRUTH.get(cell, cell)
    if column.kind not in {Kind.INTEGER, Kind.NUMBER}:
        return cell
    text = _make_plain(cell.strip(), reading)
    try:
        number = int(text) if re.fullmatch(r"[+-]?\d{1,19}", text, re.ASCII) else float(text)
    except ValueError:
        return cell
    # JSON has no infinity: it would become null, a missing value.
    return number if abs(number) < float("inf") else cell


def _make_plain(text: str, reading: Reading) -> str:
    if reading.thousands:
        text = text.replace(reading.thousands, "")
    return text.replace(reading.decimal, ".") if reading.decimal != "." else text


def _check_column(values: pd.Series, column: Column, reading: Reading) -> tuple[Any, Any]:
    """Return the values of a column, and a mask of those that the fast check leaves open."""
    everything = np.ones(len(values), dtype=bool)
    if column.kind is Kind.TEXT:
        return values, np.zeros_like(everything) if column.nullable else values.isna().to_numpy()
    if column.kind is Kind.DATETIME:
        return _check_dates(values, column)
    if column.kind is Kind.BOOLEAN and column.dtype in {"bool", "boolean"}:
        return _check_truth(values, column)
    if column.kind is Kind.NUMBER and column.dtype[:5] == "float":
        return _check_numbers(values, column, reading)
    if column.kind is Kind.INTEGER and re.fullmatch(r"u?int\d+", column.dtype):
        return _check_integers(values, column, reading)
    return values, everything


def _to_numbers(values: pd.Series, reading: Reading) -> Any:
    """Convert what pandas has left as text because of one cell, NaN where it is no number."""
    texts = values.astype(object).map(lambda cell: _make_plain(cell, reading), na_action="ignore")
    return pd.to_numeric(texts, errors="coerce")


def _is_text(values: pd.Series) -> bool:
    return not (pd.api.types.is_numeric_dtype(values.dtype))


def _check_numbers(values: pd.Series, column: Column, reading: Reading) -> tuple[Any, Any]:
    if pd.api.types.is_bool_dtype(values.dtype):
        return np.zeros(len(values)), np.ones(len(values), dtype=bool)
    missing = values.isna().to_numpy()
    numbers = (_to_numbers(values, reading) if _is_text(values) else values).to_numpy("float64")
    limit = NUMBER_LIMITS.get(column.dtype, np.finfo("float64").max)
    with np.errstate(invalid="ignore"):
        good = np.abs(numbers) <= limit
    if column.nullable:
        good |= missing
    return numbers, ~good


def _check_integers(values: pd.Series, column: Column, reading: Reading) -> tuple[Any, Any]:
    if pd.api.types.is_bool_dtype(values.dtype):
        return np.zeros(len(values), dtype=column.dtype), np.ones(len(values), dtype=bool)
    low, high = find_integer_bounds(column.dtype)
    numbers = _to_numbers(values, reading) if _is_text(values) else values
    array = numbers.to_numpy()
    if array.dtype.kind in "iu":
        good = (array >= low) & (array <= high)
    else:
        array = array.astype("float64")
        with np.errstate(invalid="ignore"):
            good = (np.abs(array) <= _EXACT) & (array == np.floor(array))
            good &= (array >= low) & (array <= high)
    return np.where(good, array, 0).astype(column.dtype), ~good


def _check_truth(values: pd.Series, column: Column) -> tuple[Any, Any]:
    if values.dtype == bool:
        return values.to_numpy(), np.zeros(len(values), dtype=bool)
    missing = values.isna().to_numpy()
    known: dict[Any, bool] = {**TRUTH, True: True, False: False}
    truth = values.astype(object).map(known)
    is_number = values.map(type).isin([int, float]).to_numpy()  # 1 is equal to True
    good = (truth.notna().to_numpy() & ~is_number) | (missing & column.nullable)
    array = truth.to_numpy(dtype=object, copy=True)
    array[missing] = None
    if column.dtype == "bool":
        array = np.where(good, array, False).astype(bool)
    return array, ~good


def _check_dates(values: pd.Series, column: Column) -> tuple[Any, Any]:
    moments: dict[Any, Any] = {}
    for text in values.dropna().unique():
        try:
            moments[text] = read_moment(text)
        except ValueError:
            moments[text] = None
    dates = [moments.get(text) for text in values.astype(object)]
    good = np.array([date is not None for date in dates], dtype=bool)
    if column.nullable:
        good |= values.isna().to_numpy()
    return pd.Series(dates, dtype=column.dtype), ~good
