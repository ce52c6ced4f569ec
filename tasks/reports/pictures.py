"""Pictures of predictions and metrics, drawn from the reports of a model without a browser.

The templates are those of `dvc plots show` (`.dvc/plots/`), filled by DVC's own renderer. Neither
Prefect nor DVC itself is imported: a pull request's report draws the same pictures as a flow.
"""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from tasks.core.errors import TerminalError
from tasks.training.findings import Finding

Points = Sequence[Mapping[str, str]]

_TEMPLATES = Path(".dvc/plots")
_VEGA_LITE = "5.21"  # the newest that the templates' `$schema` allows
_COLOURS = {
    "better": "seagreen", "no worse": "steelblue", "inconclusive": "darkorange", "worse": "crimson"
}  # fmt: skip
# A cloud of more looks the same, and takes 0.1 s and 6 MB for each thousand.
_MOST_POINTS = 5_000
_SCALE = 1.5  # sharp on a dense screen, and still about 40 kB


def parse_points(text: str) -> Points:
    """Parse predictions: one `{"actual": …, "predicted": …}` per row; none of an empty text."""
    rows = csv.DictReader(io.StringIO(text, newline=""))
    # Probabilities are left out, of which there may be a hundred a row.
    return [{name: row[name] for name in ("actual", "predicted") if name in row} for row in rows]


