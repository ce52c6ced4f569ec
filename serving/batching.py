"""Predict concurrent requests together, where that gives the same answers.

A call of a model costs nearly the same for one row as for dozens. A request that finds the model
idle is predicted at once; those that arrive meanwhile are predicted together. None waits for more.
"""

import asyncio
import contextlib
import logging
import random
import resource
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

from prometheus_client import Histogram

from serving.comparison import is_same
from serving.predictor import Predictor

log = logging.getLogger(__name__)

SEED = 1  # of the order of golden rows in a batch: the same at each start
SLOWER = 2.0  # a batch may take this many times as long as one row
TRIES = 2  # more of a batch that has taken longer: the machine may be busy just now

Predict = Callable[[Sequence[Any]], list[Any]]


@dataclass(slots=True)
class Failure:
    """The error of a request.

    The frames of the error's traceback refer to this object. So the error is taken out when it is
    raised. Otherwise it would keep itself and the rows in memory until a collection of garbage,
    which may be thousands of requests later.
    """

    errors: list[Exception]  # one


Outcome = list[Any] | Failure  # a prediction a row


@dataclass(slots=True)
class Waiting:
    """A request that waits for its predictions."""

    rows: Sequence[Any]
    outcome: asyncio.Future[Outcome]


class Batcher:
    """The requests of one method, and the batches that are made of them."""

    def __init__(
        self,
        predict: Predict,
        most_rows: int,
        sizes: Histogram,
        pool: ThreadPoolExecutor | None = None,
        threads: int = 1,
    ) -> None:
        """Begin without a request.

        Args:
            predict: gives one prediction a row.
            most_rows: of a batch of several requests; 1 to predict each request alone.
            sizes: counts the requests of each batch.
            pool: its threads predict; None to predict on the thread of the event loop.
            threads: batches that may be predicted at the same time.
        """
        self._predict = predict
        self._most_rows = most_rows
        self._sizes = sizes
        self._pool = pool
        self._free = threads
        self._waiting: deque[Waiting] = deque()
        self._is_scheduled = False

    async def predict(self, rows: Sequence[Any]) -> list[Any]:
        """Predict the rows of a request, together with those of others that wait.

        Raises:
            Exception: what the model raises on these rows alone.
        """
        loop = asyncio.get_running_loop()
        waiting = Waiting(rows, loop.create_future())
        self._waiting.append(waiting)
        self._schedule(loop)
        outcome = await waiting.outcome
        if isinstance(outcome, Failure):
            raise outcome.errors.pop()
        return outcome

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        # Not at once: the requests that the loop has read already are of the same batch.
        if self._waiting and self._free and not self._is_scheduled:
            self._is_scheduled = True
            loop.call_soon(self._start, loop)

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._is_scheduled = False
        batch = self._take()
        if not batch:
            return
        self._sizes.observe(len(batch))
        requests = [waiting.rows for waiting in batch]
        if self._pool is None:
            self._finish(loop, batch, predict_requests(self._predict, requests))
            return
        self._free -= 1
        running = loop.run_in_executor(self._pool, predict_requests, self._predict, requests)
        running.add_done_callback(lambda done: self._free_thread(loop, batch, done))
        self._schedule(loop)

    def _take(self) -> list[Waiting]:
        """Take the next requests, in the order in which they came; the first has any size."""
        batch: list[Waiting] = []
        rows = 0
        while self._waiting:
            waiting = self._waiting[0]
            if batch and rows + len(waiting.rows) > self._most_rows:
                break
            self._waiting.popleft()
            if not waiting.outcome.done():  # cancelled: nobody waits for it any more
                batch.append(waiting)
                rows += len(waiting.rows)
        return batch

    def _free_thread(
        self,
        loop: asyncio.AbstractEventLoop,
        batch: Sequence[Waiting],
        done: asyncio.Future[list[Outcome]],
    ) -> None:
        self._free += 1
        if done.cancelled():  # the server stops
            for waiting in batch:
                waiting.outcome.cancel()
            return
        self._finish(loop, batch, done.result())

    def _finish(
        self,
        loop: asyncio.AbstractEventLoop,
        batch: Sequence[Waiting],
        outcomes: Sequence[Outcome],
    ) -> None:
        for waiting, outcome in zip(batch, outcomes, strict=True):
            if not waiting.outcome.done():
                waiting.outcome.set_result(outcome)
        self._schedule(loop)  # after the answers, which go out first


