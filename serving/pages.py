"""Pages for people: one to try the model, Swagger UI, and the OpenAPI behind it."""

import importlib.resources
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
from serving.settings import Limits

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
    return (importlib.resources.files("fastapi_swagger") / "resources" / name).read_bytes()


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
    bundle: Bundle, interface: Interface, adapter: TypeAdapter[Any], base: Callable[[], Any]
) -> Callable[[], dict[str, Any]]:
    """Make the function by which FastAPI gets the OpenAPI description, with real examples.

    Args:
        bundle: the model's files; the first golden input and outputs are the example.
        interface: what the model takes and gives.
        adapter: the validator of requests, whose schema is shown.
        base: FastAPI's own description of the routes.

    Returns:
        A function that gives the whole description.
    """

    @cache
    def build() -> dict[str, Any]:
        description: dict[str, Any] = base()
        template = "#/components/schemas/{model}"
        schema = adapter.json_schema(ref_template=template)
        schemas = description.setdefault("components", {}).setdefault("schemas", {})
        schemas.update(schema.pop("$defs", {}))
        schemas.update({"Request": schema, "Problem": PROBLEM})
        inputs = bundle.golden.get("inputs") or []
        operations: dict[str, Any] = {}
        for method in interface.methods:
            outputs = (bundle.golden.get("outputs") or {}).get(method) or []
            request = {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": {"$ref": template.format(model="Request")},
                        "example": interface.wrap(inputs[:1]),
                    }
                },
            }
            responses = {
                "200": {
                    "description": "One prediction for each row",
                    "headers": {UNSEEN: UNSEEN_DESCRIPTION},
                    "content": {
                        "application/json": {
                            "schema": _make_result_schema(interface.returns[method]),
                            "example": outputs[:1],
                        }
                    },
                },
                **{status: _make_problem(text) for status, text in PROBLEMS.items()},
            }
            operations[f"/{method}"] = {
                "post": {
                    "tags": ["model"],
                    "summary": method.replace("_", " ").capitalize(),
                    "operationId": method,
                    "requestBody": request,
                    "responses": responses,
                }
            }
        description["paths"] = {**operations, **description["paths"]}
        return description

    return build


PROBLEMS = {
    "400": "The body is not valid JSON",
    "413": "The body is too large or has too many rows",
    "415": "The body is not declared as JSON",
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
