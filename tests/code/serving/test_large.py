"""Large requests are read, predicted and answered in steps, as they would be at once."""

import asyncio
import itertools
import json
import threading
from functools import partial

import pytest

from serving import large, pieces
from serving.errors import RequestError
from serving.pieces import LISTS, OBJECTS, VALUES, cut_rows
from serving.work import Workers
from tests.code.serving.large_requests import MOST_ROWS, Model, finish, make_large
from tests.code.serving.test_interface import array, frame

NASTY = ["},{", '"},{"', "],[", '],\n["', "\\", '\\"', ', "', "é😀", '{"data": [', ""]


@pytest.fixture(autouse=True)
def short_pieces(monkeypatch):
    monkeypatch.setattr(pieces, "PIECE_BYTES", 500)


@pytest.fixture
def requests(monkeypatch):
    return partial(make_large, monkeypatch)


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
    pieces = [*cut_rows(json.dumps(wrap(rows), **options).encode(), frame)]
    lists = [*map(json.loads, pieces)]
    assert [*itertools.chain(*lists)] == rows
    assert len(lists) > 5
    assert max(map(len, pieces)) < 700


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


SECOND = {"values": [{"a": 2.0}]}


@pytest.mark.parametrize("change", [', "d\\u0061ta": %s}', ', "data": %s}'])
def test_rows_that_are_given_twice_count_once(requests, change):
    """The last of two equal names counts, as for a small request."""
    body = write([{"a": 1.0}] * 500)[:-1] + (change % json.dumps(SECOND)).encode()
    assert json.loads(finish(requests(frame(a="float64")).answer(body))[1].body) == [2.0]
    body = write([{"a": 1.0}] * 500)[:-2] + b', "values": [{"a": 2.0}]}}'
    assert json.loads(finish(requests(frame(a="float64")).answer(body))[1].body) == [2.0]


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
