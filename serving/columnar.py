"""Requests and answers as columns of Arrow, for servers that have pyarrow.

Nothing that a client sends is unpickled: pyarrow does not load types of the client's own, and only
columns of plain values are taken. Memory is bounded by the request's size: what is compressed, or
would grow otherwise when it is read, is measured before or refused.
"""

import importlib
import importlib.util
import re
import struct
from collections.abc import Iterator
from typing import Any

from serving.errors import EXPECTED, RequestError, make_row_error, make_too_many_rows
from serving.inputs import Columns
from serving.interface import Column, Interface, Kind
from serving.media_types import ARROW, PARQUET
from serving.requests import NUMBER_LIMITS, find_integer_bounds, read_moment
from serving.split import SplitReader
from serving.work import Steps

OLDEST = (14, 0, 1)  # before, pyarrow unpickled what a client sent
PLAIN = re.compile(r"(u?int|float)(8|16|32|64)|bool")  # types of NumPy's that Arrow has, too
EXACT = 2**53  # up to which a float is surely the whole number that it looks like


def has_pyarrow() -> bool:
    """Import pyarrow, if it is here and does not unpickle what clients send."""
    if importlib.util.find_spec("pyarrow") is None:
        return False
    version = str(importlib.import_module("pyarrow").__version__)
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3]) >= OLDEST


class TableReader:
    """Reads the tables of one model's requests."""

    def __init__(self, interface: Interface, names: SplitReader, max_rows: int) -> None:
        """Keep what all requests have in common.

        Args:
            interface: of a model on DataFrames.
            names: checks the names of columns.
            max_rows: more rows are refused.
        """
        self._interface = interface
        self._names = names
        self._max_rows = max_rows

    def open(self, body: bytes, media_type: str) -> Steps[Any]:
        """Read a request, and check all but its values.

        Args:
            body: the request.
            media_type: of `TABLES`.

        Returns:
            Steps, which end with a table of pyarrow's.

        Raises:
            RequestError: it cannot be read, is no table of the model's columns, or is too large.
        """
        import pyarrow

        batches: list[Any] = []
        rows = 0
        try:
            for batch in self._read_batches(body, media_type):
                batch.validate(full=True)
                rows += max(1, batch.num_rows)  # an empty one costs time, too
                if rows > self._max_rows:
                    raise make_too_many_rows(self._max_rows)
                batches.append(batch)
                yield
            table = pyarrow.Table.from_batches(batches) if batches else None
        except (pyarrow.ArrowException, OSError, ValueError, struct.error) as error:
            raise make_unreadable(media_type) from error
        if table is None or not table.num_rows:
            raise RequestError(
                422, "There are no rows in the table: give at least one.", kind="too_short"
            )
        return table

    def _read_batches(self, body: bytes, media_type: str) -> Iterator[Any]:
        if media_type == PARQUET:
            from serving.parquet_file import read_file

            return read_file(body, self._check_schema, self._max_rows)
        from serving.arrow_stream import read_stream

        return read_stream(body, self._check_schema)

    def _check_schema(self, schema: Any) -> None:
        """Check names and types of the columns.

        Raises:
            RequestError: they are not those of the model.
        """
        self._names.check(schema.names)
        for column in self._interface.columns:
            kind = schema.field(column.name).type
            if not _fits(column.kind, kind):
                raise make_column_error(
                    column, f"must be {EXPECTED[column.kind]}, not {_name(kind)}."
                )

    def convert(self, table: Any, skipped: int) -> Columns:
        """Check values as those of JSON are checked, and take them out of a table.

        Args:
            table: some rows of a table from `open`.
            skipped: rows of the request before these.

        Raises:
            RequestError: a value does not fit; says which is the first of its column.
        """
        import pyarrow

        values = {}
        for column in self._interface.columns:
            array = table.column(column.name).combine_chunks()
            try:
                values[column.name] = _Cells(column, array, skipped).read()
            except (pyarrow.ArrowException, ValueError, OverflowError) as error:
                # Such as a date that Python does not have.
                raise make_column_error(
                    column, f"each value must be {EXPECTED[column.kind]}."
                ) from error
        return Columns(values, table.num_rows)


def make_column_error(column: Column, problem: str) -> RequestError:
    """Make the error of a column as a whole."""
    text = f"column '{column.name}': {problem}"
    place = ["body", "columns", column.name]
    detail = [{"loc": place, "msg": text, "type": "column_type"}]
    return RequestError(422, text, kind="column_type", detail=detail)


