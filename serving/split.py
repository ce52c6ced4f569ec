"""Requests that name the columns once: `{"columns": ["a", …], "data": [[1, …], …]}`.

`DataFrame.to_json(orient="split")` writes them. They take a third of the bytes of one object a row.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import GenericAlias
from typing import Annotated, Any, NotRequired

from pydantic import FailFast, Field, TypeAdapter, ValidationError

from serving.errors import RequestError, explain, explain_unknown
from serving.inputs import Columns
from serving.interface import Interface, name_values
from serving.pieces import find_columns
from serving.requests import make_annotation, make_object_type

BEGIN = re.compile(rb'\s*\{\s*"(?:columns"|index"|data"\s*:\s*\[)')
COLUMNS = "columns"
ORDERS = 8  # of columns, whose validators are kept


def make_split_reader(interface: Interface, max_rows: int) -> "SplitReader | None":
    """Make a reader; None for a model on arrays, whose requests have lists anyway."""
    return SplitReader(interface, max_rows) if interface.container == "dataframe" else None


class SplitReader:
    """Reads such requests for one model."""

    def __init__(self, interface: Interface, max_rows: int) -> None:
        """Prepare the validators that all requests have in common.

        Args:
            interface: of a model on DataFrames.
            max_rows: more rows are refused.
        """
        self.interface = interface
        self.max_rows = max_rows
        self._types = {column.name: make_annotation(column) for column in interface.columns}
        # Twice as many names as there are columns are surely wrong, and are not compared with them.
        most = max(64, 2 * len(self._types))
        names = Annotated[list[Annotated[str, Field(strict=True)]], Field(max_length=most)]
        self._head = self._make_adapter(names, list[Any])
        self.find_adapter = lru_cache(ORDERS)(self._make_whole_adapter)
        self.find_rows_adapter = lru_cache(ORDERS)(self._make_rows_adapter)

    def describe(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Describe such requests as a JSON schema.

        Args:
            rows: of the example.
        """
        names = [*self._types]
        example = {COLUMNS: names, "data": [[row[name] for name in names] for row in rows]}
        width = {"minItems": len(names), "maxItems": len(names)}
        return {
            "type": "object",
            "title": "SplitRequest",
            "description": "The columns once, in any order, and a list of values for each row.",
            "examples": [example],
            "required": [COLUMNS, "data"],
            "additionalProperties": False,
            "properties": {
                COLUMNS: {"type": "array", "items": {"enum": names}, "uniqueItems": True, **width},
                "index": {"type": "array", "description": "Ignored; pandas writes it."},
                "data": {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": self.max_rows,
                    "items": {"type": "array", **width},
                },
            },
        }

    def matches(self, body: bytes) -> bool:
        """Check whether a request begins as such a one; MLEM's has an object in `data`."""
        begin = BEGIN.match(body)
        return begin is not None and (not begin[0].endswith(b"[") or b'"columns"' in body)

    def open(self, body: bytes) -> "SplitRequest":
        """Read and check the columns of a request.

        Raises:
            RequestError: they are not those of the model.
        """
        head = find_columns(body)
        # Without the rows, unless these come first.
        text = body if head is None else json.dumps(head[0]).encode()
        try:
            names = self._head.validate_json(text)[COLUMNS]
        except ValidationError as error:
            raise explain(error, self.interface, self.max_rows, names=()) from None
        self.check(names)
        begin = None if head is None else head[1]
        return SplitRequest(self, tuple(names), begin)

    def check(self, names: Sequence[str]) -> None:
        """Check that the columns of a request are those of the model, in any order.

        Raises:
            RequestError: one is unknown, missing or there twice; says which.
        """
        given = Counter(names)
        missing = [name for name in self._types if name not in given]
        for name in names:
            if name not in self._types:
                text = explain_unknown(name, missing, self.interface)
                raise _make_error(text, "extra_forbidden", [])
            if given[name] > 1:
                raise _make_error(f"column '{name}' is there twice.", "duplicate", [name])
        if missing:
            text = f"column '{missing[0]}' is missing."
            raise _make_error(text, "missing", missing[:1])

    def _make_rows_adapter(self, names: tuple[str, ...]) -> TypeAdapter[Any]:
        return TypeAdapter(self._make_rows_type(names))

    def _make_whole_adapter(self, names: tuple[str, ...]) -> TypeAdapter[Any]:
        return self._make_adapter(list[str], self._make_rows_type(names))

    def _make_rows_type(self, names: tuple[str, ...]) -> Any:
        row: Any = GenericAlias(tuple, tuple(self._types[name] for name in names))
        return Annotated[(list[row], FailFast(), Field(min_length=1, max_length=self.max_rows))]

    def _make_adapter(self, names: Any, rows: Any) -> TypeAdapter[Any]:
        fields = {COLUMNS: names, "index": NotRequired[list[Any]], "data": rows}
        return TypeAdapter(make_object_type("SplitRequest", fields))


@dataclass(frozen=True)
class SplitRequest:
    """A request whose columns are those of the model, in any order."""

    reader: SplitReader
    names: tuple[str, ...]
    begin: int | None  # of the first row; None if the columns come after the rows

    def read(self, body: bytes) -> list[Any]:
        """Validate the whole request.

        Returns:
            A tuple a row, in the order of the request's columns.

        Raises:
            RequestError: it is not valid; says why.
        """
        content = self._validate(self.reader.find_adapter(self.names), body)
        if content[COLUMNS] != [*self.names]:  # the last of two counts in JSON
            raise _make_error("are there twice.", "duplicate", [])
        rows: list[Any] = content["data"]
        return rows

    def read_piece(self, piece: bytes, skipped: int) -> list[Any]:
        """Validate some rows.

        Args:
            piece: from `cut_rows`.
            skipped: rows before these.

        Raises:
            RequestError: one is not valid; or they are no rows.
        """
        adapter = self.reader.find_rows_adapter(self.names)
        rows: list[Any] = self._validate(adapter, piece, skipped)
        return rows

    def _validate(self, adapter: TypeAdapter[Any], text: bytes, skipped: int | None = None) -> Any:
        reader = self.reader
        try:
            return adapter.validate_json(text)
        except ValidationError as error:
            raise explain(
                error, reader.interface, reader.max_rows, skipped=skipped, names=self.names
            ) from None

    def make_columns(self, rows: Sequence[Any]) -> Columns:
        """Make values by column of rows."""
        return Columns(dict(zip(self.names, zip(*rows, strict=True), strict=True)), len(rows))

    def make_rows(self, rows: Sequence[Any]) -> list[dict[str, Any]]:
        """Make one object a row, as other small requests have them."""
        return name_values(self.names, rows)


def _make_error(text: str, kind: str, place: list[str]) -> RequestError:
    message = f"columns: {text}"
    detail = [{"loc": ["body", COLUMNS, *place], "msg": message, "type": kind}]
    return RequestError(422, message, kind=kind, detail=detail)
