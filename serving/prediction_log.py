"""Keep what the server was asked and what it answered, without slowing or failing an answer.

The server's own thread puts each exchange into a bounded queue; another one makes records of them,
in batches. Whatever does not fit, or cannot be written, is dropped and counted.
"""

import json
import logging
import re
import secrets
import sys
import threading
import time
import zlib
from collections import deque
from itertools import count
from typing import Any

from starlette.requests import Request
from starlette.types import Scope

from serving.errors import RequestError
from serving.metrics import Metrics
from serving.records import Exchange, RecordWriter
from serving.settings import LogSettings
from serving.spool import FILE_BYTES, Sink, Spool, StandardOutput

log = logging.getLogger("serving")

STATE = "slipway.exchange"  # key of a request's exchange in its scope
MOST_EXCHANGES = 20_000  # that wait; more are dropped
MOST_BYTES = 64 << 20  # of their bodies
BATCH = 1_000  # records written at once; the interpreter lets other threads run between them
# Between two batches: waking a thread costs as much as writing 100 records.
WAIT_SECONDS = 1.0
CLOSE_SECONDS = 5.0
DAY_SECONDS = 86_400
IDENTIFIER = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:/+=@-]{0,127}")
TRACE = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
MOST_ACTUAL = 64 << 10  # bytes of a feedback


