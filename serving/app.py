"""The application: the routes of one model's server."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from serving import pages, sagemaker
from serving.bundle import Bundle
from serving.categories import UNSEEN
from serving.connections import ConnectionLimit, Connections, fit_open_files
from serving.errors import RequestError, json_response
from serving.failures import FailureAnswer
from serving.limits import BodyLimit
from serving.metrics import Measure
from serving.prediction_log import Recorder, read_feedback
from serving.service import Service
from serving.settings import Limits, LogSettings

log = logging.getLogger(__name__)

PAGES = ("/", "/docs", "/model.json", "/openapi.json")
DOCUMENTED = ("/healthz", "/readyz", "/version", "/metrics", "/interface.json")


def create_app(
    bundle: Bundle,
    limits: Limits,
    fail: Callable[[str], None] | None = None,
    *,
    listen_when_ready: bool = False,
    log_settings: LogSettings | None = None,
) -> FastAPI:
    """Build the application of one model.

    Args:
        bundle: from `read_bundle`.
        limits: of the work it accepts.
        fail: called with the reason, from another thread, if the model cannot be loaded.
        listen_when_ready: whether the server is to start listening only once the model is loaded.
        log_settings: of the prediction log; None for none.

    Returns:
        An ASGI application that loads the model once it is started.

    Raises:
        BundleError: the model's interface cannot be served.
    """
    service = Service(bundle, limits, fail or log.error, log_settings)
    connections = Connections(fit_open_files(limits.connections), limits.header_seconds)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # A daemon: a stop while the model loads does not wait for it.
        loading = threading.Thread(target=service.load, name="load", daemon=True)
        loading.start()
        if service.log is not None:
            service.log.start()
        if listen_when_ready:
            await asyncio.to_thread(loading.join)
        yield
        service.close()

    methods = _list_methods(service)
    sagemaker_routes = ["/ping", "/invocations"]
    app = FastAPI(
        title=f"{bundle.name}",
        version=str(bundle.release.get("version") or "unreleased"),
        description=_describe(bundle, service),
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        middleware=[
            Middleware(
                Measure,
                metrics=service.metrics,
                routes=[*PAGES, *DOCUMENTED, *sagemaker_routes, *methods],
            ),
            *_record(service, [*methods, "/invocations"]),
            *_allow_origins(limits),
            Middleware(FailureAnswer, failures=service.failures),
            Middleware(ConnectionLimit, connections=connections),
            Middleware(BodyLimit, max_bytes=service.max_body_bytes, seconds=limits.body_seconds),
        ],
        exception_handlers={
            RequestError: _answer_request_error,
            HTTPException: _answer_http_error,
        },
    )
    app.state.service = service
    app.state.connections = connections
    _add_routes(app, service)
    app.openapi = pages.make_openapi(bundle, service.interface, service.adapter, app.openapi)  # type: ignore[method-assign]
    return app


def _list_methods(service: Service) -> list[str]:
    """List the paths that take requests for predictions, and feedback on them."""
    methods = [f"/{method}" for method in service.interface.methods]
    takes_feedback = service.log is not None and service.log.settings.feedback
    return [*methods, "/feedback"] if takes_feedback else methods


def _add_routes(app: FastAPI, service: Service) -> None:
    endpoints = {method: service.make_endpoint(method) for method in service.interface.methods}
    for method, endpoint in endpoints.items():
        # Past FastAPI's own handling, which has nothing to add and takes a tenth of the time.
        app.add_route(f"/{method}", endpoint, methods=["POST"])
    any_method = sagemaker.make_invocations_endpoint(endpoints, service.describe_version)
    app.add_route("/invocations", any_method, methods=["POST"])

    if service.log is not None and service.log.settings.feedback:
        _add_feedback(app)

    async def interface() -> Response:
        """Describe the methods to MLEM's client, which starts here."""
        return json_response(service.interface.mlem)

    async def healthz() -> Response:
        """Answer that the process is up; it may still be loading the model."""
        return json_response({"status": "up"})

    async def readyz() -> Response:
        """Answer whether the model is loaded and gave its golden predictions."""
        if service.predictor is None:
            return json_response({"status": "loading"}, 503, {"Retry-After": "1"})
        return json_response({"status": "ready"})

    async def version() -> Response:
        """Describe the release, and the model file that was really loaded."""
        return json_response(service.describe_version())

    async def metrics() -> Response:
        """Report metrics in Prometheus' text format."""
        return service.metrics.make_response()

    async def model() -> Response:
        description = pages.describe(
            service.bundle, service.interface, service.limits, service.describe_version()
        )
        return json_response(description)

    async def page() -> Response:
        return pages.read_page("page.html")

    async def docs() -> Response:
        return pages.read_page("docs.html")

    async def static(name: str) -> Response:
        return pages.read_static_file(name)

    async def icon() -> Response:
        return pages.read_static_file("icon.svg")

    _get(app, "/interface.json", interface, "model")
    _get(app, "/healthz", healthz, "operations")
    _get(app, "/readyz", readyz, "operations")
    _get(app, "/ping", readyz)
    _get(app, "/version", version, "operations")
    _get(app, "/metrics", metrics, "operations")
    _get(app, "/model.json", model)
    _get(app, "/", page)
    _get(app, "/docs", docs)
    _get(app, "/static/{name}", static)
    _get(app, "/favicon.ico", icon)


