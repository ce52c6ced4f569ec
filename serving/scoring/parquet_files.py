"""Parquet files, read and written with pyarrow, which only models whose lock names it have."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from serving.interface import Column
from serving.scoring.cells import Cells
from serving.scoring.cutting import open_parquet
from serving.scoring.job import SourceError
from serving.scoring.lines import list_cells


def read_group(
    source: str | bytes, group: int, columns: Sequence[Column], others: Sequence[str]
) -> Cells:
    """Read a row group of a file, which is named, or is the bytes themselves."""
    table = _read_table(source, group)
    frame = pd.DataFrame({column.name: _read_column(table[column.name]) for column in columns})

    def read_texts() -> pd.DataFrame:
        columns = {
            name: [_make_cell(value) for value in table[name].to_pylist()]
            for name in table.column_names
        }
        return pd.DataFrame(columns, dtype=object)

    carried = {name: _to_array(table[name].to_pylist()) for name in others}
    return Cells(frame, carried, read_texts)


def copy_group(path: str, group: int) -> bytes:
    """Return a file of one row group of another."""
    from pyarrow import parquet

    copy = io.BytesIO()
    parquet.write_table(_read_table(path, group), copy)
    return copy.getvalue()


def _read_table(source: str | bytes, group: int) -> Any:
    import pyarrow
    from pyarrow import parquet

    if isinstance(source, bytes):
        return parquet.ParquetFile(io.BytesIO(source)).read_row_group(group)
    try:
        return open_parquet(Path(source)).read_row_group(group)
    except (pyarrow.ArrowException, OSError) as error:
        raise SourceError(f"{Path(source).name} cannot be read as Parquet: {error}") from None


def _to_array(values: list[Any]) -> Any:
    array = np.empty(len(values), dtype=object)  # of lists numpy makes several dimensions
    array[:] = values
    return array


def _read_column(column: Any) -> pd.Series:
    """Read a column as pandas reads such cells of CSV."""
    from pyarrow import types

    kind = column.type
    if types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind):
        return pd.Series(column.to_pandas())
    return pd.Series([_make_cell(value) for value in column.to_pylist()], dtype=object)


def _make_cell(value: Any) -> Any:
    """Make the value that a request carries: dates are texts, and what is no number is missing."""
    if value is None or value != value:  # noqa: PLR0124 (NaN is unequal to itself)
        return None
    if isinstance(value, bool | int | float | str):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def write_columns(path: Path, columns: Mapping[str, Any]) -> None:
    """Write columns, which are arrays, as a file; a text stands in all rows."""
    import pyarrow
    from pyarrow import parquet

    rows = len(columns["row"])
    arrays = {
        name: pyarrow.array([values] * rows if isinstance(values, str) else list_cells(values))
        for name, values in columns.items()
    }
    parquet.write_table(pyarrow.table(arrays), path)


def join_files(paths: Sequence[Path], target: Path) -> None:
    """Write the rows of several files into one."""
    import pyarrow
    from pyarrow import parquet

    schemas = [parquet.read_schema(path) for path in paths]
    # A part in which a column is empty does not know its type.
    schema = pyarrow.unify_schemas(schemas, promote_options="permissive")
    with parquet.ParquetWriter(target, schema) as writer:
        for path in paths:
            writer.write_table(parquet.read_table(path).cast(schema))
