"""Prometheus metrics of one service."""

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

from serving.shared_metrics import SharedMetrics

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """The service's metrics, in a registry of their own."""

    def __init__(self, shared: SharedMetrics | None = None) -> None:
        """Register them all.

        Args:
            shared: adds them up over all processes of the server; None if this is the only one.
        """
        self._shared = shared
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
            f"{prefix}_in_flight_requests",
            "Requests being answered.",
            multiprocess_mode="livesum",
            registry=self.registry,
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
            multiprocess_mode="livemin",
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
            multiprocess_mode="livemin", registry=self.registry,
        )  # fmt: skip
        self.model = Gauge(
            f"{prefix}_model_info", "The model that is served; always 1.",
            ("name", "version", "commit", "md5", "path"), multiprocess_mode="livemax",
            registry=self.registry,
        )  # fmt: skip
        self.worker_restarts = Counter(
            f"{prefix}_worker_restarts", "Workers that took the place of one that died.",
            registry=self.registry,
        )  # fmt: skip

    def make_response(self) -> Response:
        """Make the response of `/metrics`, in Prometheus' text format."""
        registry = self.registry if self._shared is None else self._shared.make_registry()
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)
