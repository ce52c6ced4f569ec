"""Cut files into chunks of whole rows; of the same files the same chunks come every time."""

import codecs
import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from serving.scoring.job import PARQUET, Job, Reading, SourceError
from serving.scoring.layout import count_rows, read_records, write_records

_UTF_8 = {"utf-8", "utf8", "utf_8"}
_GZIP = ".gz"
_CHARACTERS = 1 << 16  # of another encoding, read at once
_MOST_LINES = 1000  # of one cell at the end of a block; more are rather a quote that is not closed


@dataclass(frozen=True)
class Chunk:
    """Rows of one file.

    Attributes:
        number: Its position among all chunks.
        file: Name of the file.
        start: Number of rows of the file before it.
        header: Names of the columns.
        rows: Number of rows.
        size: Number of bytes, about.
        offset: Position of its bytes in the file; None if `text` has them.
        text: The rows as CSV in UTF-8, if the file has them in another way; or a Parquet file.
        group: Position of a row group in a Parquet file.
        order: Header of the first file: in its order, the parts have their columns.
    """

    number: int
    file: str
    start: int
    header: tuple[str, ...]
    rows: int
    size: int
    offset: int | None = None
    text: bytes = b""
    group: int | None = None
    order: tuple[str, ...] = ()


def cut_files(job: Job) -> Iterator[Chunk]:
    """Cut all files of a job.

    Raises:
        SourceError: A file cannot be read.
    """
    number = 0
    order: tuple[str, ...] = ()
    for name, path in job.files.items():
        start = 0
        cut = _cut_parquet if path.endswith(PARQUET) else _cut_csv
        for content in cut(name, Path(path), job):
            order = order or content["header"]
            yield Chunk(number=number, file=name, start=start, order=order, **content)
            start += content["rows"]
            number += 1


def read_text(job: Job, chunk: Chunk) -> bytes:
    """Read the rows of a chunk of a CSV file."""
    if chunk.offset is None:
        return chunk.text
    with Path(job.files[chunk.file]).open("rb") as file:
        file.seek(chunk.offset)
        return file.read(chunk.size)


def read_header(path: Path, reading: Reading) -> tuple[str, ...]:
    """Read the names of a file's columns.

    Raises:
        SourceError: The file has none.
    """
    if path.name.endswith(PARQUET):
        return tuple(open_parquet(path).schema_arrow.names)
    with _open(path.name, path, reading) as stream:
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
    is_packed, is_utf_8 = path.suffix == _GZIP, reading.encoding.lower() in _UTF_8
    with _open(name, path, reading) as stream:
        header = _read_names(name, stream, reading)
        while True:
            # Of other streams, a process cannot read a part from its place in the file.
            offset = stream.tell() if is_utf_8 and not is_packed else None
            block = _read_block(stream, job)
            if not block:
                return
            common = {"header": header, "size": len(block)}
            if rows := count_rows(block, reading):
                place = {"text": block} if offset is None else {"offset": offset}
                yield {**common, **place, "rows": rows}
                continue
            text, rows = write_records(_read_records(name, block, stream, reading), reading)
            if rows:
                yield {**common, "text": text, "rows": rows}


class _Recoder(io.RawIOBase):
    """A stream of UTF-8 made of one in another encoding.

    That of `codecs` also ends lines at characters such as U+0085, which are in the middle of rows.
    """

    def __init__(self, stream: IO[bytes], encoding: str) -> None:
        self._texts = io.TextIOWrapper(stream, encoding, newline="")
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._rest = self._rest or self._texts.read(_CHARACTERS).encode()
        part = self._rest[: len(buffer)]
        self._rest = self._rest[len(part) :]
        buffer[: len(part)] = part
        return len(part)


@contextmanager
def _open(name: str, path: Path, reading: Reading) -> Iterator[IO[bytes]]:
    """Open a CSV file as a stream of UTF-8.

    Raises:
        SourceError: It cannot be read, now or later.
    """
    packed: Any = gzip.open if path.suffix == _GZIP else open
    try:
        with packed(path, "rb") as raw:
            if reading.encoding.lower() not in _UTF_8:
                yield io.BufferedReader(_Recoder(raw, reading.encoding))
                return
            if raw.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
                raw.seek(0)
            yield raw
    except UnicodeError:
        raise SourceError(f"{name} is not {reading.encoding} text") from None
    except (EOFError, OSError, zlib.error) as error:
        raise SourceError(f"{name} cannot be read: {error}") from None


def _read_block(stream: IO[bytes], job: Job) -> bytes:
    """Read some bytes up to the end of a row; to that of a line, if quotes make no sense."""
    lines = [stream.read(job.block_bytes), stream.readline()]
    quote = job.reading.quote.encode()
    is_open = bool(quote) and sum(line.count(quote) for line in lines) % 2 == 1
    while is_open and len(lines) < _MOST_LINES and (line := stream.readline()):
        lines.append(line)
        is_open = line.count(quote) % 2 == 0
    return b"".join(lines)


def _read_names(name: str, stream: IO[bytes], reading: Reading) -> tuple[str, ...]:
    names = next(_read_records(name, stream.readline(), stream, reading), [])
    if not names:
        raise SourceError(f"{name} is empty")
    if len(set(names)) < len(names):
        raise SourceError(f"{name} has two columns of one name")
    return tuple(names)


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

    records = read_records(read_lines(), reading)
    try:
        while left > 0 and (row := next(records, None)) is not None:
            yield row
    except csv.Error as error:
        raise SourceError(f"{name} is not written as CSV: {error}") from None
