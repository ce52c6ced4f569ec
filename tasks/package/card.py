"""The card for a model's page: target, metrics and columns, from the reports of its commit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

# The types of columns as `data.schema` names them, by dtype of reports/data.json.
_TYPES = {
    "int64": "integer",
    "float64": "number",
    "bool": "boolean",
    "boolean": "boolean",
    "object": "text",
}
_MOST_COLUMNS = 40  # `release.json` travels with every release


def read_card(checkout: Path) -> dict[str, Any]:
    """Read what a model predicts, its metrics and the columns that matter.

    Args:
        checkout: A workspace at the commit.

    Returns:
        `target`, `meaning`, `unit`, `metrics`, `intervals`, `rows` of the test split and
        `importance`, as far as the commit has them.
    """
    data, evaluation = _read(checkout, "data"), _read(checkout, "evaluation")
    target, importance = data.get("target"), evaluation.get("importance")
    card: dict[str, Any] = {"metrics": _read(checkout, "metrics")}
    if isinstance(target, dict):
        card |= {"target": target.get("name", "")}
        card |= {key: target.get(key, "") for key in ("meaning", "unit")}
    card |= {key: evaluation.get(key) for key in ("rows", "intervals")}
    if isinstance(importance, dict) and isinstance(importance.get("columns"), list):
        card["importance"] = importance | {"columns": importance["columns"][:_MOST_COLUMNS]}
    return card


def name_type(dtype: str) -> str:
    """Return the type of a column as `data.schema` names it.

    Args:
        dtype: As reports/data.json has it; dates come in several units.
    """
    return "date" if dtype.startswith("datetime64") else _TYPES.get(dtype, dtype)


def _read(checkout: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads((checkout / "reports" / f"{name}.json").read_text())
    except (OSError, ValueError):  # a model can be released without: the page then says less
        return {}
    return content if isinstance(content, dict) else {}
