"""Rows on which candidate and champion can be compared: tested on by one, trained on by none. Pure.

Rows are texts by column, as the stages write them; the empty text is a missing value.
"""

from __future__ import annotations

import csv
import filecmp
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any

# Of more rows an even share is taken: they show differences far below any tolerance.
MOST_ROWS = 50_000
_MOST_CELLS = 3_000_000  # a row of 300 columns takes 35 kB as texts, and 25 kB more as values
# With fewer rows, an interval says nothing that could decide.
LEAST_ROWS = 20

Row = Mapping[str, str]
DATE = "datetime"  # type of a column
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_TRUTH = {"True": True, "False": False}


@dataclass(frozen=True)
class Inputs:
    """The columns that a model takes, as its server knows them.

    Attributes:
        types: `integer`, `number`, `boolean`, `text` and others, by column, in order.
        nullable: The columns that may be missing.
    """

    types: Mapping[str, str]
    nullable: frozenset[str]

    def convert(self, row: Row) -> dict[str, Any] | None:
        """Return a row as a client sends it; None if this model takes no such row."""
        values: dict[str, Any] = {}
        for name, kind in self.types.items():
            text = row[name]
            if not text:
                if name not in self.nullable:
                    return None
                values[name] = None
                continue
            try:
                values[name] = _convert(text, kind)
            except (ValueError, KeyError):
                return None
        return values


def _convert(text: str, kind: str) -> Any:
    if kind == "boolean":
        return _TRUTH[text]
    if kind == "integer":
        number = float(text)
        if not number.is_integer():
            raise ValueError(text)
        return int(text) if text.lstrip("-").isdigit() else int(number)
    return float(text) if kind == "number" else text


@dataclass(frozen=True)
class Data:
    """The data of a model, as its commit has them.

    Attributes:
        train: File of the rows that it was trained on.
        test: File of the rows that it was tested on.
        target: Name of the column that it predicts.
        inputs: The columns that it takes.
        keys: The columns that tell which rows belong together, none where each is on its own.
        private: The columns whose values no report shows.
    """

    train: Path
    test: Path
    target: str
    inputs: Inputs
    keys: Sequence[str] = ()
    private: frozenset[str] = frozenset()


@dataclass(frozen=True)
class SharedRows:
    """Rows that both models can answer, and neither was trained on.

    Attributes:
        rows: The rows.
        trained_count: Number of rows left out because one of the models was trained on them, or on
            rows of the same group.
        refused_count: Number of rows left out because one of the models does not take them.
        ungrouped_count: Number of rows left out because their group is unknown.
        former: Positions of the champion's test rows among them.
        former_count: Number of the champion's test rows, also of those left out.
        lost_count: Number of those that the champion takes, and the candidate does not.
    """

    rows: Sequence[Row]
    trained_count: int
    refused_count: int
    ungrouped_count: int = 0
    former: Sequence[int] = ()
    former_count: int = 0
    lost_count: int = 0

    @property
    def text(self) -> str:
        """The rows in words: how many, and how many are left out."""
        left_out = [
            f"{number} {why}"
            for number, why in (
                (self.trained_count, "that one of them was trained on"),
                (self.refused_count, "that one of them does not take"),
                (self.ungrouped_count, "whose group is unknown"),
            )
            if number
        ]
        rows = f"{len(self.rows)} test rows of either, scored by both"
        return f"{rows}, without {' and '.join(left_out)}" if left_out else rows


def share_rows(candidate: Data, champion: Data) -> SharedRows:
    """Return the test rows of both models that neither was trained on, what both have once.

    A model whose columns the other's rows lack is not asked about those rows. Rows are the same if
    they agree in target and common columns; a number or a date is the same however it is written.
    Where rows belong together, those of a group that one model was trained on are left out.

    A row that a table has several times counts as often. If both models have the same training and
    test rows, so do those that are in both splits, as most are in a table of few columns.

    Args:
        candidate: Data of the candidate.
        champion: Data of the champion; it has the same target.
    """
    models = (candidate, champion)
    common = sorted(candidate.inputs.types.keys() & champion.inputs.types.keys())
    # All dates of a table are written as precisely as one of them has to be.
    normal = {
        name
        for name in common
        if candidate.inputs.types[name] != champion.inputs.types[name]
        or candidate.inputs.types[name] == DATE
    }
    columns = [candidate.target, *common]
    key = _make_key(columns, normal | {candidate.target})
    is_same = all(_are_alike(candidate, champion))
    trained_on: set[int] = set()
    groups: dict[tuple[str, ...], set[str]] = {}
    if not is_same:
        trained_on = {hash(key(row)) for model in models for row in read_rows(model.train)}
        groups = _read_trained_groups(models)
    unmatched: Counter[int] = Counter()  # the champion's test rows
    rows: list[Row] = []
    former: list[int] = []
    trained_count = refused_count = ungrouped_count = former_count = lost_count = 0
    for row, is_former in _read_tests(models):
        number = hash(key(row))
        if is_former:
            former_count += 1
            unmatched[number] += 1
        elif unmatched[number]:
            unmatched[number] -= 1
            continue
        if number in trained_on:
            trained_count += 1
        elif any(not row.keys() >= set(keys) for keys in groups):
            ungrouped_count += 1
        elif any(_group_of(row, keys) in trained for keys, trained in groups.items()):
            trained_count += 1
        elif champion.inputs.convert(row) is None:
            refused_count += 1
        elif candidate.inputs.convert(row) is None:
            refused_count += 1
            lost_count += is_former
        else:
            if is_former:
                former.append(len(rows))
            rows.append(row)
    return SharedRows(
        rows, trained_count, refused_count, ungrouped_count, former, former_count, lost_count
    )


