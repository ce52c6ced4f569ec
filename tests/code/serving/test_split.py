"""Requests that name their columns once: what they answer is what MLEM's form answers."""

import json
from types import SimpleNamespace

import httpx
import pytest

from serving import pieces
from serving.errors import RequestError
from tests.code.serving.large_requests import MOST_ROWS, Model, finish, make_large
from tests.code.serving.test_bad_input import CHANGES, SECRET
from tests.code.serving.test_interface import frame
from tests.code.serving.test_prediction_log import make_exchange, make_writer, write_lines

COLUMNS = {"b": "object", "a": "float64", "c": "int64"}
ROWS = [{"b": f"x{number}", "a": number / 2, "c": number} for number in range(2000)]


def split(rows, order=None, **more):
    order = order or [*rows[0]]
    return {"columns": order, **more, "data": [[row[name] for name in order] for row in rows]}


def answer(large, content, **options):
    return json.loads(finish(large.answer(json.dumps(content, **options).encode()))[1].body)


def refusal(large, content):
    with pytest.raises(RequestError) as caught:
        answer(large, content)
    return caught.value


@pytest.fixture
def large(monkeypatch):
    monkeypatch.setattr(pieces, "PIECE_BYTES", 500)
    return make_large(monkeypatch, frame(**COLUMNS))


@pytest.mark.parametrize(
    "content",
    [
        split(ROWS),
        split(ROWS, ["c", "b", "a"]),
        split(ROWS, index=[*range(2000)]),
        split(ROWS, index=['"data": [']),
        split(ROWS) | {"index": []},
        {"data": split(ROWS)["data"], "columns": [*COLUMNS]},
    ],
)
@pytest.mark.parametrize("piece_bytes", [500, 1 << 20])
def test_rows_are_read_by_column(monkeypatch, content, piece_bytes):
    monkeypatch.setattr(pieces, "PIECE_BYTES", piece_bytes)
    seen = []

    class Table(Model):
        def predict(self, columns):
            seen.append({name: [*values] for name, values in columns.items()})
            return super().predict(columns)

    large = make_large(monkeypatch, frame(**COLUMNS), model=Table())
    assert len(answer(large, content, indent=1)) == len(ROWS)
    joined = {name: [value for part in seen for value in part[name]] for name in COLUMNS}
    # Rows before an index are predicted again: it looks like a wrong cut.
    assert {name: values[-len(ROWS) :] for name, values in joined.items()} == {
        name: [row[name] for row in ROWS] for name in COLUMNS
    }


BODY = 'The body must be {"columns": [names]'
LIST = "must be a list of 3 values."
GOOD = [["x", 1.0, 2]] * 900


@pytest.mark.parametrize(
    ("change", "message", "place"),
    [
        ({"columns": ["b", "a"]}, "columns: column 'c' is missing.", ["columns", "c"]),
        ({"columns": ["b", "a", "c", "A"]}, "columns: unknown column 'A'", ["columns"]),
        ({"columns": ["a", "a", "c"]}, "columns: column 'a' is there twice.", ["columns", "a"]),
        ({"columns": ["b", "a", 1]}, BODY, ["columns", 2]),
        ({"columns": "bac"}, BODY, ["columns"]),
        ({"data": []}, "The list of rows is empty: give at least one.", ["data"]),
        ({"data": [*GOOD, ["x", 1.0]]}, f"Row 901: {LIST}", ["data", 900]),
        ({"data": [["x", 1.0, 2, 3]]}, f"Row 1: {LIST}", ["data", 0]),
        ({"data": [*GOOD, ["x", 1.0, 2.5]]}, "Row 901, column 'c': must be", ["data", 900, "c"]),
        ({"data": [["x", float("nan"), 2]]}, "Row 1, column 'a': must be", ["data", 0, "a"]),
        ({"data": [{"b": "x"}]}, f"Row 1: {LIST}", ["data", 0]),
        ({"data": {"a": [1]}}, BODY, ["data"]),
        ({"data": [[]], "more": 1}, f"Row 1: {LIST}", ["data", 0]),
        ({"more": 1}, BODY, ["more"]),
        ({"data": GOOD[:1] * (MOST_ROWS + 1)}, "Too many rows: at most 5000 a request.", []),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(large, change, message, place):
    problem = refusal(large, split(ROWS[:1]) | change)
    assert str(problem).startswith(message)
    known = [word for word in place if word != "more"]  # the client's own word is not repeated
    assert problem.detail[0]["loc"] == ["body", *known]
    assert problem.status == (413 if "Too many" in message else 422)


def test_columns_that_are_named_twice_are_refused(large):
    body = json.dumps(split(ROWS)).encode()[:-1] + b', "columns": ["a", "b", "c"]}'
    with pytest.raises(RequestError, match="columns: are there twice"):
        finish(large.answer(body))


@pytest.mark.parametrize("name", ["wine", "mixed"])
def test_both_forms_get_the_same_answer(served, golden, name):
    rows = golden(name)["inputs"]
    for some in (rows[:1], rows * 40):
        first, second = (
            served(name).post("/predict", body)
            for body in ({"data": {"values": some}}, split(some, [*rows[0]][::-1], index=[1]))
        )
        assert (first.status_code, second.status_code) == (200, 200)
        assert second.json() == first.json()
        header = "slipway-unseen-categories"
        assert second.headers.get(header) == first.headers.get(header)


def test_values_of_each_kind_are_checked_as_in_the_other_form(served, golden):
    row = golden("wine")["inputs"][0]
    for change, message in CHANGES.values():
        changed = change(row)
        if isinstance(changed, dict):
            content = json.dumps(split([changed])).encode()
            url, headers = f"{served('wine').url}/predict", {"Content-Type": "application/json"}
            refused = httpx.post(url, content=content, headers=headers)
            assert refused.status_code == 422
            assert message.replace("Row 1: ", "") in refused.json()["error"]
            assert SECRET not in refused.text


def test_docs_describe_both_forms(served, golden):
    description = httpx.get(f"{served('wine').url}/openapi.json").json()
    (example,) = description["components"]["schemas"]["SplitRequest"]["examples"]
    assert (
        served("wine").post("/predict", example).json() == golden("wine")["outputs"]["predict"][:1]
    )
    array = httpx.get(f"{served('array').url}/openapi.json").json()
    assert "SplitRequest" not in array["components"]["schemas"]


@pytest.mark.parametrize("piece_bytes", [40, 1 << 20])
def test_record_of_the_prediction_log_is_that_of_the_other_form(monkeypatch, piece_bytes):
    monkeypatch.setattr(pieces, "PIECE_BYTES", piece_bytes)
    rows = [{"ash": number, "name": f"Ada, [{number}]"} for number in range(30)]

    def read(content, *private):
        writer = make_writer(*private, unwrap=unwrap)
        (line,) = write_lines(writer, make_exchange(json.dumps(content)))
        return json.loads(line)["data"]["inputs"]

    def unwrap(content):
        values = SimpleNamespace(**content).data
        names = content.get("columns")
        return [dict(zip(names, row, strict=True)) for row in values] if names else values["values"]

    named = {"data": {"values": rows}}
    for private in ([], [("name",)], [("name",), b"key"]):
        assert read(split(rows, ["name", "ash"], index=[0]), *private) == read(named, *private)
