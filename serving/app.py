"""The application: routes around a model that is loaded while the service already listens."""

import asyncio
import logging
import platform
import secrets
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import Response

from serving import pages, sagemaker
from serving.bundle import Bundle, BundleError
from serving.errors import Refused, json_response
from serving.interface import Interface, read_interface, request_adapter, row_bytes
from serving.limits import BodyLimit
from serving.metrics import Measure, Metrics
from serving.predictor import Answer, Predictor, load_predictor
from serving.settings import Limits
from serving.work import Workers

log = logging.getLogger(__name__)

INLINE_BYTES = 16 << 10  # a longer body is parsed on a thread
LEAST_BODY, MOST_BODY = 64 << 10, 32 << 20  # bounds of the default limit of a body
DOCUMENTED = ("/healthz", "/readyz", "/version", "/metrics", "/interface.json")


class Service:
    """One model's service: its state, and what each route answers."""

    def __init__(self, bundle: Bundle, limits: Limits, failed: Callable[[str], None]) -> None:
        """Prepare everything that needs no model.

        Args:
            bundle: from `read_bundle`.
            limits: how much work to accept.
            failed: called with the reason, from another thread, if the model cannot be loaded.

        Raises:
            BundleError: the model's interface cannot be served.
        """
        self.bundle = bundle
        self.limits = limits
        self.interface: Interface = read_interface(bundle)
        self.adapter = request_adapter(self.interface, limits.max_rows)
        self.metrics = Metrics()
        self.batches = Workers(limits.threads, limits.queue)
        # Small requests of a slow model wait for each other only, and only the bound on
        # connections turns them away.
        self.singles = Workers(limits.threads, limits.connections)
        self.predictor: Predictor | None = None
        self._failed = failed
        self._inline = False

    @property
    def max_body_bytes(self) -> int:
        """The limit of a body: as set, or enough for `max_rows` rows."""
        enough = self.limits.max_rows * row_bytes(self.interface)
        return self.limits.max_body_bytes or min(max(enough, LEAST_BODY), MOST_BODY)

    def load(self) -> None:
        """Load the model and replay its golden predictions; on failure say why and give up."""
        try:
            predictor = load_predictor(
                self.bundle, self.interface, self.adapter, self.limits.max_rows
            )
        except BundleError as error:
            self._failed(str(error))
        except BaseException as error:  # nothing may leave the service waiting for ever
            log.exception("loading failed")
            self._failed(f"{type(error).__name__}: {error}")
        else:
            self._inline = predictor.seconds_a_row <= self.limits.inline_milliseconds / 1000
            self.predictor = predictor
            version = self.version()
            self.metrics.ready.set(1)
            self.metrics.model.labels(
                *(str(version.get(key) or "") for key in ("name", "version", "commit", "md5")),
                predictor.path,
            ).set(1)
            log.info("%s is ready", self.bundle.name)

    def version(self) -> dict[str, Any]:
        """What is served: as the deployer released it, and the hashes of the file loaded."""
        digest = self.bundle.digest if self.predictor else None
        return {
            "name": self.bundle.name,
            "version": None,
            "commit": None,
            "environment": None,
            "serving": None,
            **self.bundle.release,
            "md5": digest.md5 if digest else None,
            "sha256": digest.sha256 if digest else None,
            "size": digest.size if digest else None,
            "python": platform.python_version(),
            "ready": self.predictor is not None,
        }

    def answerer(self, method: str) -> Callable[[Request], Any]:
        """Make the route of one of the model's methods.

        Args:
            method: one of the interface's.

        Returns:
            An endpoint.
        """
        rows_counter = self.metrics.rows.labels(method)

        async def endpoint(request: Request) -> Response:
            predictor = self.predictor
            if predictor is None:
                raise Refused(
                    503, "The model is still loading.", kind="loading", headers={"Retry-After": "1"}
                )
            kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "application/json" and not kind.endswith("+json"):
                raise Refused(
                    415, "Send JSON with the header Content-Type: application/json.",
                    kind="content_type",
                )  # fmt: skip
            body = await request.body()
            try:
                answer = await self._answer(predictor, method, body)
            except Refused:
                raise
            except Exception as error:
                raise self._model_failed(method, error) from error
            rows_counter.inc(answer.rows)
            return Response(answer.body, media_type="application/json")

        return endpoint

    async def _answer(self, predictor: Predictor, method: str, body: bytes) -> Answer:
        if len(body) > INLINE_BYTES:
            return await self.batches.run(predictor.answer, method, body)
        rows = predictor.rows(body)
        if len(rows) > self.limits.inline_rows:
            return await self.batches.run(predictor.answer_rows, method, rows)
        if self._inline:
            return predictor.answer_rows(method, rows)
        return await self.singles.run(predictor.answer_rows, method, rows)

    def close(self) -> None:
        """Let what runs finish; for when the service stops."""
        self.batches.close()
        self.singles.close()

    def _model_failed(self, method: str, error: Exception) -> Refused:
        reference = secrets.token_hex(4)
        log.error("%s failed, reference %s", method, reference, exc_info=error)
        if isinstance(error, ValueError):  # how scikit-learn says that it has no use for a value
            message = f"The model does not accept these values (reference {reference})."
            return Refused(422, message, kind="model_value")
        message = f"The model failed on this request (reference {reference})."
        return Refused(500, message, kind="model_failed")


