"""Pictures of how a model predicts, drawn from its reports without a browser.

The templates are those of `dvc plots show` (`.dvc/plots/`), filled by DVC's own renderer. Neither
Prefect nor DVC itself is imported: a pull request's report draws the same pictures as a flow.
"""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.core.errors import TerminalError

Points = Sequence[Mapping[str, str]]

PREDICTIONS = Path("reports/predictions.csv")
_TEMPLATES = Path(".dvc/plots")
_VEGA_LITE = "5.21"  # the newest that the templates' `$schema` allows
_SCALE = 1.5  # sharp on a dense screen, and still about 40 kB


def read_points(root: Path) -> Points:
    """What was predicted for each row of the test split.

    Args:
        root: Folder of a checkout at the commit.

    Returns:
        One `{"actual": …, "predicted": …}` per row; none where nothing was evaluated.
    """
    path = root / PREDICTIONS
    return parse_points(path.read_text()) if path.is_file() else []


def parse_points(text: str) -> Points:
    """The same, of the content of a `predictions.csv`."""
    return list(csv.DictReader(io.StringIO(text, newline="")))


def draw_predictions(points: Mapping[str, Points], template: Path, title: str = "") -> bytes:
    """Draw predicted against actual: a confusion matrix, or a cloud of points.

    Args:
        points: What `read_points` gave, by the name to show it under; several are drawn side by
            side (a matrix each) or over each other (points, a colour each).
        template: The Vega-Lite template, see `template_of`.
        title: Shown above.

    Returns:
        A PNG.

    Raises:
        TerminalError: The template is not there, or is not one that can be drawn.
    """
    rows = [{**row, "rev": name} for name, several in points.items() for row in several]
    return _fill_and_draw(rows, template, x="predicted", y="actual", title=title)


def draw_metrics(metrics: Mapping[str, Mapping[str, float]], template: Path) -> bytes:
    """Draw metrics as bars, those of several models beneath each other.

    Args:
        metrics: Metrics by the name to show them under.
        template: The Vega-Lite template, see `template_of`.

    Returns:
        A PNG.

    Raises:
        TerminalError: The template is not there, or is not one that can be drawn.
    """
    rows = [
        {"metric": metric, "value": value, "rev": name}
        for name, several in metrics.items()
        for metric, value in several.items()
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
            f"{template.name} cannot be drawn: {error}",
            state="nothing else is affected: it is a picture",
            next_step=f"see what `dvc plots show` says of .dvc/plots/{template.name}",
        ) from error


def draw(specification: str | dict[str, Any]) -> bytes:
    """Draw a template that DVC has filled.

    Args:
        specification: The Vega-Lite specification.

    Returns:
        A PNG.

    Raises:
        ValueError: It cannot be drawn.
    """
    # Drawing takes 80 MB of program text, which whoever only imports a flow is to be spared.
    import vl_convert

    return vl_convert.vegalite_to_png(specification, vl_version=_VEGA_LITE, scale=_SCALE)


def template_of(root: Path, name: str) -> Path:
    """A template.

    Args:
        root: Folder of a checkout.
        name: `metrics`, or the task of the model: `classification` or `regression`.

    Returns:
        Its path.
    """
    return root / _TEMPLATES / f"{name}.json"


def as_data_uri(png: bytes) -> str:
    """A picture as a URI that carries it whole, so that it shows without a server to fetch from."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
