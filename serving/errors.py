"""Answers to requests that are refused: one JSON shape, in words, without the client's input."""

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError
from starlette.responses import Response

from serving.interface import ARGUMENT, Column, Interface, Kind

SHOWN_PROBLEMS = 20
SHOWN_COLUMNS = 12
NAME_CHARACTERS = 64

_JSON: TypeAdapter[Any] = TypeAdapter(Any)

SPLIT_BODY = '{"columns": [names], "data": [one list a row]}'

EXPECTED = {
    Kind.INTEGER: "a whole number",
    Kind.NUMBER: "a number",
    Kind.BOOLEAN: "true or false",
    Kind.TEXT: "text",
    Kind.DATETIME: "a date, such as 2026-01-31 or 2026-01-31T12:00:00Z",
}


class RequestError(Exception):
    """A request that is refused, with the status and the message of the answer."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str,
        detail: list[dict[str, Any]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Make the error of one request.

        Args:
            status: the HTTP status.
            message: one sentence for a person.
            kind: a stable word for a program.
            detail: every problem with its place, as FastAPI lists them; by default the one.
            headers: to add to the response.
        """
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        self.detail = detail or [{"loc": ["body"], "msg": message, "type": kind}]
        self.body = {"error": message, "detail": self.detail}  # MLEM's client reads `error`

    @property
    def names_row(self) -> bool:
        """Say that the error is that of a row, and not of the request as a whole."""
        return any(isinstance(part, int) for part in self.detail[0]["loc"])

    def make_response(self) -> Response:
        """Make the HTTP response."""
        return json_response(self.body, self.status, self.headers)


