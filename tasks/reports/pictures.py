"""Pictures of predictions and metrics, drawn from the reports of a model without a browser.

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

_TEMPLATES = Path(".dvc/plots")
_VEGA_LITE = "5.21"  # the newest that the templates' `$schema` allows
_SCALE = 1.5  # sharp on a dense screen, and still about 40 kB


def parse_points(text: str) -> Points:
    """Parse predictions: one `{"actual": …, "predicted": …}` per row; none of an empty text."""
    return list(csv.DictReader(io.StringIO(text, newline="")))


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


def draw(specification: str | dict[str, Any]) -> bytes:
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
        specification, vl_version=_VEGA_LITE, scale=_SCALE, allowed_base_urls=[]
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
