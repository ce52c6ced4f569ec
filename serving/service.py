"""One model's server: it loads the model while it already listens, and answers requests."""

import gc
import logging
import platform
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from serving.batching import Batcher, prove_batch_rows
from serving.bundle import Bundle, BundleError
from serving.categories import make_unseen_header
from serving.columnar import TableReader, has_pyarrow
from serving.errors import RequestError
from serving.failures import Failures
from serving.interface import Interface, estimate_row_bytes, read_interface
from serving.large import LargeRequests, TableRequest
from serving.media_types import JSON, TABLES
from serving.metrics import Metrics
from serving.prediction_log import PredictionLog, keep
from serving.predictor import Predictor, load_predictor
from serving.records import RecordWriter
from serving.requests import make_request_adapter
from serving.results import Answer, choose_writer
from serving.settings import Limits, LogSettings
from serving.shared_metrics import SharedMetrics
from serving.split import make_split_reader
from serving.work import Workers

log = logging.getLogger(__name__)

# That are made before young garbage is collected. Requests leave hardly any cycles, so with
# Python's 700 a twentieth of a request's instructions looks for them in vain.
YOUNG_OBJECTS = 10_000
INLINE_BYTES = 16 << 10  # a longer body is parsed on a thread
LEAST_BODY, MOST_BODY = 64 << 10, 32 << 20  # bounds of the default limit of a body


