"""From MLEM's metadata to typed columns and a strict validator."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from serving.bundle import Bundle, BundleError
from serving.errors import explain
from serving.interface import Kind, estimate_row_bytes, read_interface
from serving.requests import make_request_adapter
from serving.settings import Limits, SettingError


def bundle(given, inputs=(), nullable=None, returns=None):
    method = {
        "name": "predict",
        "args": [{"name": "X", "type_": given}],
        "returns": returns or {"type": "ndarray", "dtype": "int64", "shape": [None]},
    }
    return Bundle(
        folder=Path("none"),
        name="m",
        mlem={
            "processors": {"model": {"type": "sklearn", "methods": {"predict": method}}},
            "call_orders": {"predict": [["model", "predict"]]},
        },
        runtime={} if nullable is None else {"nullable": nullable},
        golden={"inputs": list(inputs)},
        release={},
    )


def frame(**dtypes):
    return {
        "type": "dataframe",
        "columns": list(dtypes),
        "dtypes": list(dtypes.values()),
        "index_cols": [],
    }


def array(*shape, dtype="float64"):
    return {"type": "ndarray", "shape": list(shape), "dtype": dtype}


def refuses(interface, value, name="a"):
    adapter = make_request_adapter(interface, 10)
    with pytest.raises(ValidationError) as caught:
        adapter.validate_python({"data": {"values": [{name: value}]}})
    return str(explain(caught.value, interface, 10))


@pytest.mark.parametrize(
    ("dtype", "values", "kind"),
    [
        ("float64", [], Kind.NUMBER),
        ("Float32", [], Kind.NUMBER),
        ("uint8", [], Kind.INTEGER),
        ("Int64", [], Kind.INTEGER),
        ("bool", [], Kind.BOOLEAN),
        ("boolean", [], Kind.BOOLEAN),
        ("datetime64[ns]", [], Kind.DATETIME),
        ("object", ["x", None], Kind.TEXT),
        ("object", [True, None], Kind.BOOLEAN),
        ("category", [1, 2], Kind.INTEGER),
        ("category", [1, 2.5], Kind.NUMBER),
        ("category", ["x"], Kind.TEXT),
        ("object", [1, "x"], Kind.TEXT),
        ("str", ["x"], Kind.TEXT),
        ("string", [], Kind.TEXT),
    ],
)
def test_kinds_of_columns_follow_types_and_golden_inputs(dtype, values, kind):
    interface = read_interface(bundle(frame(a=dtype), [{"a": value} for value in values]))
    assert interface.columns[0].kind is kind


@pytest.mark.parametrize("dtype", ["complex128", "timedelta64[ns]", "period[D]", "interval"])
def test_types_that_json_lacks_are_refused(dtype):
    with pytest.raises(BundleError, match=r"column 'a' has dtype .*, which JSON cannot carry"):
        read_interface(bundle(frame(a=dtype)))


def test_nullable_columns_are_recorded_or_inferred():
    given, inputs = frame(a="float64", b="float64"), [{"a": None, "b": 1.0}]
    seen = read_interface(bundle(given, inputs))
    assert [column.nullable for column in seen.columns] == [True, False]
    recorded = read_interface(bundle(given, inputs, nullable=["b"]))
    assert [column.nullable for column in recorded.columns] == [False, True]


@pytest.mark.parametrize(
    ("dtype", "good", "bad"),
    [
        ("uint8", [0, 255], [-1, 256]),
        ("int8", [-128, 127], [-129, 128]),
        ("uint64", [2**64 - 1], [2**64]),
        ("float32", [3.4e38, 1], [1e39]),
        ("float16", [65504], [65505]),
    ],
)
def test_ranges_of_small_types(dtype, good, bad):
    interface = read_interface(bundle(frame(a=dtype)))
    adapter = make_request_adapter(interface, 10)
    for value in good:
        adapter.validate_python({"data": {"values": [{"a": value}]}})
    for value in bad:
        assert f"column 'a': must be within the range of {dtype}" in refuses(interface, value)


def test_integer_labels_are_text_in_json():
    given = {"type": "dataframe", "columns": [0, 1], "dtypes": ["float64"] * 2, "index_cols": []}
    interface = read_interface(bundle(given))
    assert [(c.name, c.label) for c in interface.columns] == [("0", 0), ("1", 1)]


def test_interface_of_arrays():
    wide = read_interface(bundle(array(None, 3), [[1.0, 2.0, 3.0]]))
    assert wide.wrap([{"a": 1, "b": 2, "c": 3}]) == {"data": [[1, 2, 3]]}
    texts = read_interface(bundle(array(None, dtype="object"), ["good", "bad"]))
    assert texts.flat
    assert texts.columns[0].kind is Kind.TEXT
    assert texts.wrap(["good"]) == {"data": ["good"]}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"type": "list"}, "takes 'list'; only a pandas DataFrame or a NumPy array"),
        ({"type": "unspecified"}, "takes 'unspecified'"),
        (array(None, 2, 2), "a list of rows is needed"),
        (array(None, None), "a list of rows is needed"),
    ],
)
def test_inputs_other_than_rows_are_refused(given, sentence):
    with pytest.raises(BundleError, match=sentence):
        read_interface(bundle(given))


def test_outputs_other_than_arrays_are_refused():
    returns = {"type": "dataframe", "columns": ["y"], "dtypes": ["float64"], "index_cols": []}
    with pytest.raises(BundleError, match="returns 'dataframe'; only arrays are served"):
        read_interface(bundle(frame(a="float64"), returns=returns))


def test_model_without_methods_is_refused():
    empty = bundle(frame(a="float64"))
    empty.mlem["call_orders"] = {}
    with pytest.raises(BundleError, match="has no methods"):
        read_interface(empty)


def test_mlem_can_read_the_type_of_text():
    returns = {"type": "ndarray", "dtype": "str96", "shape": [None]}
    interface = read_interface(bundle(frame(a="float64"), returns=returns))
    description = interface.mlem["methods"]["predict"]["returns"]["data_type"]
    assert description == {"type": "ndarray", "dtype": "U", "shape": [None]}


def test_estimate_is_an_upper_bound_of_a_row():
    interface = read_interface(bundle(frame(a="float64", é="int64", c="bool")))
    longest = '{"a": -1.2345678901234567e-300, "é": -9223372036854775808, "c": false}, '
    assert estimate_row_bytes(interface) >= len(longest.encode())


def test_limits_come_from_the_environment():
    limits = Limits.from_environment({"SLIPWAY_SERVING_MAX_ROWS": "5", "OTHER": "x"})
    assert limits.max_rows == 5
    assert limits.threads == Limits().threads


@pytest.mark.parametrize(
    ("name", "value"),
    [("MAX_ROWS", "0"), ("MAX_ROWS", "many"), ("BODY_SECONDS", "-1"), ("BODY_SECONDS", "nan"),
     ("THREADS", "1.5"), ("MAX_ROW", "5"), ("CORS_ORIGINS", "https://a.example/path"),
     ("CORS_ORIGINS", "a.example"), ("REPORT_URL", "javascript:alert(1)")],
)  # fmt: skip
def test_misspelt_or_impossible_limit_is_refused(name, value):
    with pytest.raises(SettingError, match=f"SLIPWAY_SERVING_{name}"):
        Limits.from_environment({f"SLIPWAY_SERVING_{name}": value})


def test_whole_number_may_have_a_point():
    interface = read_interface(bundle(frame(a="int64")))
    adapter = make_request_adapter(interface, 10)
    body = b'{"data": {"values": [{"a": 10.0}, {"a": -3}, {"a": 9007199254740992.0}]}}'
    rows = interface.unwrap(adapter.validate_json(body))
    assert list(map(repr, (row["a"] for row in rows))) == ["10", "-3", str(2**53)]
    message = "Row 1, column 'a': must be a whole number."
    assert refuses(interface, 10.5) == refuses(interface, "10") == message
    assert refuses(interface, True) == refuses(interface, float("nan")) == message
    assert "range of int64" in refuses(interface, 2**63)
    assert refuses(interface, 2.0**63) == message
    schema = adapter.json_schema()["$defs"]["Row"]["properties"]["a"]
    assert {key: schema[key] for key in ("type", "minimum")} == {
        "type": "integer", "minimum": -(2**63),
    }  # fmt: skip


def test_names_of_digits_are_text_where_the_model_was_fitted_on_text():
    schema = {**frame(y="float64"), "columns": [1, "y"], "dtypes": ["float64", "float64"]}
    assert [column.label for column in read_interface(bundle(schema)).columns] == ["1", "y"]
    numbers = {**schema, "columns": [1, 2]}
    assert [column.label for column in read_interface(bundle(numbers)).columns] == [1, 2]
    known = bundle(numbers)
    known.runtime["columns"] = {"01": "number", "2": "number"}
    assert [column.label for column in read_interface(known).columns] == ["01", "2"]


def test_words_of_a_column_stand_for_a_missing_text():
    known = bundle(frame(a="object"), [{"a": "x"}], nullable=["a"])
    known.runtime |= {"columns": {"a": "text"}, "missing_words": {"a": ["unknown"]}}
    assert read_interface(known).columns[0].missing_words == {"unknown"}
