"""Pages for people: one to try the model, Swagger UI, and the OpenAPI behind it."""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from starlette.exceptions import HTTPException
from starlette.responses import Response

from serving.bundle import Bundle
from serving.categories import UNSEEN
from serving.errors import describe_values
from serving.interface import Column, Interface, Kind
from serving.media_types import JSON, TABLES
from serving.settings import Limits
from serving.split import SplitReader

STATIC = Path(__file__).parent / "static"
SAMPLES = 50  # of the golden inputs, to choose from on the page
LONG_TEXT = 40  # characters of a sample, from which on a field has several lines
CHOICES = 30  # a text column with no more values than this is offered them

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
TEXT = "text/plain"
OWN_FILES = ("page.css", "page.js", "docs.css", "docs.js", "icon.svg")
SWAGGER_FILES = ("swagger-ui.css", "swagger-ui-bundle.js")

UNSEEN_DESCRIPTION = {
    "description": "Rows with a category that the model was not trained on, by column, as JSON; "
    "absent if there are none.",
    "schema": {"type": "string"},
    "example": '{"colour": 2}',
}
PROBLEM = {
    "type": "object",
    "required": ["error", "detail"],
    "properties": {
        "error": {"type": "string", "description": "What is wrong, in one sentence."},
        "detail": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["loc", "msg", "type"],
                "properties": {
                    "loc": {
                        "type": "array",
                        "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
                    },
                    "msg": {"type": "string"},
                    "type": {"type": "string"},
                },
            },
        },
    },
}


def read_page(name: str) -> Response:
    """Read one of the HTML pages."""
    return Response(_read_own(name), media_type=TYPES[".html"])


def read_static_file(name: str) -> Response:
    """Read a file that the pages need.

    Args:
        name: without a folder.

    Raises:
        HTTPException: 404, if the pages need no such file.
    """
    if name not in OWN_FILES and name not in SWAGGER_FILES:
        raise HTTPException(404)
    content = _read_own(name) if name in OWN_FILES else _read_swagger(name)
    headers = {"Cache-Control": "no-cache" if name in OWN_FILES else "max-age=86400"}
    return Response(content, headers=headers, media_type=TYPES[Path(name).suffix])


@cache
def _read_own(name: str) -> bytes:
    return (STATIC / name).read_bytes()


def _read_swagger(name: str) -> bytes:
    # Found without an import, which would load all of FastAPI for two files.
    package = importlib.util.find_spec("fastapi_swagger")
    assert package is not None
    assert package.origin is not None
    return (Path(package.origin).parent / "resources" / name).read_bytes()


def describe(
    bundle: Bundle, interface: Interface, limits: Limits, version: Mapping[str, Any]
) -> dict[str, Any]:
    """Describe the model for the page.

    Args:
        bundle: the model's files.
        interface: what it takes and gives.
        limits: the most rows of one request, and where the model card is.
        version: the answer of /version.

    Returns:
        The body of /model.json.
    """
    samples = (bundle.golden.get("inputs") or [])[:SAMPLES]
    plain = interface.unwrap(interface.wrap(samples))
    return {
        **{key: version.get(key) for key in ("name", "version", "commit", "environment")},
        "task": bundle.runtime.get("task"),
        "classes": bundle.runtime.get("classes"),
        "methods": interface.methods,
        "container": interface.container,
        "flat": interface.flat,
        "max_rows": limits.max_rows,
        "report": limits.report_url.replace("{commit}", str(version.get("commit") or "")),
        "private": bundle.runtime.get("private") or [],
        "card": bundle.release.get("card") or {},
        "columns": [
            _describe_column(column, [_get_cell(row, number, column) for row in plain])
            for number, column in enumerate(interface.columns)
        ],
        "samples": plain,
    }


def make_openapi(
    bundle: Bundle,
    interface: Interface,
    adapter: TypeAdapter[Any],
    text: str,
    others: Sequence[tuple[str, dict[str, Any]]],
    *,
    split: SplitReader | None = None,
    takes_tables: bool = False,
) -> dict[str, Any]:
    """Make the OpenAPI description, with real examples.

    Args:
        bundle: the model's files; the first golden input and outputs are the example.
        interface: what the model takes and gives.
        adapter: the validator of requests, whose schema is shown.
        text: describes the model.
        others: paths beside the model's methods, and what can be done there.
        split: of requests that name the columns once, if the model takes any.
        takes_tables: whether tables of Arrow and Parquet are taken, too.

    Returns:
        The whole description.
    """
    template = "#/components/schemas/{model}"
    schema = adapter.json_schema(ref_template=template)
    schemas = {**schema.pop("$defs", {}), "Request": schema, "Problem": PROBLEM}
    inputs = bundle.golden.get("inputs") or []
    if split is not None:
        schemas["SplitRequest"] = split.describe(inputs[:1])
    bodies = [{"$ref": template.format(model=name)} for name in schemas if "Request" in name]
    content = {
        "schema": {"oneOf": bodies} if split else bodies[0],
        "example": interface.wrap(inputs[:1]),
    }
    tables: dict[str, Any] = {kind: {"schema": {}} for kind in TABLES if takes_tables}
    request = {"required": True, "content": {JSON: content, **tables}}
    paths: dict[str, Any] = {}
    for method in interface.methods:
        outputs = (bundle.golden.get("outputs") or {}).get(method) or []
        answer = {
            "schema": _make_result_schema(interface.returns[method]),
            "example": outputs[:1],
        }
        paths[f"/{method}"] = {
            "post": {
                "tags": ["model"],
                "summary": _make_title(method),
                "operationId": method,
                "requestBody": request,
                "responses": _describe_responses({JSON: answer, **tables}),
            }
        }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": bundle.name,
            "description": text,
            "version": str(bundle.release.get("version") or "unreleased"),
        },
        "paths": {**paths, **dict(others)},
        "components": {"schemas": schemas},
    }


