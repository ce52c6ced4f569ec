"""Prometheus metrics of one service, and the ASGI middleware that measures every request."""

import time
from collections.abc import Collection

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
OTHER = "other"  # a path of the client's own invention must not become a label

SECURITY_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
]
API_HEADERS = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store")]


class Metrics:
    """The service's metrics, in a registry of their own."""

    def __init__(self) -> None:
        """Register them all."""
        # Without a time stamp for each series, of no use here.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        prefix = "slipway_serving"
        self.requests = Counter(
            f"{prefix}_requests", "Requests answered.", ("route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            f"{prefix}_request_seconds", "Time from a request's headers to its whole answer.",
            ("route",), buckets=BUCKETS, registry=self.registry,
        )  # fmt: skip
        self.in_flight = Gauge(
            f"{prefix}_in_flight_requests", "Requests being answered.", registry=self.registry
        )
        self.rows = Counter(
            f"{prefix}_rows", "Rows predicted.", ("method",), registry=self.registry
        )
        self.batch_requests = Histogram(
            f"{prefix}_batch_requests", "Small requests that were predicted together.",
            buckets=(1, 2, 4, 8, 16, 32, 64), registry=self.registry,
        )  # fmt: skip
        self.batch_rows = Gauge(
            f"{prefix}_batch_most_rows",
            "Rows of concurrent requests that may be predicted together; 1: each request alone.",
            registry=self.registry,
        )
        self.unseen = Counter(
            f"{prefix}_unseen_categories", "Rows with a category the model was not trained on.",
            ("column",), registry=self.registry,
        )  # fmt: skip
        self.log_records = Counter(
            f"{prefix}_log_records", "Records of the prediction log, kept or dropped.",
            ("result",), registry=self.registry,
        )  # fmt: skip
        self.ready = Gauge(
            f"{prefix}_ready", "1 once the golden predictions were replayed.",
            registry=self.registry,
        )  # fmt: skip
        self.model = Gauge(
            f"{prefix}_model_info", "The model that is served; always 1.",
            ("name", "version", "commit", "md5", "path"), registry=self.registry,
        )  # fmt: skip

    def make_response(self) -> Response:
        """Make the response of `/metrics`, in Prometheus' text format."""
        return Response(generate_latest(self.registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)


class Measure:
    """ASGI middleware: counts and times requests, and adds the security headers."""

    def __init__(self, app: ASGIApp, metrics: Metrics, routes: Collection[str]) -> None:
        """Wrap an application.

        Args:
            app: answers the requests.
            metrics: count them.
            routes: known paths; each is its own label.
        """
        self._app = app
        self._metrics = metrics
        self._seconds = {r: metrics.seconds.labels(r) for r in (*routes, OTHER)}
        self._counters: dict[tuple[str, int], Counter] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        route = path if path in self._seconds else OTHER
        status = 500

        async def send_measured(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message["headers"]
                page = any(k == b"content-type" and v.startswith(b"text/html") for k, v in headers)
                message["headers"] = [*headers, *(SECURITY_HEADERS if page else API_HEADERS)]
            await send(message)

        start = time.perf_counter()
        self._metrics.in_flight.inc()
        try:
            await self._app(scope, receive, send_measured)
        finally:
            self._metrics.in_flight.dec()
            self._seconds[route].observe(time.perf_counter() - start)
            counter = self._counters.get((route, status))
            if counter is None:
                counter = self._metrics.requests.labels(route, str(status))
                self._counters[route, status] = counter
            counter.inc()
