"""Build the validator of requests from a model's interface."""

import datetime
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    TypeAdapter,
    WithJsonSchema,
    with_config,
)
from typing_extensions import TypedDict

from serving.interface import ARGUMENT, Column, Interface, Kind

MOMENT = re.compile(
    r"\d{4}-\d{2}-\d{2}([Tt ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?([Zz]|[+-]\d{2}:?\d{2})?)?", re.ASCII
)
NUMBER_LIMITS = {"float16": 65504.0, "float32": 3.4028234663852886e38}


def make_request_adapter(interface: Interface, max_rows: int) -> TypeAdapter[Any]:
    """Build the validator of requests, once.

    Args:
        interface: the model's.
        max_rows: more rows are refused.

    Returns:
        A strict adapter; it stops at the first bad row.
    """
    data = _make_rows_type(interface, max_rows)
    if interface.container == "dataframe":
        data = make_object_type("Frame", {"values": data})
    return TypeAdapter(make_object_type("Request", {ARGUMENT: data}))


def make_rows_adapter(interface: Interface, max_rows: int) -> TypeAdapter[Any]:
    """Build the validator of rows alone, as the pieces of a large request have them."""
    return TypeAdapter(_make_rows_type(interface, max_rows))


def _make_rows_type(interface: Interface, max_rows: int) -> Any:
    row: Any
    if interface.container == "dataframe":
        row = make_object_type("Row", {c.name: make_annotation(c) for c in interface.columns})
    else:
        row, width = make_annotation(interface.columns[0]), len(interface.columns)
        if not interface.flat:
            row = Annotated[(list[row], Field(min_length=width, max_length=width))]
    return Annotated[(list[row], FailFast(), Field(min_length=1, max_length=max_rows))]


def make_object_type(name: str, fields: Mapping[str, Any]) -> Any:
    """Make a type of JSON objects with exactly these names, which may be any text."""
    make: Any = TypedDict
    return with_config(ConfigDict(extra="forbid"))(make(name, fields))


def make_annotation(column: Column) -> Any:
    """Make the pydantic type of a column's values."""
    annotation: Any
    if column.kind is Kind.INTEGER:
        low, high = find_integer_bounds(column.dtype)
        annotation = Annotated[
            Annotated[int, Field(strict=True, ge=low, le=high)]
            # 10.0, as JSON Schema's `integer` allows; beyond 2**53 a float may be another number.
            | Annotated[
                float,
                Field(strict=True, multiple_of=1, ge=max(low, -(2**53)), le=min(high, 2**53)),
                # Else all whole numbers of a `category` column are floats to the model: also those
                # of other requests in the same batch.
                AfterValidator(int),
            ],
            WithJsonSchema({"type": "integer", "minimum": low, "maximum": high}),
        ]
    elif column.kind is Kind.NUMBER:
        bound = NUMBER_LIMITS.get(column.dtype.lower())
        limits = {} if bound is None else {"ge": -bound, "le": bound}
        annotation = Annotated[float, Field(strict=True, allow_inf_nan=False, **limits)]  # type: ignore[call-overload]
    elif column.kind is Kind.BOOLEAN:
        annotation = Annotated[bool, Field(strict=True)]
    elif column.kind is Kind.DATETIME:
        formats = [{"type": "string", "format": name} for name in ("date", "date-time")]
        annotation = Annotated[
            datetime.datetime, BeforeValidator(read_moment), WithJsonSchema({"anyOf": formats})
        ]
    else:
        annotation = Annotated[str, Field(strict=True)]
    return annotation | None if column.nullable else annotation


def read_moment(value: Any) -> datetime.datetime:
    """Read a date, or a date and time, as training does: in UTC, without a time zone.

    Raises:
        ValueError: it is none; digits alone are none either, and no seconds since 1970.
    """
    if not isinstance(value, str) or not MOMENT.fullmatch(value):
        raise ValueError("not a date")
    moment = datetime.datetime.fromisoformat(value)
    if moment.tzinfo is None:
        return moment
    try:
        return moment.astimezone(datetime.UTC).replace(tzinfo=None)
    except OverflowError:  # it is before the year 1 or after 9999 there
        raise ValueError("not a date") from None


def find_integer_bounds(dtype: str) -> tuple[int, int]:
    """Return the least and the greatest number of a type of integers."""
    match = re.fullmatch(r"(u?)int(\d+)", dtype.lower())
    unsigned, bits = (bool(match[1]), int(match[2])) if match else (False, 64)
    return (0, 2**bits - 1) if unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
