"""The interface of a model: typed columns, schemas of requests and JSON, from MLEM's metadata."""

import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, FailFast, Field, TypeAdapter, with_config
from typing_extensions import TypedDict

from serving.bundle import Bundle, BundleError

MLEM_VERSION = "0.4.14"  # whose interface this is; MLEM's client reads it
ARGUMENT = "data"  # MLEM's server calls every method's one argument so

NUMBER_LIMITS = {"float16": 65504.0, "float32": 3.4028234663852886e38}


class Kind(StrEnum):
    """Kind of a column's values in JSON."""

    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    TEXT = "text"
    DATETIME = "datetime"


@dataclass(frozen=True)
class Column:
    """One column of the input."""

    name: str  # in JSON
    label: int | str  # in the frame; MLEM sends whole-number labels as text
    dtype: str
    kind: Kind
    nullable: bool  # null stands for a missing value


@dataclass(frozen=True)
class Interface:
    """Inputs and results of a model."""

    container: Literal["dataframe", "ndarray"]
    columns: tuple[Column, ...]
    flat: bool  # an array of one dimension: a row is a single value
    index: tuple[int | str, ...]  # columns that become the frame's index
    dtype: str  # of an array
    returns: Mapping[str, Mapping[str, Any]]  # method -> MLEM's type of its result
    mlem: Mapping[str, Any]  # the body of /interface.json

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the methods, in MLEM's order."""
        return tuple(self.returns)

    def wrap(self, rows: Sequence[Any]) -> dict[str, Any]:
        """Put rows into the JSON that a request carries.

        Args:
            rows: one object, list or value a row, as the golden inputs are.

        Returns:
            The body of a request.
        """
        if self.container == "dataframe":
            return {ARGUMENT: {"values": list(rows)}}
        plain = [list(row.values()) if isinstance(row, Mapping) else row for row in rows]
        if self.flat:
            plain = [row[0] if isinstance(row, list) else row for row in plain]
        return {ARGUMENT: plain}

    def unwrap(self, body: Any) -> list[Any]:
        """Take the rows out of a validated request."""
        data = body[ARGUMENT]
        rows: list[Any] = data["values"] if self.container == "dataframe" else data
        return rows


def read_interface(bundle: Bundle) -> Interface:
    """Derive a model's interface from its metadata and golden inputs.

    The `.mlem` gives names and dtypes. Which columns may be missing is not in it:
    `runtime.json` lists them under `nullable`; where it does not, those are taken that are null
    in a golden input. What an `object` or `category` column holds is read from the golden inputs.

    Args:
        bundle: the model's files.

    Returns:
        The interface.

    Raises:
        BundleError: the model takes or gives something that cannot be served as JSON rows.
    """
    where = f"{bundle.name}.mlem"
    methods = (bundle.mlem.get("processors") or {}).get("model", {}).get("methods") or {}
    orders = bundle.mlem.get("call_orders") or {}
    served = {}
    for name, order in orders.items():
        if [list(step) for step in order] != [["model", name]] or name not in methods:
            raise BundleError(f"{where}: method {name!r} is a chain of steps; not supported")
        if not name.isidentifier() or name.startswith("_"):
            raise BundleError(f"{where}: method {name!r} cannot be a route")
        served[name] = methods[name]
    if not served:
        raise BundleError(f"{where}: has no methods; save the model with sample data")
    types = []
    for name, method in served.items():
        arguments = method.get("args") or []
        if len(arguments) != 1:
            raise BundleError(f"{where}: method {name!r} takes {len(arguments)} arguments, not 1")
        types.append(arguments[0].get("type_") or {})
        if (method.get("returns") or {}).get("type") != "ndarray":
            result = (method.get("returns") or {}).get("type")
            raise BundleError(
                f"{where}: method {name!r} returns {result!r}; only arrays are served"
            )
    if any(other != types[0] for other in types):
        raise BundleError(f"{where}: the methods take different inputs; not supported")
    return _build_interface(where, bundle, types[0], served)


def make_request_adapter(interface: Interface, max_rows: int) -> TypeAdapter[Any]:
    """Build the validator of requests, once.

    Args:
        interface: the model's.
        max_rows: more rows are refused.

    Returns:
        A strict adapter; it stops at the first bad row.
    """
    rows = (FailFast(), Field(min_length=1, max_length=max_rows))
    row: Any
    if interface.container == "dataframe":
        row = _make_object_type("Row", {c.name: _make_annotation(c) for c in interface.columns})
        data: Any = _make_object_type("Frame", {"values": Annotated[(list[row], *rows)]})
    else:
        row, width = _make_annotation(interface.columns[0]), len(interface.columns)
        if not interface.flat:
            row = Annotated[(list[row], Field(min_length=width, max_length=width))]
        data = Annotated[(list[row], *rows)]
    return TypeAdapter(_make_object_type("Request", {ARGUMENT: data}))


def estimate_row_bytes(interface: Interface) -> int:
    """Estimate the most that one row takes in JSON.

    Args:
        interface: the model's.

    Returns:
        Bytes: the names, quotes and separators, and generous room for each value.
    """
    named = interface.container == "dataframe"
    room = {Kind.TEXT: 256}
    return 4 + sum(
        (len(c.name.encode()) + 6 if named else 2) + room.get(c.kind, 26) for c in interface.columns
    )