def thin(points: Points) -> Points:
    """Return an even share of the rows for a cloud of points, if there are many."""
    return points[:: -(-len(points) // _MOST_POINTS) or 1]


def draw_predictions(points: Mapping[str, Points], template: Path, title: str = "") -> bytes:
    """Draw predicted against actual: a confusion matrix, or a cloud of points.

    Args:
        points: Rows as of `parse_points`, by the name of the model; those of several models are
            drawn side by side (matrices) or over each other (points, a colour each).
        template: The Vega-Lite template, see `template_of`.
        title: Title of the picture.

    Returns:
        A PNG.

    Raises:
        TerminalError: The template is missing or invalid.
    """
    rows = [{**row, "rev": name} for name, model in points.items() for row in model]
    return _fill_and_draw(rows, template, x="predicted", y="actual", title=title)


def draw_metrics(metrics: Mapping[str, Mapping[str, float]], template: Path) -> bytes:
    """Draw metrics as bars, those of several models beneath each other.

    Args:
        metrics: Metrics by the name of the model.
        template: The Vega-Lite template, see `template_of`.

    Returns:
        A PNG.

    Raises:
        TerminalError: The template is missing or invalid.
    """
    rows = [
        {"metric": metric, "value": value, "rev": name}
        for name, values in metrics.items()
        for metric, value in values.items()
    ]
    return _fill_and_draw(rows, template, x="value", y="metric", title="")


def _fill_and_draw(
    rows: Sequence[Mapping[str, Any]], template: Path, *, x: str, y: str, title: str
) -> bytes:
    from dvc_render.exceptions import DvcRenderError
    from dvc_render.vega import VegaRenderer

    try:
        filled = VegaRenderer(
            list(rows),
            template.stem,
            template=str(template.resolve()),
            x=x,
            y=y,
            title=title,
            revs_with_datapoints=list(dict.fromkeys(row["rev"] for row in rows)),
        ).get_filled_template()
        return draw(filled)
    except (DvcRenderError, ValueError) as error:
        raise TerminalError(
            f"cannot draw {template.name}: {error}",
            state="nothing else is affected: it is a picture",
            next_step=f"run `dvc plots show`, and correct .dvc/plots/{template.name}",
        ) from error


def draw_intervals(findings: Sequence[Finding]) -> bytes:
    """Draw the gain of a candidate by each rule, with its interval and the loss that is accepted.

    Args:
        findings: The comparisons of a verdict; those without an interval are points.

    Returns:
        A PNG.
    """
    rows = [
        {
            "rule": finding.metric,
            "gain": finding.comparison.gain,
            "lower": (finding.comparison.interval or (None, None))[0],
            "upper": (finding.comparison.interval or (None, None))[1],
            "accepted": -finding.accepted,
            "verdict": finding.word,
        }
        for finding in findings
    ]
    y = {"field": "rule", "type": "nominal", "sort": None, "title": None}
    x = {
        "type": "quantitative",
        "scale": {"padding": 12},
        "title": "gain over the champion with its 95 % interval; red: the loss that is accepted",
    }
    colour = {
        "field": "verdict",
        "type": "nominal",
        "title": None,
        "scale": {"domain": list(_COLOURS), "range": list(_COLOURS.values())},
    }
    zero = {
        "data": {"values": [{"zero": 0}]},
        "mark": {"type": "rule", "strokeDash": [4, 4], "color": "gray"},
        "encoding": {"x": {"field": "zero", "type": "quantitative"}},
    }
    limit = {
        "mark": {"type": "tick", "color": "crimson"},
        "encoding": {"y": y, "x": {"field": "accepted", **x}},
    }
    interval = {
        "mark": {"type": "rule", "strokeWidth": 3},
        "transform": [{"filter": "isValid(datum.lower)"}],
        "encoding": {
            "y": y, "x": {"field": "lower", **x}, "x2": {"field": "upper"}, "color": colour
        },
    }  # fmt: skip
    point = {
        "mark": {"type": "point", "filled": True, "size": 80},
        "encoding": {"y": y, "x": {"field": "gain", **x}, "color": colour},
    }
    return draw(
        {
            "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
            "data": {"values": rows},
            "width": 420,
            "height": {"step": 26},
            "layer": [zero, limit, interval, point],
        }
    )


def align(specification: dict[str, Any]) -> dict[str, Any]:
    """Give both axes of predicted against actual the same scale, and points a diagonal.

    A confusion matrix is square then, also where no row was predicted to be of some class; matrices
    beside each other have the same classes.
    """
    inner = specification.get("spec", specification)
    encoding = inner.get("encoding", {})
    x, y = encoding.get("x", {}), encoding.get("y", {})
    rows = specification.get("data", {}).get("values", [])
    if not rows or x.get("field") != "predicted" or y.get("field") != "actual":
        return specification
    values = [row[name] for row in rows for name in ("actual", "predicted")]
    if x.get("type") == "nominal":
        domain = sorted(set(map(str, values)), key=_order)
        scaled = {
            axis: {**encoding[axis], "sort": None, "scale": {"domain": domain}} for axis in "xy"
        }
        aligned = {**inner, "encoding": {**encoding, **scaled}}
        return {**specification, "spec": aligned} if "spec" in specification else aligned
    numbers = [number for value in values if isfinite(number := float(value))]
    domain_of_both = [min(numbers), max(numbers)]
    scaled = {
        axis: {**encoding[axis], "scale": {"domain": domain_of_both, "nice": True, "zero": False}}
        for axis in "xy"
    }
    points = {key: inner[key] for key in ("mark", "transform", "params") if key in inner} | {
        "encoding": {**encoding, **scaled}
    }
    ends = [{"predicted": value, "actual": value} for value in domain_of_both]
    diagonal = {
        "data": {"values": ends},
        "mark": {"type": "line", "strokeDash": [4, 4], "color": "gray"},
        "encoding": {
            axis: {"field": scaled[axis]["field"], "type": "quantitative"} for axis in "xy"
        },
    }
    around = {key: value for key, value in inner.items() if key not in (*points, "encoding")}
    return {**around, "layer": [diagonal, points]}


def _order(label: str) -> tuple[int, float, str]:
    """Sort numbers by value, before texts."""
    try:
        return 0, float(label), label
    except ValueError:
        return 1, 0.0, label


def draw(specification: dict[str, Any]) -> bytes:
    """Draw a template that DVC has filled.

    Args:
        specification: The Vega-Lite specification.

    Returns:
        A PNG.

    Raises:
        ValueError: The specification is invalid.
    """
    # Imported here: it loads 80 MB, which a process that only imports a flow does not need.
    import vl_convert

    # A template is of the ref: it loads no data, from wherever this host reaches.
    return vl_convert.vegalite_to_png(
        align(specification), vl_version=_VEGA_LITE, scale=_SCALE, allowed_base_urls=[]
    )


def template_of(root: Path, name: str) -> Path:
    """Return the path of a template.

    Args:
        root: Folder of a checkout.
        name: `metrics`, or the task of the model: `classification` or `regression`.
    """
    return root / _TEMPLATES / f"{name}.json"


def as_data_uri(png: bytes) -> str:
    """Return a picture as a URI with its data inside, which shows without a server."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
