"""Large requests in process: a model without NumPy, and their steps one after the other."""

import time

from serving.interface import read_interface
from serving.large import LargeRequests
from serving.predictor import Predictor
from serving.requests import make_request_adapter
from serving.split import make_split_reader
from tests.code.serving.test_interface import bundle

MOST_ROWS = 5000


class Array(list):
    """A list that can be made one, as an array."""

    def tolist(self):
        return list(self)


class Model:
    """Answers each row by its first value, takes a while a row, and notes the rows of each call."""

    def __init__(self, seconds=0.0):
        self.calls = []
        self.seconds = seconds

    def predict(self, rows):
        if isinstance(rows, dict):
            first, *_ = rows.values()
        else:
            first = [next(iter(row.values())) if isinstance(row, dict) else row for row in rows]
        self.calls.append(len(first))
        end = time.thread_time() + self.seconds * len(first)
        while time.thread_time() < end:
            pass
        return Array(value[0] if isinstance(value, list) else value for value in first)


def make_large(monkeypatch, given, proven_rows=64, model=None):
    """Make the large requests of a kind of input, such as `frame(a="float64")`."""
    for name, build in (("frame", list), ("array", list), ("table", dict)):
        monkeypatch.setattr(f"serving.predictor.make_{name}_builder", lambda _, build=build: build)
    interface = read_interface(bundle(given))
    adapter = make_request_adapter(interface, MOST_ROWS)
    split = make_split_reader(interface, MOST_ROWS)
    predictor = Predictor(model or Model(), interface, adapter, MOST_ROWS, split)
    return LargeRequests(predictor, "predict", proven_rows, MOST_ROWS)


def finish(steps):
    """The number of steps and the answer."""
    count = 1
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return count, end.value
        count += 1
