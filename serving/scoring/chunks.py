"""Score one chunk: read, check, predict, write; its record is written last."""

import csv
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from serving.bundle import BundleError, read_bundle
from serving.inputs import make_table_builder
from serving.interface import read_interface
from serving.predictor import Predictor, load_predictor
from serving.requests import make_request_adapter
from serving.scoring import parquet_files
from serving.scoring.cells import Cells, Checked, check, list_carried, read_csv
from serving.scoring.cutting import Chunk, read_text
from serving.scoring.job import (
    PARQUET,
    PLACE,
    PREDICTION,
    PROBABILITY,
    PROBLEM,
    STAMP,
    Job,
    SourceError,
)
from serving.scoring.layout import is_even, set_aside_uneven
from serving.scoring.lines import write_lines

_MAX_ROWS = 10_000  # of a request; golden predictions are replayed in requests of this many
_MOST_REFUSED = 1000  # rows of a chunk that the model's code may refuse, each found by bisection
_SHOWN_ROWS = 3  # of each problem


class Scorer:
    """A loaded model that scores the chunks of a job."""

    def __init__(self, job: Job) -> None:
        """Load the model, and prove it by its golden predictions, as a server does."""
        self._job = job
        bundle = read_bundle(Path(job.bundle))
        interface = read_interface(bundle)
        adapter = make_request_adapter(interface, _MAX_ROWS)
        self.predictor: Predictor = load_predictor(bundle, interface, adapter, _MAX_ROWS)
        self._classes = bundle.runtime.get("classes") or ()
        self._build = make_table_builder(interface)

    def score(self, chunk: Chunk) -> dict[str, Any]:
        """Score a chunk and write its part of the result.

        Returns:
            Its record: numbers of rows, and problems with their rows.

        Raises:
            SourceError: the chunk cannot be read.
            BundleError: the model fails.
        """
        cells, uneven = self._read(chunk)
        checked = check(cells, self.predictor, self._job.reading)
        # Positions in the chunk of the rows that have as many cells as columns.
        positions = np.delete(np.arange(chunk.rows), list(uneven))
        answers, refused = self._predict(checked)
        problems = {**checked.problems, **refused}
        good = np.ones(len(positions), dtype=bool)
        good[list(problems)] = False
        columns: dict[str, Any] = {
            "file": chunk.file,
            "row": positions[good] + chunk.start + 1,
            **{name: cells.others[name][good] for name in self._list_others(chunk.order)},
            **{name: values[good] for name, values in answers.items()},
            **{name: self._job.stamp[name] for name in STAMP},
        }
        self._write(chunk, columns)
        reasons = {int(positions[at]): reason for at, reason in problems.items()}
        width = len(chunk.header)
        reasons |= {
            at: f"The row has {len(row)} values, not {width}." for at, row in uneven.items()
        }
        self._reject(chunk, reasons, cells, uneven, positions)
        return self._record(chunk, reasons)

    def _read(self, chunk: Chunk) -> tuple[Cells, Mapping[int, list[str]]]:
        """Read a chunk; return its cells, and the rows of more or fewer cells than columns."""
        columns, job = self.predictor.interface.columns, self._job
        if chunk.group is not None:
            source = chunk.text or job.files[chunk.file]
            others = self._list_others(chunk.header)
            return parquet_files.read_group(source, chunk.group, columns, others), {}
        uneven: dict[int, list[str]] = {}
        try:
            text = read_text(job, chunk)
            if not is_even(text, len(chunk.header), job.reading):
                text, uneven = set_aside_uneven(text, len(chunk.header), job.reading)
            cells = read_csv(text, chunk.header, columns, job.reading)
        except UnicodeDecodeError:
            raise SourceError(f"{chunk.file} is not {job.reading.encoding} text") from None
        except csv.Error as error:
            raise SourceError(f"{chunk.file} is not written as CSV: {error}") from None
        if len(cells.columns) != chunk.rows - len(uneven):
            raise SourceError(f"{chunk.file} has other rows than lines after row {chunk.start}")
        return cells, uneven

    def _list_others(self, header: Sequence[str]) -> list[str]:
        return list_carried(header, [column.name for column in self.predictor.interface.columns])

    def _predict(self, checked: Checked) -> tuple[dict[str, Any], dict[int, str]]:
        """Predict all rows; return answers by column, and reasons why the model refuses rows."""
        methods = ["predict"] if self._job.method == "predict" else ["predict", self._job.method]
        count = len(checked.is_plain)
        plain = np.flatnonzero(checked.is_plain)
        refused: dict[int, str] = {}
        answers: dict[str, Any] = {}
        if len(plain) == count:
            table = self._build(checked.table)
        else:
            table = self._build({k: _take(v, plain) for k, v in checked.table.items()})
        extra = {at: self._build(_transpose([row])) for at, row in checked.rows.items()}
        for method in methods:
            parts = [*self._bisect(method, table, plain, refused)] if len(plain) else []
            for at, single in extra.items():
                parts += self._bisect(method, single, np.array([at]), refused)
            for name, values in self._merge(method, parts, count).items():
                answers[name] = values
        return answers, refused

    def _bisect(
        self, method: str, table: Any, positions: Any, refused: dict[int, str]
    ) -> Iterator[tuple[Any, Any]]:
        """Yield positions and answers; find the rows that the model's code does not take."""
        try:
            yield positions, self.predictor.predict_table(method, table)
        except ValueError as error:  # how scikit-learn says that it has no use for a value
            if len(positions) > 1:
                middle = len(positions) // 2
                yield from self._bisect(method, table[:middle], positions[:middle], refused)
                yield from self._bisect(method, table[middle:], positions[middle:], refused)
                return
            if len(refused) == _MOST_REFUSED:
                raise BundleError(f"{method} refuses all kinds of rows: {error}") from error
            refused[int(positions[0])] = "The model does not accept these values."

    def _merge(self, method: str, parts: Sequence[Any], count: int) -> dict[str, Any]:
        """Bring answers in the order of the rows, one array a column."""
        if len(parts) == 1 and len(parts[0][0]) == count:
            answers = parts[0][1]
        elif not parts:
            answers = np.empty(count, dtype=object)
        else:
            first = parts[0][1]
            types = [part.dtype for _, part in parts]
            answers = np.zeros((count, *first.shape[1:]), dtype=np.result_type(*types))
            for positions, part in parts:
                answers[positions] = part
        if method != "predict":
            names = self.name_probabilities()
            shaped = answers if answers.ndim == 2 else np.empty((count, len(names)), dtype=object)
            return dict(zip(names, shaped.T, strict=True))
        if answers.ndim == 1:
            return {PREDICTION: answers}
        return {f"{PREDICTION}_{number}": column for number, column in enumerate(answers.T, 1)}

    def name_probabilities(self) -> list[str]:
        """Name the columns of probabilities, one a class."""
        return [f"{PROBABILITY}{label}" for label in self._classes]

    def _write(self, chunk: Chunk, columns: Mapping[str, Any]) -> None:
        path = self._job.result / f"part-{chunk.number:05}{self._job.ending}"
        if self._job.ending == PARQUET:
            parquet_files.write_columns(path, columns)
        else:
            write_lines(path, columns)

    def _reject(
        self,
        chunk: Chunk,
        reasons: Mapping[int, str],
        cells: Cells,
        uneven: Mapping[int, list[str]],
        positions: Any,
    ) -> None:
        path = self._job.result / "rejected" / f"part-{chunk.number:05}.csv"
        if not reasons:
            path.unlink(missing_ok=True)
            return
        texts = cells.read_texts()
        width = len(chunk.header)

        def read_cells(at: int) -> list[Any]:
            if at in uneven:
                return (uneven[at] + [""] * width)[:width]
            return list(texts.iloc[np.searchsorted(positions, at)].tolist())

        rows = (
            [chunk.file, chunk.start + at + 1, reasons[at], *read_cells(at)]
            for at in sorted(reasons)
        )
        own = [find_free_name(name, chunk.header) for name in (*PLACE, PROBLEM)]
        names = [*own, *chunk.header]
        write_lines(path, dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))

    def _record(self, chunk: Chunk, reasons: Mapping[int, str]) -> dict[str, Any]:
        counts = Counter(reasons.values())
        first: dict[str, list[str]] = {reason: [] for reason in counts}
        for at in sorted(reasons):
            if len(first[reasons[at]]) < _SHOWN_ROWS:
                first[reasons[at]].append(f"{chunk.file} row {chunk.start + at + 1}")
        return {
            "rows": chunk.rows,
            "bytes": chunk.size,
            "rejected": len(reasons),
            "problems": {reason: [counts[reason], first[reason]] for reason in counts},
        }


