"""Messages of a box that scores: a line with the number of a chunk and that of bytes, and these."""

from __future__ import annotations

from typing import IO


def write_message(stream: IO[bytes], number: int, content: bytes) -> None:
    """Write a message at once."""
    stream.write(b"%d %d\n" % (number, len(content)) + content)
    stream.flush()


def read_content(stream: IO[bytes], line: bytes) -> tuple[int, bytes]:
    """Read the rest of a message that begins with a line; code of a commit may have written it.

    Raises:
        ValueError: It is no message.
    """
    number, size = map(int, line.split())
    content = stream.read(size)
    if len(content) < size:
        raise ValueError(line)
    return number, content
