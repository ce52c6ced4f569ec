"""Read a Parquet file after measuring what its pages would take, whatever its footer says."""

import io
from collections.abc import Callable, Iterator
from typing import Any

from serving.errors import RequestError, make_too_many_rows

MOST_BYTES = 64 << 20  # of all pages, and of all texts, when they are not compressed
MOST_PAGES = 20_000
MOST_GROUPS = 1_000
MOST_FOOTER = {"thrift_string_size_limit": 8 << 20, "thrift_container_size_limit": 100_000}
# Of the encodings, by their numbers in Parquet's format, one can repeat a text without naming it
# again: a small page of it may become any number of bytes.
DELTA_BYTE_ARRAY = 7
# Fields of the header of a page, by their numbers there.
_UNCOMPRESSED, _COMPRESSED, _ENCODING = 2, 3, 2
_DATA_HEADERS = {5: _ENCODING, 8: 4}  # of both versions of pages, and where they name the encoding
_INTEGERS, _BINARY, _STRUCT = {3, 4, 5, 6}, 8, 12  # types of Thrift's compact protocol


def read_file(body: bytes, check_schema: Callable[[Any], None], max_rows: int) -> Iterator[Any]:
    """Read the row groups of a file.

    Args:
        body: the file.
        check_schema: raises an error if it is not what the model takes.
        max_rows: of all groups.

    Raises:
        RequestError: it is too large.
        ArrowException: it is damaged; or an OSError.
    """
    from pyarrow import BufferReader, types
    from pyarrow.parquet import ParquetFile

    footer = ParquetFile(BufferReader(body), pre_buffer=False, **MOST_FOOTER)
    schema = footer.schema_arrow
    check_schema(schema)
    if footer.metadata.num_row_groups > MOST_GROUPS:
        raise _make_too_large(f"more than {MOST_GROUPS} row groups")
    numbers = range(footer.metadata.num_row_groups)
    groups = {number: footer.metadata.row_group(number) for number in numbers}
    groups = {number: group for number, group in groups.items() if group.num_rows}
    if sum(group.num_rows for group in groups.values()) > max_rows:
        raise make_too_many_rows(max_rows)
    _measure_pages(body, [*groups.values()])
    texts = [
        field.name
        for field in schema
        if types.is_string(field.type) or types.is_large_string(field.type)
    ]
    # Texts stay in their dictionaries until it is known how long all of them are.
    file = ParquetFile(
        BufferReader(body),
        metadata=footer.metadata,
        read_dictionary=texts,
        pre_buffer=False,  # as this takes threads of its own
        **MOST_FOOTER,
    )
    size = 0
    for number in groups:
        table = file.read_row_group(number, use_threads=False)
        for name in texts:
            size += _measure_texts(table.column(name))
            if size > MOST_BYTES:
                raise _make_too_large(f"texts of more than {MOST_BYTES} bytes")
        yield from table.cast(schema).combine_chunks().to_batches()


def _make_too_large(what: str) -> RequestError:
    return RequestError(413, f"The Parquet file has {what}.", kind="too_large")


def _measure_texts(column: Any) -> int:
    """Add up the bytes of texts, those that stand twice twice."""
    from pyarrow import compute

    size = 0
    for chunk in column.chunks:
        lengths = compute.take(compute.binary_length(chunk.dictionary), chunk.indices)
        size += compute.sum(lengths).as_py() or 0
    return size


def _measure_pages(body: bytes, groups: list[Any]) -> None:
    """Read the headers of all pages, and refuse a file whose pages would take too much memory.

    Raises:
        RequestError: they would, or an encoding does not say what it takes.
        ValueError: a header is damaged.
    """
    size = pages = 0
    for group in groups:
        for number in range(group.num_columns):
            chunk = group.column(number)
            begin = chunk.data_page_offset
            if chunk.has_dictionary_page and 0 < chunk.dictionary_page_offset < begin:
                begin = chunk.dictionary_page_offset
            end = begin + chunk.total_compressed_size
            if not 0 <= begin <= end <= len(body):
                raise ValueError("a column is not within the file")
            while begin < end:
                header, begin = _read_header(body, begin)
                compressed, uncompressed = header[_COMPRESSED], header[_UNCOMPRESSED]
                if compressed < 0 or uncompressed < 0:
                    raise ValueError("a page has an impossible size")
                begin += compressed
                size += uncompressed
                pages += 1
                if size > MOST_BYTES or pages > MOST_PAGES:
                    limit = f"{MOST_PAGES} pages or {MOST_BYTES} bytes without compression"
                    raise _make_too_large(f"more than {limit}")
                _check_encoding(header)


def _check_encoding(header: dict[int, Any]) -> None:
    for field, encoding in _DATA_HEADERS.items():
        page = header.get(field, {})
        if not isinstance(page, dict):
            raise ValueError("the header of a page has a number in place of a structure")
        if page.get(encoding) == DELTA_BYTE_ARRAY:
            message = "The Parquet file has the encoding DELTA_BYTE_ARRAY: use another."
            raise RequestError(415, message, kind="encoding")


def _read_header(body: bytes, begin: int) -> tuple[dict[int, Any], int]:
    """Read the header of a page; return its fields by their numbers, and where the page begins."""
    source = io.BytesIO(body)  # shares the memory of the body
    source.seek(begin)
    header = _read_struct(source, depth=0)
    if not {_UNCOMPRESSED, _COMPRESSED} <= header.keys():
        raise ValueError("the header of a page has no size")
    return header, source.tell()


def _read_struct(source: io.BytesIO, depth: int) -> dict[int, Any]:
    """Read a structure of Thrift's compact protocol, of the types that headers of pages have."""
    fields: dict[int, Any] = {}
    number = 0
    while head := _read_byte(source):
        kind = head & 15
        number = number + (head >> 4) if head >> 4 else _read_integer(source)
        if number in fields:
            raise ValueError("a field stands twice")  # each reader would choose another one
        if kind in _INTEGERS:
            fields[number] = _read_integer(source)
        elif kind == _BINARY:
            source.seek(_read_varint(source), io.SEEK_CUR)
            fields[number] = None
        elif kind == _STRUCT and depth < 4:
            fields[number] = _read_struct(source, depth + 1)
        elif kind in {1, 2}:  # true and false, which have no further byte
            fields[number] = kind == 1
        else:
            raise ValueError("a field has an unknown type")
    return fields


def _read_integer(source: io.BytesIO) -> int:
    value = _read_varint(source)
    return (value >> 1) ^ -(value & 1)


def _read_varint(source: io.BytesIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = _read_byte(source)
        value |= (byte & 127) << shift
        if byte < 128:
            return value
    raise ValueError("a number is too long")


def _read_byte(source: io.BytesIO) -> int:
    byte = source.read(1)
    if not byte:
        raise ValueError("the file ends too early")
    return byte[0]