def find_free_name(name: str, header: Sequence[str]) -> str:
    """Return the name of a column that is none of a source's: with `_` behind it, if it has it."""
    return find_free_name(f"{name}_", header) if name in header else name


def write_record(job: Job, number: int, record: Mapping[str, Any]) -> None:
    """Write the record of a chunk whose part is written: it is not done again."""
    path = job.records / f"{number:05}.json"
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(record))
    partial.replace(path)


def read_record(job: Job, number: int) -> dict[str, Any] | None:
    """Read the record of a chunk; None if it is not finished."""
    try:
        return dict(json.loads((job.records / f"{number:05}.json").read_bytes()))
    except FileNotFoundError:
        return None


_scorer: Scorer | None = None  # of this process


def start_process(job: Job) -> None:
    """Load the model in a process of the pool."""
    global _scorer  # noqa: PLW0603 - a pool has no other place for what a process needs
    _scorer = Scorer(job)


def score_chunk(job: Job, chunk: Chunk) -> dict[str, Any]:
    """Score a chunk in a process of the pool, and write its record."""
    assert _scorer is not None
    record = _scorer.score(chunk)
    write_record(job, chunk.number, record)
    return record


def _take(values: Any, positions: Any) -> Any:
    return values.iloc[positions] if hasattr(values, "iloc") else values[positions]


def _transpose(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in rows[0]}
