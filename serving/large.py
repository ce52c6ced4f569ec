"""Answer large requests in short steps, so that small ones are answered between them."""

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from serving.columnar import TableReader
from serving.errors import RequestError, make_too_many_rows
from serving.inputs import Columns
from serving.pieces import LISTS, choose_frame, cut_rows
from serving.predictor import Predictor
from serving.results import Answer, JsonWriter, TableRecord, Writer
from serving.work import Steps

CHUNK_SECONDS = 0.01  # of the processor: how long a chunk should take
MOST_ROWS = 8192  # of a chunk: bounds the memory
GROWTH = 2.0  # of a chunk over the last one

Read = Callable[[bytes, int], list[Any]]
Make = Callable[[Sequence[Any]], Columns]


@dataclass(frozen=True)
class TableRequest:
    """A table, and how it is to be answered."""

    body: bytes
    media_type: str
    reader: TableReader
    writer: Writer
    is_recorded: bool  # in the prediction log, which holds JSON


class WrongCut(Exception):
    """A piece of a request is not valid: the request is not, or was not cut between two rows."""


class LargeRequests:
    """Makes the answers to the large requests of one method."""

    def __init__(self, predictor: Predictor, method: str, proven_rows: int, max_rows: int) -> None:
        """Begin with small chunks.

        Args:
            predictor: has a loaded model.
            method: one of the interface's.
            proven_rows: are predicted together as each alone; 1 if that is not proven: then all
                rows of a request are predicted at once.
            max_rows: of a request.
        """
        self._predictor = predictor
        self._method = method
        self._max_rows = max_rows
        self._least_rows = proven_rows if proven_rows > 1 else max_rows
        self._most_rows = max(MOST_ROWS, self._least_rows)
        self._rows = self._least_rows  # of the next chunk
        self._frame = choose_frame(predictor.interface)

    def answer(self, body: bytes) -> Steps[Answer]:
        """Validate a request, predict, and serialize.

        Args:
            body: the request's JSON.

        Returns:
            Steps, which end with the response's JSON, as MLEM's server gives it.

        Raises:
            RequestError: the request is not valid.
        """
        split = self._predictor.split
        if split is not None and split.matches(body):
            request = split.open(body)
            pieces = None if request.begin is None else cut_rows(body, LISTS, request.begin)
            read, read_piece, make = request.read, request.read_piece, request.make_columns
        else:
            pieces = cut_rows(body, self._frame)
            read, read_piece, make = self._predictor.rows, self._predictor.read_piece, None
        if pieces is not None:
            with contextlib.suppress(WrongCut):
                return (yield from self.answer_rows(self._read(pieces, read_piece), make))
        return (yield from self.answer_rows([read(body)], make))

    def answer_rows(
        self, parts: Iterable[Sequence[Any]], make: Make | None = None
    ) -> Steps[Answer]:
        """Predict validated rows, and serialize.

        Args:
            parts: rows, as they are read: one part in a step.
            make: makes of rows what the predictor takes.
        """
        writer = JsonWriter()
        unseen = Counter[str]()
        rows: list[Any] = []
        count = 0
        for part in parts:
            if count:
                yield
            rows += part
            count += len(part)
            while len(rows) >= self._rows:
                chunk = rows[: self._rows]
                del rows[: len(chunk)]
                writer.add(self._predict(make(chunk) if make else chunk, unseen))
                yield
        if rows:
            writer.add(self._predict(make(rows) if make else rows, unseen))
        return Answer(writer.close(), count, unseen)

    def answer_table(self, request: TableRequest) -> Steps[Answer]:
        """Check a table, predict, and write the answer.

        Raises:
            RequestError: the request is not valid, or cannot be answered in that form.
        """
        reader, writer = request.reader, request.writer
        table = yield from reader.open(request.body, request.media_type)
        unseen = Counter[str]()
        record = TableRecord() if request.is_recorded else None
        count = 0
        while count < table.num_rows:
            columns = reader.convert(table.slice(count, self._rows), count)
            predictions = self._predict(columns, unseen)
            writer.add(predictions)
            if record is not None:
                record.add(columns, predictions)
            count += len(columns)
            yield
        texts = record.close() if record is not None else None
        return Answer(writer.close(), count, unseen, writer.media_type, texts)

    def _read(self, pieces: Iterable[bytes], read: Read) -> Iterator[list[Any]]:
        """Validate the rows of a request, one piece after the other."""
        count = 0
        for piece in pieces:
            try:
                rows = read(piece, count)
            except RequestError as error:
                if error.names_row:
                    raise
                raise WrongCut from None
            count += len(rows)
            if count > self._max_rows:
                raise make_too_many_rows(self._max_rows)
            yield rows

    def _predict(self, rows: Sequence[Any] | Columns, unseen: Counter[str]) -> Any:
        """Predict a chunk; return the model's array."""
        begin = time.thread_time()
        predictions = self._predictor.predict_array(self._method, rows)
        unseen.update(self._predictor.count_unseen(rows))
        # Of the processor alone: a machine that is busy just now must not count as a slow model.
        self._adapt(len(rows), time.thread_time() - begin)
        return predictions

    def _adapt(self, rows: int, seconds: float) -> None:
        """Choose the rows of the next chunk by the time of the last one."""
        if rows < self._rows and seconds < CHUNK_SECONDS:
            return  # the rest of a request: its call costs more than its rows
        fitting = int(rows * min(GROWTH, CHUNK_SECONDS / max(seconds, 1e-6)))
        self._rows = min(max(fitting, self._least_rows), self._most_rows)
