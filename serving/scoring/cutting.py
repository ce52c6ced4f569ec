"""Cut files into chunks of whole rows; of the same files the same chunks come every time."""

import codecs
import csv
import gzip
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from serving.scoring.job import PARQUET, Job, Reading, SourceError

_UTF_8 = {"utf-8", "utf8", "utf_8"}


@dataclass(frozen=True)
class Chunk:
    """Rows of one file.

    Attributes:
        number: Its position among all chunks.
        file: Name of the file.
        start: Number of rows of the file before it.
        header: Names of the columns.
        text: The rows as lines of CSV in UTF-8, without those of `ragged`.
        rows: Number of rows, with those of `ragged`.
        ragged: Cells of the rows with more or fewer values than columns, by position.
        group: Position of a row group in a Parquet file.
        size: Number of bytes in the file, about.
    """

    number: int
    file: str
    start: int
    header: tuple[str, ...]
    text: bytes = b""
    rows: int = 0
    ragged: Mapping[int, list[str]] = field(default_factory=dict)
    group: int | None = None
    size: int = 0


def cut_files(job: Job) -> Iterator[Chunk]:
    """Cut all files of a job.

    Raises:
        SourceError: A file cannot be read.
    """
    number = 0
    for name, path in job.files.items():
        start = 0
        cut = _cut_parquet if path.endswith(PARQUET) else _cut_csv
        for content in cut(name, Path(path), job):
            yield Chunk(number=number, file=name, start=start, **content)
            start += content["rows"]
            number += 1


def read_header(path: Path, reading: Reading) -> tuple[str, ...]:
    """Read the names of a file's columns.

    Raises:
        SourceError: The file has none.
    """
    if path.name.endswith(PARQUET):
        return tuple(open_parquet(path).schema_arrow.names)
    with _open(path, reading) as stream:
        return _read_names(path.name, stream, reading)


def open_parquet(path: Path) -> Any:
    """Open a Parquet file.

    Raises:
        SourceError: It is none.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        return parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise SourceError(f"{path.name} cannot be read as Parquet: {error}") from None


def _cut_parquet(name: str, path: Path, _: Job) -> Iterator[dict[str, Any]]:
    file = open_parquet(path)
    header = tuple(file.schema_arrow.names)
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        size = path.stat().st_size // file.num_row_groups
        yield {"header": header, "rows": rows, "group": group, "size": size}


def _cut_csv(name: str, path: Path, job: Job) -> Iterator[dict[str, Any]]:
    reading = job.reading
    with _open(path, reading) as stream:
        header = _read_names(name, stream, reading)
        try:
            while block := stream.read(job.block_bytes):
                block += stream.readline()
                common = {"header": header, "size": len(block)}
                if rows := _count_plain_rows(block, len(header), reading):
                    yield {**common, "text": block, "rows": rows}
                else:
                    records = _read_records(name, block, stream, reading)
                    content = _clean(records, len(header), reading)
                    if content["rows"]:
                        yield {**common, **content}
        except UnicodeError:
            raise SourceError(f"{name} is not {reading.encoding} text") from None
        except (EOFError, OSError) as error:
            raise SourceError(f"{name} cannot be read: {error}") from None


@contextmanager
def _open(path: Path, reading: Reading) -> Iterator[IO[bytes]]:
    """Open a CSV file as a stream of UTF-8."""
    packed: Any = gzip.open if path.suffix == ".gz" else open
    with packed(path, "rb") as raw:
        if reading.encoding.lower() not in _UTF_8:
            yield codecs.EncodedFile(raw, "utf-8", reading.encoding)
            return
        if raw.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
            raw.seek(0)
        yield raw


def _read_names(name: str, stream: IO[bytes], reading: Reading) -> tuple[str, ...]:
    names = next(_read_records(name, stream.readline(), stream, reading), [])
    if not names:
        raise SourceError(f"{name} is empty")
    if len(set(names)) < len(names):
        raise SourceError(f"{name} has two columns of one name")
    return tuple(names)


def _count_plain_rows(block: bytes, width: int, reading: Reading) -> int:
    """Count the rows of a block of which each is one line of as many cells as columns; else 0.

    Such a block, and most are, is read without a look at each cell in Python.
    """
    if width == 1 or (reading.quote and reading.quote.encode() in block):
        return 0  # a blank line of one column has as many cells as any other
    content = np.frombuffer(block, dtype=np.uint8)
    ends = np.flatnonzero(content == ord("\n"))
    if not block.endswith(b"\n"):
        ends = np.append(ends, len(block))
    separators = np.flatnonzero(content == ord(reading.separator))
    cells = np.diff(np.searchsorted(separators, ends), prepend=0)
    return len(ends) if (cells == width - 1).all() else 0


def _read_records(
    name: str, block: bytes, stream: IO[bytes], reading: Reading
) -> Iterator[list[str]]:
    """Yield the rows that begin in a block; the last one may end in the stream behind it."""
    left = block.count(b"\n") + (not block.endswith(b"\n"))

    def read_lines() -> Iterator[str]:
        nonlocal left
        for line in io.BytesIO(block):
            left -= 1
            yield line.decode()
        while line := stream.readline():
            yield line.decode()

    options = make_options(reading)
    reader = csv.reader(read_lines(), strict=True, **options)
    try:
        while left > 0:
            row = next(reader, None)
            if row is None:
                return
            if row:
                yield row
    except csv.Error as error:
        raise SourceError(f"{name} is not written as CSV: {error}") from None


def _clean(records: Iterator[list[str]], width: int, reading: Reading) -> dict[str, Any]:
    """Write rows anew, one a line if no cell has a line break, and set ragged ones aside."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n", **make_options(reading))
    ragged: dict[int, list[str]] = {}
    rows = 0
    for row in records:
        if len(row) == width:
            # A line of one empty cell would be a blank line.
            writer.writerow(row)
        else:
            ragged[rows] = row
        rows += 1
    return {"text": text.getvalue().encode(), "rows": rows, "ragged": ragged}


def make_options(reading: Reading) -> dict[str, Any]:
    """Make the options of Python's module for CSV, which pandas has, too."""
    return {
        "delimiter": reading.separator,
        "quotechar": reading.quote or None,
        "quoting": csv.QUOTE_MINIMAL if reading.quote else csv.QUOTE_NONE,
    }