def create_app(
    bundle: Bundle,
    limits: Limits,
    failed: Callable[[str], None] | None = None,
    *,
    listen_when_ready: bool = False,
) -> FastAPI:
    """Build the application of one model.

    Args:
        bundle: from `read_bundle`.
        limits: how much work to accept.
        failed: called with the reason, from another thread, if the model cannot be loaded.
        listen_when_ready: whether the server is to start listening only once the model is loaded.

    Returns:
        An ASGI application that loads the model once it is started.

    Raises:
        BundleError: the model's interface cannot be served.
    """
    service = Service(bundle, limits, failed or log.error)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # A daemon: a stop while the model loads does not wait for it.
        loading = threading.Thread(target=service.load, name="load", daemon=True)
        loading.start()
        if listen_when_ready:
            await asyncio.to_thread(loading.join)
        yield
        service.close()

    methods = [f"/{method}" for method in service.interface.methods]
    probed = ["/ping", "/invocations"]  # by SageMaker
    app = FastAPI(
        title=f"{bundle.name}",
        version=str(bundle.release.get("version") or "unreleased"),
        description=_about(bundle, service),
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        middleware=[
            Middleware(
                Measure,
                metrics=service.metrics,
                routes=[
                    "/",
                    "/docs",
                    "/model.json",
                    "/openapi.json",
                    *DOCUMENTED,
                    *probed,
                    *methods,
                ],
            ),
            Middleware(BodyLimit, max_bytes=service.max_body_bytes, seconds=limits.body_seconds),
        ],
        exception_handlers={
            Refused: _refused,
            HTTPException: _http_error,
            Exception: _unexpected,
        },
    )
    app.state.service = service
    _add_routes(app, service)
    app.openapi = pages.openapi(bundle, service.interface, service.adapter, app.openapi)  # type: ignore[method-assign]
    return app


def _add_routes(app: FastAPI, service: Service) -> None:
    answerers = {method: service.answerer(method) for method in service.interface.methods}
    for method, answerer in answerers.items():
        # Past FastAPI's own handling, which has nothing to add and takes a tenth of the time.
        app.add_route(f"/{method}", answerer, methods=["POST"])
    any_method = sagemaker.invocations(answerers, service.version)
    app.add_route("/invocations", any_method, methods=["POST"])

    async def interface() -> Response:
        """MLEM's description of the methods; its client starts here."""
        return json_response(service.interface.mlem)

    async def healthz() -> Response:
        """The process is up; it may still be loading the model."""
        return json_response({"status": "up"})

    async def readyz() -> Response:
        """The model is loaded and gave its golden predictions."""
        if service.predictor is None:
            return json_response({"status": "loading"}, 503, {"Retry-After": "1"})
        return json_response({"status": "ready"})

    async def version() -> Response:
        """Which release this is, and the hashes of the model file that was loaded."""
        return json_response(service.version())

    async def metrics() -> Response:
        """Metrics in Prometheus' text format."""
        return service.metrics.response()

    async def model() -> Response:
        described = pages.describe(
            service.bundle, service.interface, service.limits.max_rows, service.version()
        )
        return json_response(described)

    async def page() -> Response:
        return pages.page("page.html")

    async def docs() -> Response:
        return pages.page("docs.html")

    async def static(name: str) -> Response:
        return pages.static_file(name)

    async def icon() -> Response:
        return pages.static_file("icon.svg")

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


def _about(bundle: Bundle, service: Service) -> str:
    task = bundle.runtime.get("task")
    return (
        f"{f'A {task} model' if task else 'A model'} served over HTTP. A request carries up to "
        f"{service.limits.max_rows} rows and {service.max_body_bytes} bytes. "
        "[Try it on a page](./)."
    )


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return error.response()


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    allowed = (error.headers or {}).get("allow") or (error.headers or {}).get("Allow")
    message = {
        404: "There is nothing here; see / and /docs.",
        405: f"This address takes {allowed}, not {request.method}.",
    }.get(error.status_code, str(error.detail))
    return Refused(error.status_code, message, kind="http", headers=error.headers).response()


async def _unexpected(_: Request, error: Exception) -> Response:
    reference = secrets.token_hex(4)
    log.error("unexpected, reference %s", reference, exc_info=error)
    return Refused(
        500, f"Something went wrong in the service (reference {reference}).", kind="unexpected"
    ).response()