def _are_alike(model: Data, other: Data) -> Iterator[bool]:
    """Compare two models: the content of their splits, and the columns that they take."""
    yield model.inputs.types.keys() == other.inputs.types.keys()
    for file, former in ((model.test, other.test), (model.train, other.train)):
        yield filecmp.cmp(file, former, shallow=False)


def _read_trained_groups(models: Sequence[Data]) -> dict[tuple[str, ...], set[str]]:
    """Return the groups that one of the models was trained on, by the columns that tell them."""
    groups: dict[tuple[str, ...], set[str]] = {tuple(m.keys): set() for m in models if m.keys}
    for keys, trained in groups.items():
        for model in models:
            if set(keys) <= set(read_header(model.train)):
                trained.update(_group_of(row, keys) for row in read_rows(model.train))
    return groups


def _group_of(row: Row, keys: Sequence[str]) -> str:
    return "\0".join(normalize(row[name]) for name in keys)


def _read_tests(models: Sequence[Data]) -> Iterator[tuple[Row, bool]]:
    """Read the test rows of all models that have the columns of each; of many, an even share.

    Yields:
        A row, and whether it is one of the last model's; these come first.
    """
    needed = {name for model in models for name in model.inputs.types}
    chosen = [model for model in reversed(models) if needed <= model.inputs.types.keys()]
    step = find_step([model.test for model in chosen])
    for model in chosen:
        for row in islice(read_rows(model.test), 0, None, step):
            yield row, model is models[-1]


def _count_lines(file: Path) -> int:
    with file.open("rb") as opened:
        return sum(1 for _ in opened)


def read_share(file: Path) -> list[Row]:
    """Read the rows of a table; of very many, an even share."""
    return list(islice(read_rows(file), 0, None, find_step([file])))


def find_step(files: Sequence[Path]) -> int:
    """Return n where every nth row of some tables is taken: more would fill the memory."""
    columns = max((len(read_header(file)) for file in files), default=1)
    most = max(1, min(MOST_ROWS, _MOST_CELLS // max(1, columns)))
    return -(-sum(map(_count_lines, files)) // most) or 1


def read_header(file: Path) -> list[str]:
    """Read the names of a table's columns."""
    with file.open(encoding="utf-8", newline="") as opened:
        return next(csv.reader(opened), [])


def read_rows(file: Path) -> Iterator[Row]:
    """Read the rows of a table that a stage has written, all of which have all columns."""
    with file.open(encoding="utf-8", newline="") as opened:
        reader = csv.reader(opened)
        names = next(reader, [])
        for cells in reader:
            yield dict(zip(names, cells, strict=True))  # a DictReader takes longer


def find_groups(rows: Iterable[Row], columns: Sequence[str]) -> list[str] | None:
    """Return the group of each row, None if each row is one of its own, or there are no columns.

    A row that lacks a column, as those of a model with another split may, is a group of its own.
    """
    if not columns:
        return None
    groups = [
        _group_of(row, columns) if all(name in row for name in columns) else f"row {number}"
        for number, row in enumerate(rows)
    ]
    return groups if len(set(groups)) < len(groups) else None


def _make_key(columns: Sequence[str], normal: Iterable[str]) -> Callable[[Row], Any]:
    """Make the function that returns what identifies a row."""
    positions = [columns.index(name) for name in normal]
    # The first column twice, since of one alone there would be no tuple.
    values = itemgetter(*columns, columns[0])

    def key(row: Row) -> Any:
        texts = list(values(row))
        for at in positions:
            texts[at] = normalize(texts[at])
        texts[-1] = texts[0]
        return tuple(texts)

    return key


def normalize(value: Any) -> str:
    """Return a value as a text that is the same however it is written: `1`, `1.0`, `True`."""
    if isinstance(value, bool):
        return str(value)
    try:
        return repr(float(value))
    except (TypeError, ValueError):
        return _normalize_date(str(value))


def _normalize_date(text: str) -> str:
    """Return a date with its time: `2024-01-31` as `2024-01-31 00:00:00`; other text as it is."""
    if not _DATE.match(text):
        return text
    try:
        return str(datetime.fromisoformat(text))
    except ValueError:
        return text
