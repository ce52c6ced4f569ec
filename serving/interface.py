"""The interface of a model: typed columns, schemas of requests and JSON, from MLEM's metadata."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from serving.bundle import Bundle, BundleError

MLEM_VERSION = "0.4.14"  # whose interface this is; MLEM's client reads it
ARGUMENT = "data"  # MLEM's server calls every method's one argument so


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
    label: int | str  # in the frame
    dtype: str
    kind: Kind
    nullable: bool  # null stands for a missing value
    missing_words: frozenset[str] = frozenset()  # so do these


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
        if "columns" in body:
            return name_values(body["columns"], data)
        rows: list[Any] = data["values"] if self.container == "dataframe" else data
        return rows


def name_values(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[Any]:
    """Make one object a row of lists of values."""
    return [dict(zip(names, row, strict=True)) for row in rows]


def read_interface(bundle: Bundle) -> Interface:
    """Derive a model's interface from its metadata and golden inputs.

    The `.mlem` gives names and dtypes, but a name of digits as a number, and neither what an
    `object` column holds nor which columns may be missing. `runtime.json` has that under `columns`
    (name -> type) and `nullable`. Where it has not, the golden inputs are asked, and names are
    numbers if all of them are.

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


def _build_interface(
    where: str, bundle: Bundle, schema: Mapping[str, Any], methods: Mapping[str, Any]
) -> Interface:
    samples = bundle.golden.get("inputs") or []
    types = bundle.runtime.get("columns")
    declared = bundle.runtime.get("nullable")
    words = bundle.runtime.get("missing_words") or {}
    container = schema.get("type")
    if container == "dataframe":
        labels = _restore_labels(where, list(schema["columns"]), types)
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
        if types and container == "dataframe":
            kind = Kind(types[str(label)])
        missing_words = frozenset(words.get(str(label), ()))
        columns.append(Column(str(label), label, dtype, kind, nullable, missing_words))
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


def _restore_labels(
    where: str, labels: list[int | str], types: Mapping[str, str] | None
) -> list[int | str]:
    """Restore the names of columns that MLEM has made numbers of: '1', '007'."""
    if types is None:
        return list(labels) if len({type(label) for label in labels}) == 1 else [*map(str, labels)]
    if len(types) != len(labels):
        raise BundleError(f"{where}: has {len(labels)} columns, and runtime.json {len(types)}")
    return list(types)


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
