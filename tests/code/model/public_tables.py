"""Tables that people have, as packages ship them, and what of params.yaml each needs."""

from __future__ import annotations

import csv
import gzip
from typing import Any, NamedTuple

from tests.code.model.tables import PUBLIC

NA = {"missing": ["NA"]}
REGRESSION = {"task": "regression"}


class PublicTable(NamedTuple):
    """A table.

    Attributes:
        file: its name in `public/`.
        target: the column to predict.
        data: further keys of `data`.
        least: the least score of the served answers on all rows: share of right classes, or r2.
    """

    file: str
    target: str
    data: dict[str, Any]
    least: float

    def read_rows(self) -> list[dict[str, str]]:
        """Read the rows as they stand; a header without a name is called as pandas calls it."""
        path = PUBLIC / self.file
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", newline="", encoding="utf-8") as lines:
            header, *rows = csv.reader(lines)
        names = [name or f"Unnamed: {number}" for number, name in enumerate(header)]
        return [dict(zip(names, row, strict=True)) for row in rows]

    def score(self, answers: list[Any]) -> float:
        """Return the share of right classes, or the determination, of answers to all rows."""
        actual = [row[self.target] for row in self.read_rows()]
        if "task" not in self.data:
            pairs = zip(map(str, answers), actual, strict=True)
            return sum(a == b for a, b in pairs) / len(actual)
        values = [
            (answer, float(value))
            for answer, value in zip(answers, actual, strict=True)
            if value not in ("", "NA")
        ]
        mean = sum(value for _, value in values) / len(values)
        errors = sum((answer - value) ** 2 for answer, value in values)
        return 1 - errors / sum((value - mean) ** 2 for _, value in values)


def make_request(rows: list[dict[str, str]], types: dict[str, str]) -> list[dict[str, Any]]:
    """Make requests of cells by the types that the model states."""

    def convert(cell: str, kind: str) -> Any:
        if cell in ("", "NA") and kind != "text":
            return None
        return float(cell) if kind in ("number", "integer") else cell or None

    return [{name: convert(row[name], kind) for name, kind in types.items()} for row in rows]


TABLES = {
    "penguins": PublicTable("penguins.csv", "species", NA, 0.97),
    "penguins-raw": PublicTable(
        "penguins-raw.csv",
        "Body Mass (g)",
        REGRESSION
        | NA
        | {"drop": ["Individual ID", "Comments"], "schema": {"Date Egg": {"type": "date"}}},
        0.8,
    ),
    "tips": PublicTable("tips.csv.gz", "tip", REGRESSION, 0.4),
    "gapminder": PublicTable(
        "gapminder.csv.gz",
        "lifeExp",
        REGRESSION | {"drop": ["country", "iso_alpha", "iso_num"], "split": {"group": "country"}},
        0.6,
    ),
    "actg175": PublicTable("actg175.csv", "cens", {"drop": ["Unnamed: 0", "pidnum"]}, 0.8),
    "cars": PublicTable(
        "cars.csv",
        "Miles_per_Gallon",
        REGRESSION | {"drop": ["Name"], "schema": {"Year": {"type": "date"}}},
        0.8,
    ),
}
# The same with text to predict: names of classes with spaces and brackets.
SPECIES = PublicTable(
    "penguins-raw.csv",
    "Species",
    NA
    | {
        "drop": ["studyName", "Sample Number", "Individual ID", "Comments"],
        "schema": {"Date Egg": {"type": "date"}},
    },
    0.97,
)
