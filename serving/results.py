"""Write predictions as a client asks for them, chunk by chunk."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Protocol

from serving.errors import RequestError, to_json
from serving.inputs import Columns
from serving.media_types import ARROW, JSON, PARQUET
from serving.scoring.job import PREDICTION, PROBABILITY


@dataclass(frozen=True)
class Answer:
    """A prediction, ready to send."""

    body: bytes
    rows: int
    unseen_categories: Mapping[str, int]  # column -> rows that have one
    media_type: str = JSON
    texts: tuple[bytes, bytes] | None = None  # request and answer as JSON, if these are not


class Writer(Protocol):
    """Writes the predictions of one request."""

    media_type: str

    def add(self, predictions: Any) -> None:
        """Write those of the next rows, an array."""
        ...

    def close(self) -> bytes:
        """Return all that was written."""
        ...


class JsonWriter:
    """Writes one list, as MLEM's server gives it."""

    media_type = JSON

    def __init__(self) -> None:
        """Begin without predictions."""
        self._parts: list[bytes] = []

    def add(self, predictions: Any) -> None:
        """Write the predictions of the next rows."""
        self._parts.append(to_json(predictions.tolist())[1:-1])

    def close(self) -> bytes:
        """Return the list."""
        return b"[%b]" % b",".join(self._parts)


class TableWriter:
    """Writes a table: the column `prediction`, or a probability for each class."""

    def __init__(self, media_type: str, classes: Sequence[Any] | None) -> None:
        """Begin without rows.

        Args:
            media_type: of Arrow or Parquet.
            classes: whose probabilities are written.
        """
        self.media_type = media_type
        self._classes = classes
        self._sink = BytesIO()
        self._writer: Any = None
        self._schema: Any = None  # of the first rows

    def add(self, predictions: Any) -> None:
        """Write the predictions of the next rows."""
        import pyarrow

        columns = [predictions] if predictions.ndim == 1 else [*predictions.T]
        if len(columns) == 1:
            names = [PREDICTION]
        elif self._classes is not None and len(columns) == len(self._classes):
            names = [f"{PROBABILITY}{name}" for name in self._classes]
        else:
            names = [f"{PREDICTION}_{number}" for number in range(len(columns))]
        try:
            table = pyarrow.table(dict(zip(names, map(pyarrow.array, columns), strict=True)))
            if self._writer is None:
                self._schema = table.schema
                self._writer = self._open(table.schema)
            self._writer.write_table(table.cast(self._schema))
        except pyarrow.ArrowException as error:
            message = "These predictions have no type of a column: ask for JSON."
            raise RequestError(406, message, kind="accept") from error

    def _open(self, schema: Any) -> Any:
        if self.media_type == PARQUET:
            from pyarrow import parquet

            return parquet.ParquetWriter(self._sink, schema)
        from pyarrow import ipc

        return ipc.new_stream(self._sink, schema)

    def close(self) -> bytes:
        """Return the table."""
        self._writer.close()
        return self._sink.getvalue()


def choose_writer(accept: str, classes: Sequence[Any] | None) -> Writer:
    """Choose how an answer to a table is written: as the header `Accept` says, else as JSON."""
    for part in accept.split(","):
        media_type = part.partition(";")[0].strip().lower()
        if media_type in {ARROW, PARQUET}:
            return TableWriter(media_type, classes)
        if media_type in {JSON, "*/*", "application/*"}:
            break
    return JsonWriter()


class TableRecord:
    """A request with a table and its answer as the prediction log has them: as JSON."""

    def __init__(self) -> None:
        """Begin without rows."""
        self._names: list[str] = []
        self._rows: list[bytes] = []
        self._answers = JsonWriter()

    def add(self, columns: Columns, predictions: Any) -> None:
        """Write the next rows and their predictions."""
        self._names = [*columns.values]
        values = (
            column.tolist() if hasattr(column, "tolist") else column
            for column in columns.values.values()
        )
        self._rows.append(to_json([*zip(*values, strict=True)])[1:-1])
        self._answers.add(predictions)

    def close(self) -> tuple[bytes, bytes]:
        """Return a request that names the columns once, and its answer."""
        rows = b",".join(self._rows)
        return b'{"columns":%b,"data":[%b]}' % (to_json(self._names), rows), self._answers.close()