def make_unreadable(media_type: str) -> RequestError:
    """Make the error of a body that is not what its type says."""
    name = "a stream of Arrow" if media_type == ARROW else "a Parquet file"
    return RequestError(400, f"The body cannot be read as {name}.", kind="table_invalid")


def _fits(kind: Kind, given: Any) -> bool:
    """Check that a type of Arrow's can hold what JSON has for a kind of column."""
    from pyarrow import types

    if kind in {Kind.NUMBER, Kind.INTEGER}:
        return bool(types.is_integer(given) or types.is_floating(given) or types.is_null(given))
    if kind is Kind.BOOLEAN:
        return bool(types.is_boolean(given) or types.is_null(given))
    is_text = types.is_string(given) or types.is_large_string(given) or types.is_null(given)
    if kind is Kind.TEXT:
        return bool(is_text)
    return bool(is_text or types.is_timestamp(given) or types.is_date(given))


def _name(kind: Any) -> str:
    """Name a type, without a word of the client's."""
    from pyarrow import types

    if types.is_dictionary(kind):
        return "a dictionary: write its values"
    return "a list or structure" if types.is_nested(kind) else f"of type {str(kind)[:32]}"


class _Cells:
    """The values of one column, of some rows."""

    def __init__(self, column: Column, array: Any, skipped: int) -> None:
        self._column = column
        self._array = array
        self._skipped = skipped

    def read(self) -> Any:
        """Check the values, and return them as the validator of JSON does."""
        from pyarrow import compute

        column, array = self._column, self._array
        if array.null_count and not column.nullable:
            self._refuse(compute.is_null(array), "missing_value")
        if column.kind is Kind.NUMBER:
            array = self._check_numbers(array)
        elif column.kind is Kind.INTEGER:
            array = self._check_integers(array)
        elif column.kind is Kind.DATETIME:
            return self._read_moments(array)
        if PLAIN.fullmatch(column.dtype) and not array.null_count:
            values: Any = array.to_numpy(zero_copy_only=False)
            return values
        return list(array.to_pylist())

    def _check_numbers(self, array: Any) -> Any:
        import pyarrow
        from pyarrow import compute

        array = array.cast(pyarrow.float64(), safe=False)  # as JSON's numbers are rounded
        self._refuse(compute.invert(compute.is_finite(array)), "finite_number")
        bound = NUMBER_LIMITS.get(self._column.dtype.lower())
        if bound is not None:
            self._refuse(compute.greater(compute.abs(array), bound), "less_than_equal")
        return array

    def _check_integers(self, array: Any) -> Any:
        import pyarrow
        from pyarrow import compute, types

        low, high = find_integer_bounds(self._column.dtype)
        if types.is_floating(array.type):
            array = array.cast(pyarrow.float64())
            is_whole = compute.equal(compute.floor(array), array)
            self._refuse(compute.invert(is_whole), "int_type")
            low, high = max(low, -EXACT), min(high, EXACT)
        kind = array.type
        least, most = find_integer_bounds(str(kind)) if types.is_integer(kind) else (low, high)
        if low > least:
            self._refuse(compute.less(array, pyarrow.scalar(low, kind)), "greater_than_equal")
        if high < most or types.is_floating(kind):
            self._refuse(compute.greater(array, pyarrow.scalar(high, kind)), "less_than_equal")
        if types.is_floating(kind):
            if low <= -EXACT:
                self._refuse(compute.less(array, pyarrow.scalar(low, kind)), "greater_than_equal")
            array = array.cast(pyarrow.int64())
        return array

    def _read_moments(self, array: Any) -> list[Any]:
        import pyarrow
        from pyarrow import types

        if not (types.is_timestamp(array.type) or types.is_date(array.type)):
            return [self._read_moment(row, text) for row, text in enumerate(array.to_pylist())]
        zone = getattr(array.type, "tz", None)
        is_finer = getattr(array.type, "unit", "") == "ns"  # Python has no nanoseconds
        moments = array.cast(pyarrow.timestamp("us", zone), safe=not is_finer)
        # A time with a zone is stored in UTC, in which training has it, too.
        values: list[Any] = moments.view(pyarrow.timestamp("us")).to_pylist()
        return values

    def _read_moment(self, row: int, text: str | None) -> Any:
        if text is None:
            return None
        try:
            return read_moment(text)
        except ValueError:
            raise make_row_error(self._skipped + row, self._column, "date") from None

    def _refuse(self, is_wrong: Any, kind: str) -> None:
        """Refuse the first of the values that are wrong, if there is one."""
        from pyarrow import compute

        row = compute.index(is_wrong, True).as_py()
        if row >= 0:
            raise make_row_error(self._skipped + row, self._column, kind)
