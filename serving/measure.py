"""The ASGI middleware that sees every request: measures it, and hands it to the prediction log.

One middleware for both, as each costs several microseconds a request: more than the log's own work.
"""

import time
from collections.abc import Awaitable, Collection

from prometheus_client import Counter
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.metrics import Metrics
from serving.prediction_log import PredictionLog

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


class Measure:
    """ASGI middleware: counts and times requests, records some, and adds the security headers."""

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        routes: Collection[str],
        log: PredictionLog | None = None,
        recorded: Collection[str] = (),
    ) -> None:
        """Wrap an application.

        Args:
            app: answers the requests.
            metrics: count them.
            routes: known paths; each is its own label.
            log: keeps requests, with their answers.
            recorded: the paths of those.
        """
        self._app = app
        self._metrics = metrics
        self._log = log
        self._recorded = frozenset(recorded)
        self._seconds = {r: metrics.seconds.labels(r) for r in (*routes, OTHER)}
        self._counters: dict[tuple[str, int], Counter] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        route = path if path in self._seconds else OTHER
        exchange = None
        if self._log is not None and path in self._recorded and scope["method"] == "POST":
            exchange = self._log.begin(scope)
        status = 500

        # Not a coroutine of its own: it has nothing to wait for.
        def send_measured(message: Message) -> Awaitable[None]:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message["headers"]
                page = any(k == b"content-type" and v.startswith(b"text/html") for k, v in headers)
                headers = [*headers, *(SECURITY_HEADERS if page else API_HEADERS)]
                if exchange is not None:
                    exchange.status = status
                    headers.append((b"x-request-id", exchange.id))
                message["headers"] = headers
            elif status != 200 and exchange is not None:
                exchange.answer = message.get("body") or exchange.answer
            return send(message)

        start = time.perf_counter()
        self._metrics.in_flight.inc()
        try:
            await self._app(scope, receive, send_measured)
        finally:
            self._metrics.in_flight.dec()
            seconds = time.perf_counter() - start
            self._seconds[route].observe(seconds)
            counter = self._counters.get((route, status))
            if counter is None:
                counter = self._metrics.requests.labels(route, str(status))
                self._counters[route, status] = counter
            counter.inc()
            if self._log is not None and exchange is not None:
                self._log.end(exchange, seconds)