def _make_object_type(name: str, fields: Mapping[str, Any]) -> Any:
    """Make a type of JSON objects with exactly these names, which may be any text."""
    make: Any = TypedDict
    return with_config(ConfigDict(extra="forbid"))(make(name, fields))


def _build_interface(
    where: str, bundle: Bundle, schema: Mapping[str, Any], methods: Mapping[str, Any]
) -> Interface:
    samples = bundle.golden.get("inputs") or []
    declared = bundle.runtime.get("nullable")
    container = schema.get("type")
    if container == "dataframe":
        labels = list(schema["columns"])
        dtypes = list(schema["dtypes"])
        flat = False
    elif container == "ndarray":
        shape = schema.get("shape")
        if shape is None or len(shape) > 2 or (len(shape) == 2 and shape[1] is None):
            raise BundleError(f"{where}: takes an array of shape {shape}; a list of rows is needed")
        flat = len(shape) == 1
        labels = list(range(1 if flat else shape[1]))
        dtypes = [schema["dtype"]] * len(labels)
    else:
        raise BundleError(
            f"{where}: takes {container!r}; only a pandas DataFrame or a NumPy array can be "
            "served: save the model with one as sample data"
        )
    columns = []
    for position, (label, dtype) in enumerate(zip(labels, dtypes, strict=True)):
        values = [_get_value(sample, position, str(label)) for sample in samples]
        nullable = None in values if declared is None else str(label) in declared
        kind = _find_kind(where, label, dtype, values)
        columns.append(Column(str(label), label, dtype, kind, nullable))
    if container == "ndarray":  # one type for all: the array has one dtype
        columns = [
            Column(c.name, c.label, c.dtype, columns[0].kind, any(o.nullable for o in columns))
            for c in columns
        ]
    return Interface(
        container=container,
        columns=tuple(columns),
        flat=flat,
        index=tuple(schema.get("index_cols") or ()),
        dtype=str(schema.get("dtype", "")),
        returns={name: method["returns"] for name, method in methods.items()},
        mlem={
            "methods": {
                name: _describe_mlem_method(name, schema, m) for name, m in methods.items()
            },
            "version": MLEM_VERSION,
            "meta": bundle.mlem.get("params") or {},
        },
    )


def _get_value(sample: Any, position: int, name: str) -> Any:
    if isinstance(sample, Mapping):
        return sample[name] if name in sample else list(sample.values())[position]
    return sample[position] if isinstance(sample, list) else sample


KINDS = (
    (r"[fF]loat(16|32|64)", Kind.NUMBER),
    (r"[uU]?[iI]nt(8|16|32|64)", Kind.INTEGER),
    (r"bool(ean)?", Kind.BOOLEAN),
    (r"datetime64.*", Kind.DATETIME),
)
ANYTHING = r"object|category|string|str\d*|<?U\d*"


def _find_kind(where: str, label: int | str, dtype: str, values: Sequence[Any]) -> Kind:
    for pattern, kind in KINDS:
        if re.fullmatch(pattern, dtype):
            return kind
    if not re.fullmatch(ANYTHING, dtype):
        raise BundleError(f"{where}: column {label!r} has dtype {dtype!r}, which JSON cannot carry")
    types = frozenset(type(value) for value in values if value is not None)
    return {
        frozenset({bool}): Kind.BOOLEAN,
        frozenset({int}): Kind.INTEGER,
        frozenset({float}): Kind.NUMBER,
        frozenset({int, float}): Kind.NUMBER,
    }.get(types, Kind.TEXT)


def _make_annotation(column: Column) -> Any:
    """Make the pydantic type of a column's values."""
    annotation: Any
    if column.kind is Kind.INTEGER:
        low, high = _find_integer_bounds(column.dtype)
        annotation = Annotated[int, Field(strict=True, ge=low, le=high)]
    elif column.kind is Kind.NUMBER:
        bound = NUMBER_LIMITS.get(column.dtype.lower())
        limits = {} if bound is None else {"ge": -bound, "le": bound}
        annotation = Annotated[float, Field(strict=True, allow_inf_nan=False, **limits)]  # type: ignore[call-overload]
    elif column.kind is Kind.BOOLEAN:
        annotation = Annotated[bool, Field(strict=True)]
    elif column.kind is Kind.DATETIME:
        annotation = Annotated[datetime.datetime, Field(strict=True)]
    else:
        annotation = Annotated[str, Field(strict=True)]
    return annotation | None if column.nullable else annotation


def _find_integer_bounds(dtype: str) -> tuple[int, int]:
    match = re.fullmatch(r"(u?)int(\d+)", dtype.lower())
    unsigned, bits = (bool(match[1]), int(match[2])) if match else (False, 64)
    return (0, 2**bits - 1) if unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _describe_mlem_method(
    name: str, schema: Mapping[str, Any], method: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "name": name,
        "args": [
            {
                "data_type": dict(schema),
                "serializer": {"type": schema["type"]},
                "name": ARGUMENT,
                "required": True,
                "default": None,
            }
        ],
        "returns": {
            "data_type": _make_readable(method["returns"]),
            "serializer": {"type": method["returns"]["type"]},
        },
    }


def _make_readable(returns: Mapping[str, Any]) -> dict[str, Any]:
    """Replace a text array's dtype `str96`, which MLEM writes but cannot read, by `U`."""
    return {**returns, "dtype": re.sub(r"^str\d*$", "U", str(returns.get("dtype")))}
