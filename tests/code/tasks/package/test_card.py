"""The card for the model's page is as complete as the reports of the commit are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tasks.package.card import read_card


def write_reports(folder: Path, **reports: Any) -> Path:
    (folder / "reports").mkdir()
    for name, content in reports.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / "reports" / f"{name}.json").write_text(text)
    return folder


def test_card_has_target_metrics_and_the_columns_that_matter_most(tmp_path: Path) -> None:
    columns = [{"name": f"c{number}", "loss": -number, "std": 0.1} for number in range(300)]
    card = read_card(
        write_reports(
            tmp_path,
            data={"target": {"name": "mass", "meaning": "weight", "unit": "g", "mean": 4}},
            metrics={"r2": 0.8},
            evaluation={"rows": 9, "intervals": {"r2": [0.7, 0.9]}, "errors": {"p50": 1}}
            | {"importance": {"metric": "r2", "columns": columns}},
        )
    )
    assert card.pop("importance") == {"metric": "r2", "columns": columns[:40]}
    assert card == {
        "target": "mass",
        "meaning": "weight",
        "unit": "g",
        "metrics": {"r2": 0.8},
        "rows": 9,
        "intervals": {"r2": [0.7, 0.9]},
    }


@pytest.mark.parametrize("text", ["{", "[]", '{"target": 1, "importance": {"columns": 2}}'])
def test_card_leaves_out_what_cannot_be_read(tmp_path: Path, text: str) -> None:
    card = read_card(write_reports(tmp_path, data=text, evaluation=text))
    assert card == {"metrics": {}, "rows": None, "intervals": None}
