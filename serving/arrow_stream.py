"""Read a stream of Arrow, message by message, without reading what would take more memory."""

import struct
from collections.abc import Callable, Iterator
from typing import Any

from serving.errors import RequestError

# Fields of the tables that a message's metadata consist of, by their number in Arrow's format.
_HEADER, _ENDIANNESS, _COMPRESSION = 2, 0, 3


def read_stream(body: bytes, check_schema: Callable[[Any], None]) -> Iterator[Any]:
    """Read the batches of a stream.

    Args:
        body: the stream.
        check_schema: raises an error if it is not what the model takes.

    Raises:
        RequestError: a batch is compressed.
        ArrowException: the stream is damaged.
    """
    from pyarrow import ipc, py_buffer

    messages = iter(ipc.MessageReader.open_stream(py_buffer(body)))
    first = next(messages, None)
    if first is None or first.type != "schema" or _is_big_endian(first.metadata.to_pybytes()):
        raise ValueError("no schema that can be read")
    schema = ipc.read_schema(first)
    check_schema(schema)
    for message in messages:
        # Dictionaries, which the schema cannot have, are refused by `read_record_batch`.
        if message.type == "record batch" and _is_compressed(message.metadata.to_pybytes()):
            raise RequestError(
                415, "The columns are compressed: write the stream without compression.",
                kind="compression",
            )  # fmt: skip
        yield ipc.read_record_batch(message, schema)


def _is_compressed(metadata: bytes) -> bool:
    """Look at the metadata of a batch, which pyarrow has verified; it does not say so itself."""
    return _find(metadata, _find_header(metadata), _COMPRESSION) > 0


def _is_big_endian(metadata: bytes) -> bool:
    place = _find(metadata, _find_header(metadata), _ENDIANNESS)
    return place > 0 and metadata[place] > 0


def _find_header(metadata: bytes) -> int:
    """Find the table of the schema or batch that a message announces."""
    (root,) = struct.unpack_from("<I", metadata)
    header = _find(metadata, root, _HEADER)
    (offset,) = struct.unpack_from("<I", metadata, header)
    return int(header + offset)


def _find(metadata: bytes, table: int, field: int) -> int:
    """Find the place of a field of a table of FlatBuffers; 0 if the table does not have it."""
    (back,) = struct.unpack_from("<i", metadata, table)
    size, *_ = struct.unpack_from("<H", metadata, table - back)
    if 4 + 2 * field >= size:
        return 0
    (offset,) = struct.unpack_from("<H", metadata, table - back + 4 + 2 * field)
    return table + offset if offset else 0
