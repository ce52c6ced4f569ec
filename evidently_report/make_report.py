"""Write Evidently's report on a window: make_report.py TABLES PAGE.

TABLES is a file of JSON: `{"kinds": {column: "number" | "category"}, "reference": {column:
[value]}, "current": {column: [value]}}`; None is a missing value. The report is one page of HTML
that loads nothing. The last line on stdout is an object of JSON: `{"rows": …}`.
"""

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.presets import DataDriftPreset, DataSummaryPreset


def read_table(columns: dict[str, list[Any]], kinds: dict[str, str]) -> Dataset:
    """Read a table as Evidently takes it."""
    names: dict[str, list[str]] = {"number": [], "category": []}
    for name in columns:
        names[kinds[name]].append(name)
    frame = pd.DataFrame(
        {
            name: pd.Series(values, dtype=float if kinds[name] == "number" else object)
            for name, values in columns.items()
        }
    )
    definition = DataDefinition(
        numerical_columns=names["number"], categorical_columns=names["category"]
    )
    return Dataset.from_pandas(frame, definition)


def main(tables: Path, page: Path) -> None:
    """Write the report."""
    content = json.loads(tables.read_text(encoding="utf-8"))
    reference, current = (
        read_table(content[side], content["kinds"]) for side in ("reference", "current")
    )
    report = Report([DataDriftPreset(), DataSummaryPreset()])
    report.run(current, reference).save_html(str(page))
    print(json.dumps({"rows": len(current.as_dataframe())}))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