def _get(app: FastAPI, path: str, endpoint: Callable[..., Any], tag: str = "") -> None:
    """Add a route for GET and HEAD; it is documented where it has a tag."""
    app.add_api_route(
        path, endpoint, tags=[tag], operation_id=endpoint.__name__, include_in_schema=bool(tag)
    )
    app.add_api_route(path, endpoint, methods=["HEAD"], include_in_schema=False)


def _add_feedback(app: FastAPI) -> None:
    """Add the route that takes the right answer to an earlier prediction."""

    async def feedback(request: Request) -> Response:
        """Keep the right answer to an earlier request in the prediction log."""
        await read_feedback(request)
        return json_response({"status": "kept"})

    schema = {
        "type": "object",
        "required": ["id", "actual"],
        "properties": {
            "id": {"type": "string", "description": "X-Request-Id of the prediction's answer"},
            "actual": {"description": "the right value, or a list with one a row"},
        },
    }
    body = {"required": True, "content": {"application/json": {"schema": schema}}}
    app.add_api_route(
        "/feedback",
        feedback,
        methods=["POST"],
        tags=["operations"],
        operation_id="feedback",
        openapi_extra={"requestBody": body},
    )


def _record(service: Service, routes: list[str]) -> list[Middleware]:
    """Keep requests and answers in the prediction log, if there is to be one."""
    if service.log is None:
        return []
    return [Middleware(Recorder, log=service.log, routes=routes)]


def _allow_origins(limits: Limits) -> list[Middleware]:
    """Let pages of other sites ask the model, if that is set: browsers refuse it otherwise."""
    if not limits.origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=limits.origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Content-Type", "X-Request-Id", "traceparent"],
            expose_headers=[UNSEEN, "X-Request-Id"],
            max_age=3600,
        )
    ]


def _describe(bundle: Bundle, service: Service) -> str:
    task = bundle.runtime.get("task")
    return (
        f"{f'A {task} model' if task else 'A model'} served over HTTP. A request carries up to "
        f"{service.limits.max_rows} rows and {service.max_body_bytes} bytes. "
        "[Try it on a page](./)."
    )


async def _answer_request_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return error.make_response()


async def _answer_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    allowed = (error.headers or {}).get("allow") or (error.headers or {}).get("Allow")
    message = {
        404: "There is nothing here; see / and /docs.",
        405: f"This address takes {allowed}, not {request.method}.",
    }.get(error.status_code, str(error.detail))
    return RequestError(
        error.status_code, message, kind="http", headers=error.headers
    ).make_response()
