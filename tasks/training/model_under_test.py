"""A model as its tests in `tests/model` and `tests/data` see it: its files, and its server."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
from ruamel.yaml import YAML

_PARSERS: Mapping[str, Callable[[str], Any]] = {
    "float64": float,
    "int64": int,
    "bool": lambda text: text == "True",
    "boolean": lambda text: text == "True",
    "object": str,
}
_BATCH = 1000  # rows a request; a server refuses more than 10,000


@dataclass(frozen=True)
class Trained:
    """The model that the pipeline makes of the working tree: its files, read.

    Attributes:
        folder: A copy of the repository in which the pipeline is up to date.
    """

    folder: Path

    @cached_property
    def params(self) -> dict[str, Any]:
        """All of `params.yaml`, without defaults for what it leaves out."""
        return dict(YAML(typ="safe").load(self.folder / "params.yaml"))

    @property
    def name(self) -> str:
        """Name of the model."""
        return str(self.params["name"])

    @property
    def target(self) -> str:
        """Name of the column to predict."""
        return str(self.params["data"]["target"])

    @property
    def is_classification(self) -> bool:
        """True if the target is a class, not a quantity."""
        return bool(self.params["data"]["task"] == "classification")

    @property
    def features(self) -> list[str]:
        """Names of the columns to learn from."""
        return list(self.data["columns"])

    @cached_property
    def data(self) -> dict[str, Any]:
        """`reports/data.json`: rows, target, types of the columns."""
        return dict(self._json("reports/data.json"))

    @cached_property
    def metrics(self) -> dict[str, float]:
        """`reports/metrics.json`: the scores on the test split."""
        return dict(self._json("reports/metrics.json"))

    @cached_property
    def golden(self) -> dict[str, Any]:
        """The golden predictions: `inputs` by row, `outputs` by method."""
        return dict(self._json(f"model/{self.name}.golden.json"))

    @cached_property
    def mlem(self) -> dict[str, Any]:
        """MLEM's description of the model."""
        return dict(YAML(typ="safe").load(self.folder / f"model/{self.name}.mlem"))

    def rows(self, split: str) -> list[dict[str, Any]]:
        """Read a split, `train` or `test`.

        Returns:
            Rows with the target, values in the types of training, None where one is missing.
        """
        types = {name: column["dtype"] for name, column in self.data["columns"].items()}
        types[self.target] = self.data["target"]["dtype"]
        with (self.folder / f"data/{split}.csv").open(newline="", encoding="utf-8") as file:
            return [
                {
                    name: None if text == "" else _PARSERS[types[name]](text)
                    for name, text in row.items()
                    if name in types  # also there: weights, and columns of the split
                }
                for row in csv.DictReader(file)
            ]

    def _json(self, path: str) -> Any:
        return json.loads((self.folder / path).read_text(encoding="utf-8"))


class Served:
    """The saved model behind its real server, on the packages that it is deployed with.

    Args:
        url: Where it is.
        features: The columns that it takes.
        post: Sends JSON to a path.
    """

    def __init__(
        self, url: str, features: Sequence[str], post: Callable[[str, Any], httpx.Response]
    ) -> None:
        self.url = url
        self._features = features
        self._post = post

    def predict(self, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Predict rows; other columns in them, such as the target, are left out."""
        return self.ask("predict", rows)

    def predict_proba(self, rows: Sequence[Mapping[str, Any]]) -> list[list[float]]:
        """Predict the probability of each class."""
        return self.ask("predict_proba", rows)

    def ask(self, method: str, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Have a method of the model predict rows."""
        answers: list[Any] = []
        for at in range(0, len(rows), _BATCH):
            values = [
                {name: row[name] for name in self._features} for row in rows[at : at + _BATCH]
            ]
            response = self._post(f"/{method}", {"data": {"values": values}})
            if response.status_code != 200:
                raise AssertionError(response.text)
            answers += response.json()
        return answers