def predict_requests(predict: Predict, requests: Sequence[Sequence[Any]]) -> list[Outcome]:
    """Predict the rows of several requests in one call.

    If it fails, halves are tried, down to single requests: so an error is of the request alone that
    causes it, and costs the others a few calls.

    Args:
        predict: gives one prediction a row.
        requests: the rows of each.

    Returns:
        For each request its predictions, or what the model raises on it alone.
    """
    if len(requests) == 1:
        try:
            return [predict(requests[0])]
        except Exception as error:  # of the model's own code
            return [Failure([error])]
    with contextlib.suppress(Exception):
        rows = [row for request in requests for row in request]
        predictions = predict(rows)
        if len(predictions) == len(rows):
            rest = iter(predictions)
            return [list(islice(rest, len(request))) for request in requests]
    middle = len(requests) // 2
    return predict_requests(predict, requests[:middle]) + predict_requests(
        predict, requests[middle:]
    )


def prove_batch_rows(
    predictor: Predictor, golden: Mapping[str, Any], most_rows: int, seconds: float
) -> int:
    """Find how many rows of several requests may be predicted together.

    Batches of 2, 4, 8 … golden rows must give each row the prediction that it has in the golden
    outputs; otherwise nothing is batched, nor if all golden rows are the same. A batch must not
    take much longer than a single row either, so that nobody waits long for the rows of others.

    Args:
        predictor: has replayed the golden inputs.
        golden: inputs and each method's outputs, as saved with the model.
        most_rows: the setting.
        seconds: that a batch may always take.

    Returns:
        The number of rows; 1 if each request has to be predicted alone.
    """
    seconds = max(seconds, SLOWER * predictor.seconds_a_row)
    rows = [row for sample in golden["inputs"] for row in predictor.golden_rows([sample])]
    if all(row == rows[0] for row in rows):
        # As of a private text, which is made up. Its neighbours in a batch change nothing.
        log.warning("all golden rows are the same and prove nothing of others: no batches")
        return 1
    draw = random.Random(SEED)
    proven, size = 1, min(2, most_rows)
    try:
        while size > proven:
            order = draw.choices(range(len(rows)), k=size)
            batch = [rows[number] for number in order]
            for method in predictor.interface.methods:
                predicted, taken = _predict_measured(predictor, method, batch)
                if not is_same([golden["outputs"][method][number] for number in order], predicted):
                    log.warning("%s differs for %d rows together: no batches", method, size)
                    return 1
                for _ in range(TRIES):
                    if taken > seconds:
                        taken = _predict_measured(predictor, method, batch)[1]
                if taken > seconds:
                    return proven
            proven, size = size, min(2 * size, most_rows)
    except Exception as error:  # whatever the model's code raises
        log.warning("%d rows together fail (%s): no batches", size, error)
        return 1
    return proven


def _predict_measured(
    predictor: Predictor, method: str, rows: Sequence[Any]
) -> tuple[list[Any], float]:
    """Return predictions and the seconds they take; waiting for a processor does not count."""
    start, cpu, waits = time.perf_counter(), time.thread_time(), _count_waits()
    predictions = predictor.predict(method, rows)
    taken = time.perf_counter() - start
    if waits is not None and waits == _count_waits():  # it has computed all the time
        taken = min(taken, time.thread_time() - cpu)
    return predictions, taken


def _count_waits() -> int | None:
    """Count how often this thread has waited for something but a processor; None if unknown."""
    own = getattr(resource, "RUSAGE_THREAD", None)  # of Linux alone
    return None if own is None else resource.getrusage(own).ru_nvcsw
