"""The dashboard for Grafana, made from the names of our metrics.

`python -m deployments.observability.dashboard` writes `dashboard.json`, which Grafana imports. The
library is a development dependency; who uses the dashboard needs the file alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from grafana_foundation_sdk.builders.dashboard import (
    Dashboard,
    DatasourceVariable,
    QueryVariable,
    Row,
)
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.stat import Panel as Stat
from grafana_foundation_sdk.builders.timeseries import Panel as Timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import BigValueTextMode, TimeZoneBrowser
from grafana_foundation_sdk.models.dashboard import DataSourceRef

FILE = Path(__file__).with_name("dashboard.json")
_SOURCE = DataSourceRef(type_val="prometheus", uid="$source")
_AT = 'instance=~"$instance"'
_ROUTES = 'route=~"/predict.*|/invocations"'
_OF = 'environment=~"$environment"'
_HALF, _THIRD = 12, 8

# Title, unit, queries with their legends, width.
_Panel = tuple[str, str, dict[str, str], int]
_SERVERS: tuple[_Panel, ...] = (
    (
        "Requests",
        "reqps",
        {
            f"sum by (status) (rate(slipway_serving_requests_total{{{_AT},{_ROUTES}}}"
            "[$__rate_interval]))": "{{status}}"
        },
        _HALF,
    ),
    (
        "Time of a request",
        "s",
        {
            f"histogram_quantile({share}, sum by (le) (rate("
            f"slipway_serving_request_seconds_bucket{{{_AT},{_ROUTES}}}[$__rate_interval])))": name
            for share, name in ((0.5, "median"), (0.95, "95 %"), (0.99, "99 %"))
        },
        _HALF,
    ),
    (
        "Rows predicted",
        "rowsps",
        {
            f"sum by (method) (rate(slipway_serving_rows_total{{{_AT}}}[$__rate_interval]))":
                "{{method}}"
        },
        _THIRD,
    ),
    (
        "Requests under way",
        "short",
        {f"sum by (instance) (slipway_serving_in_flight_requests{{{_AT}}})": "{{instance}}"},
        _THIRD,
    ),
    (
        "Rows with a new category",
        "rowsps",
        {
            f"sum by (column) (rate(slipway_serving_unseen_categories_total{{{_AT}}}"
            "[$__rate_interval]))": "{{column}}"
        },
        _THIRD,
    ),
)  # fmt: skip
_LOG: tuple[_Panel, ...] = (
    (
        "Records of the prediction log",
        "cps",
        {
            f"sum by (result) (rate(slipway_serving_log_records_total{{{_AT}}}"
            "[$__rate_interval]))": "{{result}}"
        },
        _HALF,
    ),
    (
        "Oldest record that waits for the bucket",
        "s",
        {"max by (instance) (slipway_log_oldest_seconds)": "{{instance}}"},
        _HALF,
    ),
)
_DRIFT: tuple[_Panel, ...] = (
    (
        "Distance from the training data",
        "percentunit",
        {
            f"max by (environment, column, subject) (slipway_monitor_distance{{{_OF}}})":
                "{{environment}} {{column}} {{subject}}"
        },
        _HALF,
    ),
    (
        "Metrics on rows with labels",
        "short",
        {f"slipway_monitor_metric{{{_OF}}}": "{{environment}} {{metric}} {{slice}}"},
        _HALF,
    ),
    ("Rows of the window", "short", {f"slipway_monitor_rows{{{_OF}}}": "{{environment}}"}, _HALF),
    (
        "Age of the newest report",
        "s",
        {
            f"time() - slipway_monitor_window_end_timestamp_seconds{{{_OF}}}": "{{environment}}"
        },
        _HALF,
    ),
)  # fmt: skip


def build_dashboard() -> Dashboard:
    """Build the dashboard: servers, prediction log, drift."""
    dashboard = (
        Dashboard("Slipway")
        .uid("slipway")
        .tags(["slipway"])
        .refresh("1m")
        .time("now-6h", "now")
        .timezone(TimeZoneBrowser)
        .with_variable(DatasourceVariable("source").label("Prometheus").type("prometheus"))
        .with_variable(_variable("instance", "label_values(slipway_serving_ready, instance)"))
        .with_variable(_variable("environment", "label_values(slipway_monitor_rows, environment)"))
        .with_row(Row("Model servers"))
        .with_panel(_stat("Ready", f"sum(slipway_serving_ready{{{_AT}}})", "short"))
        .with_panel(
            _stat(
                "Version", f"slipway_serving_model_info{{{_AT}}}", "short", "{{name}} {{version}}"
            )
        )
        .with_panel(_stat("Alarms", f"sum(slipway_monitor_alarm{{{_OF}}})", "short"))
    )
    for panel in _SERVERS:
        dashboard.with_panel(_timeseries(*panel))
    dashboard.with_row(Row("Prediction log"))
    for panel in _LOG:
        dashboard.with_panel(_timeseries(*panel))
    dashboard.with_row(Row("Live requests and training data"))
    for panel in _DRIFT:
        dashboard.with_panel(_timeseries(*panel))
    return dashboard


def render() -> str:
    """Return the dashboard as JSON, the same each time."""
    dashboard = json.loads(JSONEncoder().encode(build_dashboard().build()))
    return json.dumps(_drop_nulls(dashboard), sort_keys=True, indent=2) + "\n"


def _drop_nulls(value: Any) -> Any:
    """Leave out what is null: Grafana's schema allows no null where the library writes one."""
    if isinstance(value, dict):
        return {name: _drop_nulls(item) for name, item in value.items() if item is not None}
    return [_drop_nulls(item) for item in value] if isinstance(value, list) else value


def _variable(name: str, query: str) -> QueryVariable:
    return QueryVariable(name).datasource(_SOURCE).query(query).multi(True).include_all(True)


def _stat(title: str, query: str, unit: str, legend: str = "") -> Stat:
    panel = Stat().title(title).unit(unit).datasource(_SOURCE).height(4).span(_THIRD)
    if legend:
        panel = panel.text_mode(BigValueTextMode.NAME)
    return panel.with_target(_query(query, legend).ref_id("A"))


def _timeseries(title: str, unit: str, queries: dict[str, str], width: int) -> Timeseries:
    panel = Timeseries().title(title).unit(unit).datasource(_SOURCE).height(8).span(width)
    for letter, (query, legend) in zip(ascii_uppercase, queries.items(), strict=False):
        panel = panel.with_target(_query(query, legend).ref_id(letter))
    return panel


def _query(query: str, legend: str) -> Dataquery:
    return Dataquery().expr(query).legend_format(legend)


if __name__ == "__main__":
    FILE.write_text(render())