def json_response(
    content: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Make a JSON response; NaN and infinities, which JSON lacks, become null.

    Args:
        content: anything pydantic can serialize.
        status: of the response.
        headers: of the response.
    """
    return Response(to_json(content), status, dict(headers or {}), media_type="application/json")


def to_json(content: Any) -> bytes:
    """Serialize to valid JSON; NaN and infinities become null."""
    return _JSON.dump_json(content)


def make_row_error(row: int, column: Column, kind: str) -> RequestError:
    """Make the error of one value of a table.

    Args:
        row: of the request, from 0.
        column: of the model.
        kind: as of pydantic's.
    """
    message = f"Row {row + 1}, column '{column.name}': {_describe_value(kind, column)}"
    detail = [_make_problem((ARGUMENT, row, column.name), message, kind)]
    return RequestError(422, message, kind=kind, detail=detail)


def make_too_many_rows(max_rows: int) -> RequestError:
    """Make the error of a request with more rows than are allowed."""
    return RequestError(413, f"Too many rows: at most {max_rows} a request.", kind="too_long")


def explain(
    error: ValidationError,
    interface: Interface,
    max_rows: int,
    *,
    skipped: int | None = None,
    names: Sequence[str] | None = None,
) -> RequestError:
    """Explain in words what is wrong with a request, naming row and column but no value.

    Args:
        error: from pydantic; validation stops at the first bad row.
        interface: the model's.
        max_rows: the limit that was applied.
        skipped: rows of the request before those that were validated, if only rows were.
        names: the request's columns in their order, if it names them once; else None.

    Returns:
        An error with status 400, 413 or 422.
    """
    if error.error_count() > 2 * len(interface.columns) + SHOWN_PROBLEMS:
        return RequestError(
            422, f"Too many unknown names. {_list_columns(interface)}", kind="extra_forbidden"
        )
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    rows = (
        (ARGUMENT, "values")
        if interface.container == "dataframe" and names is None
        else (ARGUMENT,)
    )
    depth = len(rows)
    if skipped is not None:
        for problem in problems:
            problem["loc"] = (*rows, *problem["loc"])
    first = problems[0]
    kind, place = first["type"], first["loc"]
    if kind == "json_invalid":
        at = re.search(r"line \d+ column \d+", first["msg"])
        return RequestError(
            400, f"The body is not valid JSON{f' ({at[0]})' if at else ''}.", kind="json_invalid"
        )
    if kind == "too_long" and len(place) == depth:
        return make_too_many_rows(max_rows)
    if kind == "too_short" and len(place) == depth:
        message = "The list of rows is empty: give at least one."
        return RequestError(422, message, kind=kind, detail=[_make_problem(place, message, kind)])
    if len(place) <= depth or (names is not None and place[0] != ARGUMENT):
        body = _describe_body(interface) if names is None else SPLIT_BODY
        message = f"The body must be {body}. {_list_columns(interface)}"
        return RequestError(422, message, kind=kind, detail=[_make_problem(place, message, kind)])
    # Beside a bad row there may be an unknown name, which is no problem of a row.
    problems = [e for e in problems if len(e["loc"]) > depth and e["loc"][0] == ARGUMENT]
    for problem in problems:
        loc = problem["loc"]
        inner = loc[depth + 1 :]
        if names is not None and inner:  # of a row that is too short only the row is wrong
            inner = () if problem["type"] == "missing" else (names[int(inner[0])],)
        problem["loc"] = (*loc[:depth], int(loc[depth]) + (skipped or 0), *inner)
    missing = [str(e["loc"][-1]) for e in problems if e["type"] == "missing"]
    # A whole number may come as 10 or 10.0: what fits neither has a problem with each.
    places = {tuple(e["loc"][: depth + 2]): e for e in reversed(problems)}
    detail = [
        _make_problem(at, _describe_problem(e["type"], at, depth, interface, missing), e["type"])
        for at, e in reversed(places.items())
    ][:SHOWN_PROBLEMS]
    # A misspelt name is both missing and unknown; the unknown one has the hint.
    clearest = next((d for d in detail if "did you mean" in d["msg"]), detail[0])
    return RequestError(422, clearest["msg"], kind=clearest["type"], detail=detail)


def _describe_problem(
    kind: str, place: Sequence[int | str], depth: int, interface: Interface, missing: Sequence[str]
) -> str:
    row = f"Row {int(place[depth]) + 1}"
    if len(place) == depth + 1:
        return f"{row}: must be {_describe_row(interface, depth)}."
    last = place[depth + 1]
    if kind == "missing":
        return f"{row}: column '{last}' is missing."
    if kind == "extra_forbidden":
        return f"{row}: {explain_unknown(str(last), missing, interface)}"
    if interface.container == "ndarray":
        column, place_name = interface.columns[0], f"value {int(last) + 1}"
    else:
        column = next(c for c in interface.columns if c.name == last)
        place_name = f"column '{column.name}'"
    return f"{row}, {place_name}: {_describe_value(kind, column)}"


def _describe_value(kind: str, column: Column) -> str:
    if kind == "finite_number":
        return "must be a finite number."
    if kind in {"less_than_equal", "greater_than_equal"}:
        return f"must be within the range of {column.dtype}."
    return f"must be {describe_values(column)}."


def _describe_row(interface: Interface, depth: int) -> str:
    if interface.flat:
        return describe_values(interface.columns[0])
    if depth == 1:
        return f"a list of {len(interface.columns)} values"
    return "an object with the columns as its names"


def describe_values(column: Column) -> str:
    """Describe what a column's values must be."""
    text = EXPECTED[column.kind]
    return f"{text}, or null for a missing value" if column.nullable else text


def explain_unknown(name: str, missing: Sequence[str], interface: Interface) -> str:
    """Explain that a column is unknown, with a hint at the one that may be meant."""
    candidates = missing or [column.name for column in interface.columns]
    folded = {candidate.casefold(): candidate for candidate in reversed(candidates)}
    close = difflib.get_close_matches(name[:NAME_CHARACTERS].casefold(), folded, n=1)
    if close:
        return f"unknown column {_quote(name)}; did you mean '{folded[close[0]]}'?"
    return f"unknown column {_quote(name)}."


def _quote(name: str) -> str:
    """Quote a client's own name for a column, if it is short and plain enough to repeat."""
    if len(name) <= NAME_CHARACTERS and re.fullmatch(r"[\w .,:/()%+-]+", name):
        return f"'{name}'"
    return f"with a name of {len(name)} characters"


def _describe_body(interface: Interface) -> str:
    if interface.container == "dataframe":
        return '{"data": {"values": [one object a row]}}'
    return '{"data": [one value a row]}' if interface.flat else '{"data": [one list a row]}'


def _list_columns(interface: Interface) -> str:
    if interface.container == "ndarray":
        return f"A row has {len(interface.columns)} values."
    names = [f"'{column.name}'" for column in interface.columns]
    more = len(names) - SHOWN_COLUMNS
    return f"The columns are {', '.join(names[:SHOWN_COLUMNS])}" + (
        f" and {more} more." if more > 0 else "."
    )


def _make_problem(place: Sequence[int | str], message: str, kind: str) -> dict[str, Any]:
    plain = [part if isinstance(part, int) else part[:NAME_CHARACTERS] for part in place]
    if kind == "extra_forbidden":
        plain = plain[:-1]  # the client's own word, not ours
    return {"loc": ["body", *plain], "msg": message, "type": kind}
