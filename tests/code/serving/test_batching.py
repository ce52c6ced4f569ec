"""Concurrent requests are predicted together: each gets what it would get alone."""

import asyncio
import contextlib
import gc
import http.client
import itertools
import json
import resource
import signal
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry, Histogram

from serving.batching import Batcher, predict_requests, prove_batch_rows
from serving.interface import read_interface
from serving.predictor import Predictor
from serving.requests import make_request_adapter
from serving.work import Workers
from tests.code.serving.test_interface import array, bundle

MOST = 8


class Model:
    """Doubles rows, refuses 13, and notes how many rows each call had."""

    def __init__(self):
        self.calls = []

    def predict(self, rows):
        self.calls.append(len(rows))
        if 13 in rows:
            raise ValueError("13")
        return [2 * row for row in rows]


def batcher(model, most_rows=MOST, **options):
    sizes = Histogram("sizes", "…", registry=CollectorRegistry())
    return Batcher(model.predict, most_rows, sizes, **options)


def step(function, *arguments):
    """A request that is answered in one step."""
    return function(*arguments)
    yield


def take(workers, predict):
    """A function that predicts on the threads of large requests."""
    return lambda rows: workers.run(step(predict, rows))


async def ask(batcher, *requests):
    return await asyncio.gather(*map(batcher.predict, requests), return_exceptions=True)


async def test_requests_that_have_arrived_are_predicted_together():
    model = Model()
    assert await ask(batcher(model), [1], [2, 3], [4]) == [[2], [4, 6], [8]]
    assert model.calls == [4]


async def test_lone_request_does_not_wait():
    model = Model()
    alone = batcher(model)
    assert [await alone.predict([row]) for row in (1, 2)] == [[2], [4]]
    assert model.calls == [1, 1]


async def test_batch_is_bounded_and_keeps_the_order():
    model = Model()
    requests = [[1] * 3, [2] * 4, [3] * 2, [4] * 20, [5]]
    answers = await ask(batcher(model), *requests)
    assert answers == [[2 * row for row in rows] for rows in requests]
    assert model.calls == [7, 2, 20, 1]


async def test_without_batches_each_request_is_predicted_alone():
    model = Model()
    assert await ask(batcher(model, most_rows=1), [1], [2, 3], [4]) == [[2], [4, 6], [8]]
    assert model.calls == [1, 2, 1]


async def test_error_is_of_its_request_alone():
    model = Model()
    *good, bad = await ask(batcher(model), [1], [2], [3], [4], [5], [6], [7], [13])
    assert good == [[2], [4], [6], [8], [10], [12], [14]]
    assert isinstance(bad, ValueError)
    assert model.calls == [8, 4, 4, 2, 2, 1, 1]


def test_wrong_number_of_predictions_is_not_shared_out():
    assert predict_requests(lambda rows: rows[:1], [[1], [2], [3, 4]]) == [[1], [2], [3]]


async def test_request_of_a_client_that_has_gone_is_left_out():
    model = Model()
    batches = batcher(model)
    gone = asyncio.create_task(batches.predict([1]))
    stays = asyncio.create_task(batches.predict([2]))
    await asyncio.sleep(0)
    gone.cancel()
    assert await stays == [4]
    assert model.calls == [1]


async def test_slow_model_predicts_on_threads_what_arrives_meanwhile():
    model, go = Model(), threading.Event()
    calls = model.predict

    def wait_and_predict(rows):
        answer = calls(rows)
        go.wait(30)
        return answer

    model.predict = wait_and_predict
    with ThreadPoolExecutor(1) as pool:
        batches = batcher(model, pool=pool)
        first = asyncio.create_task(batches.predict([1]))
        while not model.calls:
            await asyncio.sleep(0.001)
        others = [asyncio.create_task(batches.predict([row])) for row in (2, 13, 3)]
        others[0].cancel()
        go.set()
        assert await first == [2]
        assert await others[2] == [6]
        with pytest.raises(ValueError, match="13"):
            await others[1]
    assert model.calls == [1, 2, 1, 1]


class Panic(BaseException):
    """As Rust code raises it: an error, and no Exception."""


@pytest.mark.parametrize("failure", [Panic, SystemExit, asyncio.CancelledError, StopIteration])
async def test_client_gets_an_answer_whatever_the_model_raises(failure, monkeypatch):
    def fail(_):
        raise failure

    monkeypatch.setattr("serving.predictor.make_array_builder", lambda _: list)
    interface = read_interface(bundle(array(None)))
    adapter = make_request_adapter(interface, 10)
    predictor = Predictor(SimpleNamespace(predict=fail), interface, adapter, 10)
    predict = partial(predictor.predict, "predict")
    model = SimpleNamespace(predict=predict)
    with ThreadPoolExecutor(1) as pool:
        batchers = batcher(model), batcher(model, pool=pool)
        workers = Workers(1, 1)
        for run in (batchers[0].predict, batchers[1].predict, take(workers, predict)):
            answers = await asyncio.wait_for(ask(SimpleNamespace(predict=run), [1], [2]), 5)
            assert [type(answer) for answer in answers] == [RuntimeError] * 2
            assert failure.__name__ in str(answers[0])
    workers.close()