class Service:
    """The state of one model's server, and the answers of its routes."""

    def __init__(
        self,
        bundle: Bundle,
        limits: Limits,
        fail: Callable[[str], None],
        log_settings: LogSettings | None = None,
        shared: SharedMetrics | None = None,
    ) -> None:
        """Prepare everything that needs no model.

        Args:
            bundle: from `read_bundle`.
            limits: of the work it accepts.
            fail: called with the reason, from another thread, if the model cannot be loaded.
            log_settings: of the prediction log; None for none.
            shared: the metrics of all processes of the server; None if this is the only one.

        Raises:
            BundleError: the model's interface cannot be served.
        """
        self.bundle = bundle
        self.limits = limits
        self.interface: Interface = read_interface(bundle)
        self.adapter = make_request_adapter(self.interface, limits.max_rows)
        self.split = make_split_reader(self.interface, limits.max_rows)
        self.tables: TableReader | None = None  # until the model is loaded
        self.metrics = Metrics(shared)
        private = {*(bundle.runtime.get("private") or ())}
        if log_settings is not None:
            private |= log_settings.private
        self.failures = Failures(is_private=bool(private))
        self.workers = Workers(limits.threads, limits.queue)
        # Small requests wait for each other only, and only the bound on connections turns them
        # away.
        self._small: dict[str, Batcher] = {}  # of each method
        self._large: dict[str, LargeRequests] = {}
        self._pool: ThreadPoolExecutor | None = None  # of the small requests of a slow model
        self.predictor: Predictor | None = None
        self.log: PredictionLog | None = None
        if log_settings is not None:
            writer = RecordWriter(bundle, self.interface, log_settings.key, log_settings.private)
            self.log = PredictionLog(log_settings, writer, self.metrics)
        self._fail = fail

    @property
    def takes_feedback(self) -> bool:
        """Say whether `POST /feedback` is served."""
        return self.log is not None and self.log.settings.feedback

    @property
    def max_body_bytes(self) -> int:
        """The limit of a body: as set, or enough for `max_rows` rows."""
        enough = self.limits.max_rows * estimate_row_bytes(self.interface)
        return self.limits.max_body_bytes or min(max(enough, LEAST_BODY), MOST_BODY)

    def load(self) -> None:
        """Load the model and replay its golden predictions; on failure report the reason."""
        try:
            predictor = load_predictor(
                self.bundle, self.interface, self.adapter, self.limits.max_rows, self.split
            )
            self._prepare_batches(predictor)
            if self.split is not None and has_pyarrow():
                self.tables = TableReader(self.interface, self.split, self.limits.max_rows)
        except BundleError as error:
            self._fail(str(error))
        except BaseException as error:  # nothing may leave the service waiting for ever
            log.exception("loading failed")
            self._fail(f"{type(error).__name__}: {error}")
        else:
            exempt_from_collection()
            self.predictor = predictor
            version = self.describe_version()
            self.metrics.ready.set(1)
            self.metrics.model.labels(
                *(str(version.get(key) or "") for key in ("name", "version", "commit", "md5")),
                predictor.path,
            ).set(1)
            log.info("%s is ready", self.bundle.name)

    def describe_version(self) -> dict[str, Any]:
        """Describe the release, and the model file that was really loaded."""
        digest = self.bundle.digest if self.predictor else None
        return {
            "name": self.bundle.name,
            "version": None,
            "commit": None,
            "environment": None,
            "serving": None,
            **{key: value for key, value in self.bundle.release.items() if key != "card"},
            "md5": digest.md5 if digest else None,
            "sha256": digest.sha256 if digest else None,
            "size": digest.size if digest else None,
            "python": platform.python_version(),
            "ready": self.predictor is not None,
        }

    def make_endpoint(self, method: str) -> Callable[[Request], Any]:
        """Make the endpoint of one of the model's methods."""
        rows_counter = self.metrics.rows.labels(method)

        async def endpoint(request: Request) -> Response:
            predictor = self.predictor
            if predictor is None:
                raise RequestError(
                    503, "The model is still loading.", kind="loading", headers={"Retry-After": "1"}
                )
            kind = self._read_media_type(request.headers.get("content-type", ""))
            # In one piece, from `BodyLimit`; `request.body()` would copy it.
            body = (await request.receive())["body"]
            try:
                if kind in TABLES:
                    answer = await self._answer_table(method, body, kind, request)
                else:
                    answer = await self._answer(predictor, method, body)
            except RequestError:
                raise
            except Exception as error:
                raise self._make_model_error(method, error) from error
            keep(request.scope, method, *(answer.texts or (body, answer.body)))
            rows_counter.inc(answer.rows)
            for column, count in answer.unseen_categories.items():
                self.metrics.unseen.labels(column).inc(count)
            headers = make_unseen_header(answer.unseen_categories)
            return Response(answer.body, headers=headers, media_type=answer.media_type)

        return endpoint

    async def _answer(self, predictor: Predictor, method: str, body: bytes) -> Answer:
        if len(body) > INLINE_BYTES:
            return await self.workers.run(self._large[method].answer(body))
        rows = predictor.rows(body)
        if len(rows) > self.limits.inline_rows:
            return await self.workers.run(self._large[method].answer_rows([rows]))
        return predictor.make_answer(rows, await self._small[method].predict(rows))

    async def _answer_table(
        self, method: str, body: bytes, media_type: str, request: Request
    ) -> Answer:
        assert self.tables is not None
        classes = self.bundle.runtime.get("classes") if method == "predict_proba" else None
        writer = choose_writer(request.headers.get("accept", ""), classes)
        is_recorded = self.log is not None
        table = TableRequest(body, media_type, self.tables, writer, is_recorded)
        return await self.workers.run(self._large[method].answer_table(table))

    def _read_media_type(self, header: str) -> str:
        """Read the type of a request.

        Raises:
            RequestError: this server does not take it.
        """
        kind = header.partition(";")[0].strip().lower()
        if kind == JSON or kind.endswith("+json"):
            return JSON
        if kind not in TABLES:
            message = "Send JSON with the header Content-Type: application/json."
        elif self.split is None:
            message = "This model takes arrays, no tables: send JSON."
        elif self.tables is None:
            message = (
                "This server cannot read Arrow or Parquet: send JSON, or set save.arrow in"
                " params.yaml, retrain and deploy."
            )
        else:
            return kind
        raise RequestError(415, message, kind="content_type")

    def _prepare_batches(self, predictor: Predictor) -> None:
        """Prove how many rows may be predicted together, and prepare the batches of each method."""
        seconds = self.limits.inline_milliseconds / 1000
        most_rows = prove_batch_rows(predictor, self.bundle.golden, self.limits.batch_rows, seconds)
        threads = 1
        if predictor.seconds_a_row > seconds:
            threads = self.limits.threads
            self._pool = ThreadPoolExecutor(threads, thread_name_prefix="predict")
        for method in self.interface.methods:
            self._small[method] = Batcher(
                partial(predictor.predict, method),
                most_rows, self.metrics.batch_requests, self._pool, threads,
            )  # fmt: skip
            self._large[method] = LargeRequests(predictor, method, most_rows, self.limits.max_rows)
        self.metrics.batch_rows.set(most_rows)
        log.info("%s: up to %d rows of concurrent requests in a batch", self.bundle.name, most_rows)

    def close(self) -> None:
        """Let running predictions finish, and write the log, when the server stops."""
        self.workers.close()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        if self.log is not None:
            self.log.close()

    def _make_model_error(self, method: str, error: Exception) -> RequestError:
        if isinstance(error, ValueError):  # how scikit-learn says that it has no use for a value
            reference = self.failures.log_refusal(method, error)
            message = f"The model does not accept these values (reference {reference})."
            return RequestError(422, message, kind="model_value")
        reference = self.failures.log_failure(method, error)
        message = f"The model failed on this request (reference {reference})."
        return RequestError(500, message, kind="model_failed")


def exempt_from_collection() -> None:
    """Exempt what is loaded from garbage collection, and turn that on.

    A full collection visits every object of scikit-learn, pandas and the model. In the 0.1 s that
    this takes no request is answered: it made the slowest requests five times slower.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)
    gc.enable()
