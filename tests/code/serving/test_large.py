"""Large requests are read, predicted and answered in steps, as they would be at once."""

import asyncio
import itertools
import json
import threading
import time

import pytest

from serving import large, pieces
from serving.errors import RequestError
from serving.interface import read_interface
from serving.large import LargeRequests
from serving.pieces import LISTS, OBJECTS, VALUES, cut_rows
from serving.predictor import Predictor
from serving.requests import make_request_adapter
from serving.work import Workers
from tests.code.serving.test_interface import array, bundle, frame

MOST_ROWS = 5000
NASTY = ["},{", '"},{"', "],[", '],\n["', "\\", '\\"', ', "', "é😀", '{"data": [', ""]


@pytest.fixture(autouse=True)
def short_pieces(monkeypatch):
    monkeypatch.setattr(pieces, "PIECE_BYTES", 500)


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
        self.calls.append(len(rows))
        end = time.thread_time() + self.seconds * len(rows)
        while time.thread_time() < end:
            pass
        firsts = (next(iter(row.values())) if isinstance(row, dict) else row for row in rows)
        return Array(first[0] if isinstance(first, list) else first for first in firsts)


@pytest.fixture
def requests(monkeypatch):
    """Makes large requests of a kind of input: `requests(frame(a="float64"))`."""
    for name in ("frame", "array"):
        monkeypatch.setattr(f"serving.predictor.make_{name}_builder", lambda _: list)

    def make(given, proven_rows=64, model=None):
        interface = read_interface(bundle(given))
        adapter = make_request_adapter(interface, MOST_ROWS)
        predictor = Predictor(model or Model(), interface, adapter, MOST_ROWS)
        return LargeRequests(predictor, "predict", proven_rows, MOST_ROWS)

    return make


def finish(steps):
    """The number of steps and the answer."""
    count = 1
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return count, end.value
        count += 1


def write(rows, **options):
    return json.dumps({"data": {"values": rows}}, **options).encode()


def refusal(requests, body):
    with pytest.raises(RequestError) as caught:
        finish(requests.answer(body))
    return caught.value


@pytest.mark.parametrize("options", [{}, {"indent": 1}, {"separators": (",", ":")}])
@pytest.mark.parametrize(
    ("frame", "wrap", "row"),
    [
        (OBJECTS, lambda rows: {"data": {"values": rows}}, lambda n: {"a": n, "b": "x" * (n % 7)}),
        (LISTS, lambda rows: {"data": rows}, lambda n: [n, -n]),
        (VALUES, lambda rows: {"data": rows}, lambda n: n),
    ],
)
def test_request_is_cut_between_rows(frame, wrap, row, options):
    rows = [row(number) for number in range(1000)]
    cut = [
        json.loads(piece) for piece in cut_rows(json.dumps(wrap(rows), **options).encode(), frame)
    ]
    joined = [part["data"]["values"] if frame is OBJECTS else part["data"] for part in cut]
    assert [*itertools.chain(*joined)] == rows
    assert len(cut) > 5
    assert max(map(len, joined)) < 300


def test_steps_are_short_and_the_answer_is_that_of_all_rows(requests):
    model = Model(seconds=50e-6)
    steps, answer = finish(
        requests(frame(a="float64"), model=model).answer(write([{"a": n / 2} for n in range(3000)]))
    )
    assert json.loads(answer.body) == [n / 2 for n in range(3000)]
    assert answer.rows == sum(model.calls) == 3000
    assert steps > len(model.calls) > 10
    assert max(model.calls) < 2.5 * large.CHUNK_SECONDS / model.seconds
    assert max(model.calls) > 64  # they grow


def test_model_whose_rows_are_not_independent_gets_all_at_once(requests):
    model = Model()
    _, answer = finish(
        requests(frame(a="int64"), 1, model).answer(write([{"a": n} for n in range(2000)]))
    )
    assert model.calls == [2000]
    assert json.loads(answer.body) == [*range(2000)]


@pytest.mark.parametrize("nasty", NASTY)
def test_texts_that_look_like_the_end_of_a_row_change_nothing(requests, nasty):
    rows = [{"a": f"{nasty}{number}{nasty}"} for number in range(300)]
    for options in ({}, {"ensure_ascii": False}):
        _, answer = finish(requests(frame(a="object")).answer(write(rows, **options)))
        assert json.loads(answer.body) == [row["a"] for row in rows]
    flat = [row["a"] for row in rows]
    body = json.dumps({"data": flat}).encode()
    assert json.loads(finish(requests(array(None, dtype="str8")).answer(body))[1].body) == flat


@pytest.mark.parametrize("place", [0, 999])
def test_problem_names_its_row_of_the_whole_request(requests, place):
    rows = [{"a": 1.0} for _ in range(1000)]
    rows[place] = {"a": "x"}
    problem = refusal(requests(frame(a="float64")), write(rows))
    assert (problem.status, str(problem)) == (
        422,
        f"Row {place + 1}, column 'a': must be a number.",
    )
    assert problem.detail[0]["loc"] == ["body", "data", "values", place, "a"]
    rows[place] = {"b": 1.0}
    assert str(refusal(requests(frame(a="float64")), write(rows))).startswith(f"Row {place + 1}: ")


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        (lambda body: body[:-30], 400, "The body is not valid JSON (line 1 column 6882)."),
        (lambda body: body.replace(b"7.0}", b"7.0]"), 400, "The body is not valid JSON (line 1"),
        (lambda body: body[:-1] + b', "x": 1}', 422, "The body must be"),
        (lambda body: body[:-2] + b', "values": []}}', 422, "The list of rows is empty"),
        (lambda body: body.replace(b"[", b"[" + b'{"a": 1},' * MOST_ROWS, 1), 413, "Too many rows"),
        (lambda body: body + b" " * 300 + b"]", 400, "The body is not valid JSON"),
    ],
)  # fmt: skip
def test_refusals_are_those_of_the_whole_request(requests, change, status, message):
    body = change(write([{"a": float(number)} for number in range(500)]))
    problem = refusal(requests(frame(a="float64")), body)
    assert problem.status == status
    assert str(problem).startswith(message)


async def test_loop_has_a_turn_between_steps():
    """A large request holds the interpreter in each step; the loop waits for one of them only."""
    turns, workers, is_over = [], Workers(1, 1), threading.Event()

    def spin():
        for _ in range(20):
            sum(range(200_000))  # lets no other thread run
            turns.append("step")
            yield
        is_over.set()

    async def look():
        while not is_over.is_set():
            turns.append("loop")
            await asyncio.sleep(0)

    await asyncio.gather(workers.run(spin()), look())
    workers.close()
    text = "".join("s" if turn == "step" else "l" for turn in turns)
    assert "sss" not in text


async def test_request_that_fails_in_a_later_step_frees_its_room():
    workers = Workers(1, 0)

    def fail():
        yield
        raise ValueError("13")

    for _ in range(3):
        with pytest.raises(ValueError, match="13"):
            await workers.run(fail())
        await asyncio.sleep(0)
    workers.close()