class PredictionLog:
    """The queue of exchanges, and the thread that writes their records."""

    def __init__(self, settings: LogSettings, writer: RecordWriter, metrics: Metrics) -> None:
        """Begin with nothing to write; `start` starts the thread.

        Args:
            settings: of the log.
            writer: makes the records.
            metrics: count them.
        """
        self.settings = settings
        self._writer = writer
        self._written = metrics.log_records.labels("kept")
        self._lost = {
            reason: metrics.log_records.labels(f"dropped: {reason}")
            for reason in ("queue", "record", "sink", "spool")
        }
        self._sink: Sink = StandardOutput(settings.lock)
        if settings.folder is not None:
            self._sink = Spool(
                settings.folder,
                settings.seconds,
                settings.spool_bytes,
                self._lost["spool"].inc,
            )
        self._identifier, self._numbers = secrets.token_hex(8).encode() + b"-%x", count(1)
        self._queue: deque[Exchange] = deque()
        # Each is changed by one thread only: what waits is their difference.
        self._bytes_added = self._bytes_taken = 0
        self._wake = threading.Event()
        self._is_resting = self._is_closing = self._is_failing = False
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Write what waits, for a few seconds at most."""
        self._is_closing = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(CLOSE_SECONDS)

    def begin(self, scope: Scope) -> Exchange:
        """Give a request an id, unless it brings one, and prepare its record."""
        headers = dict(scope["headers"])
        identifier = headers.get(b"x-request-id", b"")
        if not identifier or not IDENTIFIER.fullmatch(identifier):
            identifier = self._identifier % next(self._numbers)
        traceparent = headers.get(b"traceparent", b"")
        if traceparent and not TRACE.fullmatch(traceparent):
            traceparent = b""
        exchange = Exchange(identifier, traceparent, time.time(), scope["path"][1:])
        scope[STATE] = exchange
        return exchange

    def end(self, exchange: Exchange, seconds: float) -> None:
        """Keep an exchange that has ended, if it is of the share and there is room.

        Not where the client has gone before it had an answer, or has not asked the model.
        """
        if not exchange.body and not exchange.prediction and exchange.status in {0, 200}:
            return
        # Feedback follows its prediction.
        if self.settings.share < 1 and not self._has_share(exchange.prediction or exchange.id):
            return
        exchange.milliseconds = 1000 * seconds
        exchange.size = size = len(exchange.body) + len(exchange.answer) + 1000
        waiting = self._bytes_added - self._bytes_taken
        if len(self._queue) >= MOST_EXCHANGES or waiting + size > MOST_BYTES:
            self._lost["queue"].inc()
            return
        self._bytes_added += size
        self._queue.append(exchange)
        if self._is_resting or waiting > MOST_BYTES / 4:
            self._wake.set()

    def _has_share(self, identifier: bytes) -> bool:
        return zlib.crc32(identifier) < self.settings.share * 2**32

    def _run(self) -> None:
        while True:
            # Read before the batches: what came while they were written waits for a last turn.
            is_last = self._is_closing
            self._wake.clear()
            self._write_batches()
            if is_last:
                self._flush(is_last=True)
                return
            self._flush()
            self._is_resting = not self._sink.is_open
            # Only now: an exchange that was added before `_is_resting` was set has woken nobody.
            if self._is_resting and not self._queue and not self._is_closing:
                self._wake.wait()
                self._wake.clear()
            self._is_resting = False
            if not self._is_closing:
                self._wake.wait(WAIT_SECONDS)

    def _write_batches(self) -> None:
        """Write the exchanges that wait now; those that come meanwhile wait for the next turn."""
        last = len(self._queue)
        while last > 0:
            batch: list[Exchange] = []
            size = 0
            for _ in range(min(last, BATCH)):
                exchange = self._queue.popleft()
                batch.append(exchange)
                size += exchange.size
                if size >= FILE_BYTES:
                    break
            last -= len(batch)
            for day in sorted({exchange.time // DAY_SECONDS for exchange in batch}):
                text = time.strftime("%Y-%m-%d", time.gmtime(day * DAY_SECONDS))
                self._write(text, [e for e in batch if e.time // DAY_SECONDS == day])
            self._bytes_taken += size

    def _write(self, day: str, exchanges: list[Exchange]) -> None:
        lines = []
        for exchange, rows in zip(exchanges, self._writer.copy_rows(exchanges), strict=True):
            try:
                lines.append(self._writer.write(exchange, rows))
            except Exception as error:  # one exchange must not end the thread
                self._lost["record"].inc()
                self._warn(error)
        try:
            self._sink.write(day, b"".join(lines))
        except (OSError, ValueError) as error:  # a full disk; an output that is closed
            self._lost["sink"].inc(len(lines))
            self._warn(error)
        else:
            self._written.inc(len(lines))
            self._is_failing = len(lines) < len(exchanges)

    def _flush(self, *, is_last: bool = False) -> None:
        try:
            self._sink.flush(is_last=is_last)
        except OSError as error:
            self._warn(error)

    def _warn(self, error: Exception) -> None:
        if not self._is_failing:
            log.warning("the prediction log drops records until it can be written: %r", error)
        self._is_failing = True


def keep(scope: Scope, method: str, body: bytes, answer: bytes) -> None:
    """Note request and answer for the record; do nothing if there is no log."""
    exchange: Exchange | None = scope.get(STATE)
    if exchange is not None:
        exchange.method, exchange.body, exchange.answer = method, body, answer


async def read_feedback(request: Request) -> None:
    """Take the right answer to an earlier request, which becomes a record of its own.

    Raises:
        RequestError: it is not `{"id": …, "actual": …}`.
    """
    body = await request.body()
    if len(body) > MOST_ACTUAL:  # before it is parsed: meanwhile no other request is answered
        raise RequestError(
            413, f"A feedback may have {MOST_ACTUAL} bytes at most.", kind="too_large"
        )
    try:
        content = json.loads(body)
        json.dumps(content, ensure_ascii=False).encode()  # refuses half a character
    except (ValueError, RecursionError):
        raise RequestError(400, "The body is not valid JSON.", kind="json_invalid") from None
    if not isinstance(content, dict) or content.keys() != {"id", "actual"}:
        raise _refuse('The body must be {"id": "…", "actual": …}.')
    identifier = content["id"]
    if not isinstance(identifier, str) or not IDENTIFIER.fullmatch(identifier.encode()):
        raise _refuse("id must be the X-Request-Id of the answer to the prediction.")
    actual = content["actual"]
    if not all(map(_is_value, actual if isinstance(actual, list) else [actual])):
        raise _refuse("actual must be a number, a text, true or false, or a list of them.")
    exchange: Exchange = request.scope[STATE]
    exchange.prediction, exchange.answer = identifier.encode(), json.dumps(actual).encode()


def _is_value(value: Any) -> bool:
    # No reader takes a number that no float can hold.
    is_number = isinstance(value, int | float)
    return abs(value) <= sys.float_info.max if is_number else isinstance(value, str)


def _refuse(message: str) -> RequestError:
    return RequestError(422, message, kind="feedback")
