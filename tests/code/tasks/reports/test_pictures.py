"""Pictures drawn from predictions: what they are made from, and what they show."""

from __future__ import annotations

import base64
import random
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.core.errors import TerminalError
from tasks.core.settings import CHECKOUT
from tasks.reports.pictures import (
    align,
    as_data_uri,
    draw_intervals,
    draw_metrics,
    draw_predictions,
    parse_points,
    template_of,
    thin,
)
from tasks.training.evidence import Comparison
from tasks.training.findings import Finding

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CLASSES = [{"actual": label, "predicted": label} for label in ("red", "white") for _ in range(5)]
_NUMBERS = [{"actual": str(value), "predicted": str(value * 1.1)} for value in range(40)]


def _width(png: bytes) -> int:
    assert png.startswith(_SIGNATURE)
    return int(struct.unpack(">I", png[16:20])[0])


@pytest.mark.parametrize(
    ("task", "points"), [("classification", _CLASSES), ("regression", _NUMBERS)]
)
def test_picture_of_each_task_shows_the_points(task: str, points: list[dict[str, str]]) -> None:
    template = template_of(CHECKOUT, task)
    drawn = draw_predictions({"wine@1234567": points}, template)
    assert _width(drawn) > 300
    assert draw_predictions({"wine@1234567": points}, template) == drawn
    changed = [*points[:-1], {"actual": points[-1]["actual"], "predicted": points[0]["predicted"]}]
    assert draw_predictions({"wine@1234567": changed}, template) != drawn
    assert draw_predictions({"wine@7654321": points}, template) != drawn


def test_two_models_are_drawn_side_by_side() -> None:
    template = template_of(CHECKOUT, "classification")
    single = draw_predictions({"main": _CLASSES}, template)
    both = draw_predictions({"main": _CLASSES, "candidate": _CLASSES[:7]}, template)
    assert _width(both) > 1.5 * _width(single)


def test_metrics_of_any_magnitude_are_drawn_as_bars() -> None:
    template = template_of(CHECKOUT, "metrics")
    old, new = {"mae": 41.3, "r2": -0.4}, {"mae": 40.3, "r2": 0.45}
    drawn = draw_metrics({"champion": old, "wine@1234567": new}, template)
    assert _width(drawn) > 300
    assert draw_metrics({"champion": old, "wine@1234567": old}, template) != drawn
    assert _width(draw_metrics({"wine@1234567": new}, template)) > 300


def test_picture_of_very_many_rows_stays_small() -> None:
    rows = random.Random(1)
    points = [
        {"actual": str(value := rows.gauss(0, 1)), "predicted": str(value + rows.gauss(0, 0.3))}
        for _ in range(20_000)
    ]
    assert len(draw_predictions({"big": points}, template_of(CHECKOUT, "regression"))) < 500_000


@pytest.mark.parametrize("content", [None, "{}", '{"data": {"values": "<DVC_METRIC_DATA>"}}', "{"])
def test_invalid_template_is_named(tmp_path: Path, content: str | None) -> None:
    template = tmp_path / "classification.json"
    if content is not None:
        template.write_text(content)
    with pytest.raises(TerminalError, match=r"cannot draw classification\.json"):
        draw_predictions({"main": _CLASSES}, template)


def _height(png: bytes) -> int:
    return int(struct.unpack(">I", png[20:24])[0])


def test_matrix_is_square_though_a_class_is_never_predicted() -> None:
    template = template_of(CHECKOUT, "classification")
    rows = [{"actual": label, "predicted": "10"} for label in ("9", "10", "11", "12")]
    every = [{"actual": label, "predicted": label} for label in ("9", "10", "11", "12")]
    sizes = [
        (_width(drawn), _height(drawn))
        for points in (rows, every)
        if (drawn := draw_predictions({"wine@1234567": points}, template))
    ]
    assert abs(sizes[0][0] - sizes[1][0]) < 20, "both have the same columns"
    specification = {
        "data": {"values": rows},
        "encoding": {
            "x": {"field": "predicted", "type": "nominal"},
            "y": {"field": "actual", "type": "nominal"},
        },
    }
    axes = align(specification)["encoding"]
    assert axes["x"]["scale"] == axes["y"]["scale"] == {"domain": ["9", "10", "11", "12"]}


def test_points_have_a_diagonal_and_the_same_scale_on_both_axes() -> None:
    axis = {"type": "quantitative"}
    aligned = align(
        {
            "data": {"values": [{"actual": "105", "predicted": 120.5}]},
            "mark": "point",
            "encoding": {"x": {"field": "predicted", **axis}, "y": {"field": "actual", **axis}},
        }
    )
    diagonal, points = aligned["layer"]
    assert [end["actual"] for end in diagonal["data"]["values"]] == [105, 120.5]
    assert points["encoding"]["x"]["scale"] == points["encoding"]["y"]["scale"]
    assert points["encoding"]["x"]["scale"]["domain"] == [105, 120.5]


def test_intervals_of_a_verdict_are_drawn() -> None:
    known = Comparison(-0.05, (-0.08, -0.02), 200, 20)
    findings = [
        Finding("f1_macro", "worse", 0.01, known),
        Finding("log_loss", "inconclusive", 0.01, Comparison(0.01, None, 200, 3)),
    ]
    drawn = draw_intervals(findings)
    assert _width(drawn) > 400
    assert draw_intervals([*findings, *findings[:1]]) != drawn


def test_points_are_parsed() -> None:
    assert parse_points("") == []
    text = 'actual,predicted,probability_c\n"a, b",c,0.9\n'
    assert parse_points(text) == [{"actual": "a, b", "predicted": "c"}]


def test_uri_contains_the_picture() -> None:
    head, _, body = as_data_uri(b"abc").partition(",")
    assert (head, base64.b64decode(body)) == ("data:image/png;base64", b"abc")


def test_drawing_needs_neither_prefect_nor_dvc() -> None:
    code = (
        "import sys\nfrom tasks.reports.pictures import draw_predictions, template_of\n"
        "from pathlib import Path\n"
        "draw_predictions({'a': [{'actual': 'x', 'predicted': 'x'}]},"
        " template_of(Path(), 'classification'))\n"
        "print(sorted({'prefect', 'dvc', 'numpy'} & set(sys.modules)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "[]"


@pytest.mark.parametrize("rows", [0, 1, 5_000, 5_001, 1_000_000])
def test_cloud_of_many_points_is_thinned(rows: int) -> None:
    points = [{"actual": "1"}] * rows
    assert min(rows, 2_500) < len(thin(points)) + 1 <= 5_001