def _describe_responses(content: Mapping[str, Any]) -> dict[str, Any]:
    good = {
        "description": "One prediction for each row",
        "headers": {UNSEEN: UNSEEN_DESCRIPTION},
        "content": content,
    }
    return {"200": good, **{status: _make_problem(text) for status, text in PROBLEMS.items()}}


def describe_operation(
    path: str, endpoint: Callable[..., Any], verb: str = "get", **more: Any
) -> tuple[str, dict[str, Any]]:
    """Describe an endpoint by its name and first line.

    Args:
        path: where it is served.
        endpoint: of the application.
        verb: of HTTP, in lower case.
        more: keys of OpenAPI's.

    Returns:
        An item of OpenAPI's paths.
    """
    name = path.strip("/").partition(".")[0]
    kind = TEXT if path == "/metrics" else "application/json"
    operation = {
        "tags": ["model" if path == "/interface.json" else "operations"],
        "summary": _make_title(name),
        "description": endpoint.__doc__ or "",
        "operationId": name,
        **more,
        "responses": {"200": {"description": "Success", "content": {kind: {"schema": {}}}}},
    }
    return path, {verb: operation}


def describe_feedback(endpoint: Callable[..., Any]) -> tuple[str, dict[str, Any]]:
    """Describe the endpoint that takes the right answer to an earlier prediction."""
    schema = {
        "type": "object",
        "required": ["id", "actual"],
        "properties": {
            "id": {"type": "string", "description": "X-Request-Id of the prediction's answer"},
            "actual": {"description": "the right value, or a list with one for each row"},
        },
    }
    body = {"required": True, "content": {"application/json": {"schema": schema}}}
    return describe_operation("/feedback", endpoint, "post", requestBody=body)


def _make_title(name: str) -> str:
    return name.replace("_", " ").capitalize()


PROBLEMS = {
    "400": "The body is not valid JSON, or no table",
    "413": "The body is too large or has too many rows",
    "415": "The body is of a type that this server does not take",
    "422": "A row does not fit the model; names the row and the column",
    "500": "The model failed; has a reference to the service's log",
    "503": "Still loading, or too much work at once; try again after Retry-After seconds",
}


def _make_problem(text: str) -> dict[str, Any]:
    content = {
        "schema": {"$ref": "#/components/schemas/Problem"},
        "example": {
            "error": f"{text}.",
            "detail": [{"loc": ["body"], "msg": f"{text}.", "type": "..."}],
        },
    }
    return {"description": text, "content": {"application/json": content}}


def _make_result_schema(returns: Mapping[str, Any]) -> dict[str, Any]:
    dtype = str(returns.get("dtype"))
    item: dict[str, Any] = {}
    if dtype.startswith(("int", "uint")):
        item = {"type": "integer"}
    elif dtype.startswith("float"):
        item = {"type": "number"}
    elif dtype.startswith(("str", "<U", "object")):
        item = {"type": "string"} if dtype != "object" else {}
    elif dtype == "bool":
        item = {"type": "boolean"}
    for size in reversed(returns.get("shape") or [None]):
        bounds = {} if size is None else {"minItems": size, "maxItems": size}
        item = {"type": "array", "items": item, **bounds}
    return item


def _get_cell(row: Any, number: int, column: Column) -> Any:
    if isinstance(row, Mapping):
        return row.get(column.name)
    return row[number] if isinstance(row, list) else row


def _describe_column(column: Column, values: Sequence[Any]) -> dict[str, Any]:
    present = [value for value in values if value is not None]
    description: dict[str, Any] = {
        "name": column.name,
        "kind": column.kind,
        "nullable": column.nullable,
        "expected": describe_values(column),
    }
    if column.kind in {Kind.INTEGER, Kind.NUMBER} and present:
        description |= {"low": min(present), "high": max(present)}
    if column.kind is Kind.TEXT and len(set(present)) <= CHOICES:
        description["choices"] = sorted(set(present))
    if column.kind is Kind.TEXT:
        description["long"] = any(len(value) > LONG_TEXT for value in present)
    return description