async def test_request_that_cannot_be_joined_with_others_is_answered():
    class Broken(list):
        def __iter__(self):
            raise MemoryError

    model = Model()
    answers = await asyncio.wait_for(ask(batcher(model), [1], Broken([2])), 5)
    assert answers[0] == [2]


class Rows(list):
    """Rows of which is known when nobody holds them any more."""


async def test_rows_of_a_request_that_failed_are_freed_at_once():
    """Not with the next collection of garbage: there are few of them in a server."""
    model, workers = Model(), Workers(1, 1)
    with ThreadPoolExecutor(1) as pool:
        batchers = batcher(model), batcher(model, pool=pool)
        large = take(workers, model.predict)
        gc.disable()
        try:
            for run in (batchers[0].predict, batchers[1].predict, large):
                rows = Rows([13])
                is_held = weakref.ref(rows)
                with contextlib.suppress(ValueError):
                    await run(rows)
                del rows
                deadline = time.monotonic() + 5  # the thread has to let go of them, too
                while is_held() is not None and time.monotonic() < deadline:
                    await asyncio.sleep(0.01)
                assert is_held() is None
        finally:
            gc.enable()
    workers.close()


class Golden:
    """A predictor of which every golden output is known."""

    def __init__(self, predict, seconds_a_row=0.0):
        self.predict = predict
        self.seconds_a_row = seconds_a_row
        self.interface = type("Interface", (), {"methods": ("predict",)})

    def golden_rows(self, rows):
        return list(rows)

    def prove(self, most_rows=64, seconds=30.0, rows=range(20)):
        inputs = [float(number) for number in rows]
        golden = {"inputs": inputs, "outputs": {"predict": [2 * row for row in inputs]}}
        return prove_batch_rows(self, golden, most_rows, seconds)


def double(_, rows):
    return [2 * row for row in rows]


@pytest.mark.parametrize(("most", "proven"), [(64, 64), (50, 50), (3, 3), (1, 1)])
def test_batches_are_proven_up_to_the_setting(most, proven):
    assert Golden(double).prove(most) == proven


def depend_on_the_batch(_, rows):
    return [2 * row + (len(rows) > 30) for row in rows]


def depend_on_the_place(_, rows):
    return [2 * max(rows[: place + 1]) for place in range(len(rows))]


def fail_for_many(_, rows):
    if len(rows) > 16:
        raise RuntimeError("too many")
    return double(_, rows)


def depend_on_the_neighbours(_, rows):
    return [row + sum(rows) / len(rows) for row in rows]


def test_equal_golden_rows_prove_no_batch(caplog):
    assert Golden(depend_on_the_neighbours).prove(rows=[3] * 20) == 1
    assert "no batches" in caplog.text


@pytest.mark.parametrize("predict", [depend_on_the_batch, depend_on_the_place, fail_for_many])
def test_model_that_depends_on_the_batch_is_not_batched(predict, caplog):
    assert Golden(predict).prove() == 1
    assert "no batches" in caplog.text


def test_batch_that_takes_long_is_not_made():
    def sleep(_, rows):
        time.sleep(0.002 * len(rows))
        return double(_, rows)

    assert Golden(sleep, seconds_a_row=0.005).prove(seconds=0.005) == 4


@pytest.mark.skipif(not hasattr(resource, "RUSAGE_THREAD"), reason="only Linux tells waits apart")
def test_wait_for_a_processor_is_not_held_against_a_batch(monkeypatch):
    seconds = itertools.count()
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(seconds)))
    assert Golden(double).prove(seconds=0.5) == 64


def test_server_batches_and_keeps_errors_apart(served):
    moody = served("moody")
    clients = [http.client.HTTPConnection("127.0.0.1", moody.port, timeout=30) for _ in range(8)]

    def ask(client, path, first=None):
        row = {"first": float(first or 0), "second": 1.0}
        body = json.dumps({"data": {"values": [row]}})
        method = "GET" if first is None else "POST"
        client.request(method, path, body, {"Content-Type": "application/json"})

    def read(client):
        answer = client.getresponse()
        return answer.status, answer.read().decode()

    def count(name):
        ask(clients[0], "/metrics")
        lines = read(clients[0])[1].splitlines()
        (line,) = [line for line in lines if line.startswith(f"slipway_serving_{name} ")]
        return float(line.split()[1])

    alone = []
    for number, client in enumerate(clients):
        ask(client, "/predict", number)
        alone.append(read(client))
    assert count("batch_most_rows") > 1
    batches, requests = count("batch_requests_count"), count("batch_requests_sum")
    moody.process.send_signal(signal.SIGSTOP)  # so that all have arrived when it goes on
    for number, client in enumerate(clients):
        ask(client, "/predict", number if number != 5 else 666)
    moody.process.send_signal(signal.SIGCONT)
    together = [read(client) for client in clients]
    status, answer = together[5]
    assert (status, "reference" in answer) == (500, True)
    assert together[:5] + together[6:] == alone[:5] + alone[6:]
    assert count("batch_requests_sum") - requests == 8
    assert count("batch_requests_count") - batches <= 2
    for client in clients:
        client.close()
