"""The application: the routes of one model's server."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import cache

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving import pages, sagemaker
from serving.bundle import Bundle
from serving.categories import UNSEEN
from serving.connections import ConnectionLimit, Connections, fit_open_files
from serving.errors import RequestError, json_response, to_json
from serving.failures import FailureAnswer
from serving.limits import BodyLimit
from serving.measure import Measure
from serving.prediction_log import read_feedback
from serving.service import Service
from serving.settings import Limits, LogSettings
from serving.shared_metrics import SharedMetrics

log = logging.getLogger(__name__)

Endpoint = Callable[[Request], Awaitable[Response]]

ASSETS = ("/static/{name}", "/favicon.ico")  # of pages; not measured by themselves


def create_app(
    bundle: Bundle,
    limits: Limits,
    fail: Callable[[str], None] | None = None,
    *,
    listen_when_ready: bool = False,
    log_settings: LogSettings | None = None,
    shared: SharedMetrics | None = None,
) -> Starlette:
    """Build the application of one model.

    Args:
        bundle: from `read_bundle`.
        limits: of the work it accepts.
        fail: called with the reason, from another thread, if the model cannot be loaded.
        listen_when_ready: whether the server is to start listening only once the model is loaded.
        log_settings: of the prediction log; None for none.
        shared: the metrics of all processes of the server; None if this is the only one.

    Returns:
        An ASGI application that loads the model once it is started.

    Raises:
        BundleError: the model's interface cannot be served.
    """
    service = Service(bundle, limits, fail or log.error, log_settings, shared)
    connections = Connections(fit_open_files(limits.connections), limits.header_seconds)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        # A daemon: a stop while the model loads does not wait for it. A worker has loaded it before
        # it listens.
        loading = threading.Thread(target=service.load, name="load", daemon=True)
        if service.predictor is None:
            loading.start()
        if service.log is not None:
            service.log.start()
        if listen_when_ready and service.predictor is None:
            await asyncio.to_thread(loading.join)
        yield
        service.close()

    routes = _make_routes(service)
    # These take requests for predictions, and feedback on them.
    recorded = [route.path for route in routes if "POST" in (route.methods or ())]
    app = Starlette(
        routes=routes,
        lifespan=lifespan,
        middleware=[
            Middleware(
                Measure,
                metrics=service.metrics,
                routes=[route.path for route in routes if route.path not in ASSETS],
                log=service.log,
                recorded=recorded,
            ),
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
    return app


def _make_routes(service: Service) -> list[Route]:
    endpoints = {method: service.make_endpoint(method) for method in service.interface.methods}
    any_method = sagemaker.make_invocations_endpoint(endpoints, service.describe_version)
    operations = _make_operations(service)

    # Those that are asked most come first: routes are tried in this order.
    return [
        *(
            Route(f"/{method}", endpoint, methods=["POST"])
            for method, endpoint in endpoints.items()
        ),
        Route("/invocations", any_method, methods=["POST"]),
        *([Route("/feedback", _take_feedback, methods=["POST"])] if service.takes_feedback else []),
        *(Route(path, endpoint) for path, endpoint in operations.items()),
        Route("/ping", operations["/readyz"]),
        *_make_pages(service, operations),
    ]


def _make_operations(service: Service) -> dict[str, Endpoint]:
    """Make the endpoints for operators and programs; `/docs` shows their first lines."""

    async def interface(_: Request) -> Response:
        """Describe the methods to MLEM's client, which starts here."""
        return json_response(service.interface.mlem)

    async def healthz(_: Request) -> Response:
        """Answer that the process is up; it may still be loading the model."""
        return json_response({"status": "up"})

    async def readyz(_: Request) -> Response:
        """Answer whether the model is loaded and gave its golden predictions."""
        if service.predictor is None:
            return json_response({"status": "loading"}, 503, {"Retry-After": "1"})
        return json_response({"status": "ready"})

    async def version(_: Request) -> Response:
        """Describe the release, and the model file that was really loaded."""
        return json_response(service.describe_version())

    async def metrics(_: Request) -> Response:
        """Report metrics in Prometheus' text format."""
        return service.metrics.make_response()

    return {
        "/interface.json": interface,
        "/healthz": healthz,
        "/readyz": readyz,
        "/version": version,
        "/metrics": metrics,
    }


def _make_pages(service: Service, operations: Mapping[str, Endpoint]) -> list[Route]:
    """Make the routes of the pages for people, and of what they load."""

    async def model(_: Request) -> Response:
        description = pages.describe(
            service.bundle, service.interface, service.limits, service.describe_version()
        )
        return json_response(description)

    @cache
    def describe_api(*, takes_tables: bool) -> bytes:
        text = _describe(service.bundle, service)
        others = [pages.describe_operation(*route) for route in operations.items()]
        if service.takes_feedback:
            others.insert(0, pages.describe_feedback(_take_feedback))
        content = pages.make_openapi(
            service.bundle,
            service.interface,
            service.adapter,
            text,
            others,
            split=service.split,
            takes_tables=takes_tables,
        )
        return to_json(content)

    async def openapi(_: Request) -> Response:
        content = describe_api(takes_tables=service.tables is not None)
        return Response(content, media_type="application/json")

    async def page(_: Request) -> Response:
        return pages.read_page("page.html")

    async def docs(_: Request) -> Response:
        return pages.read_page("docs.html")

    async def static(request: Request) -> Response:
        return pages.read_static_file(request.path_params["name"])

    async def icon(_: Request) -> Response:
        return pages.read_static_file("icon.svg")

    return [
        Route("/model.json", model),
        Route("/openapi.json", openapi),
        Route("/", page),
        Route("/docs", docs),
        Route("/static/{name}", static),
        Route("/favicon.ico", icon),
    ]


async def _take_feedback(request: Request) -> Response:
    """Keep the right answer to an earlier request in the prediction log."""
    await read_feedback(request)
    return json_response({"status": "kept"})


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
    headers = Headers(error.headers or {})
    allowed = " or ".join(sorted(headers.get("allow", "").split(", ")))  # of a set, in any order
    message = {
        404: "There is nothing here; see / and /docs.",
        405: f"This address takes {allowed}, not {request.method}.",
    }.get(error.status_code, str(error.detail))
    return RequestError(
        error.status_code, message, kind="http", headers=error.headers
    ).make_response()
