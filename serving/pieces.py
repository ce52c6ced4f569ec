"""Cut the JSON of a large request between its rows, so that it can be read in steps.

A parser of JSON lets no other thread run until it is done. A cut at a wrong place, such as within a
text, never passes unnoticed: the piece before it is not valid JSON.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from serving.interface import Interface

PIECE_BYTES = 256 << 10  # about 2 ms
_TAIL_BYTES = 256  # in which the brackets after the last row end; there may be space between them


def _compile(pattern: str) -> re.Pattern[bytes]:
    """Compile a pattern in which spaces stand for any white space of JSON."""
    return re.compile(pattern.replace(" ", r"[ \t\r\n]*").encode())


@dataclass(frozen=True)
class Frame:
    """The text around the rows of a request, and between two of them.

    Attributes:
        head: What is before the first row.
        tail: What is after the last one.
        between: What is between two rows, with the comma as its group.
    """

    head: re.Pattern[bytes]
    tail: re.Pattern[bytes]
    between: re.Pattern[bytes]


OBJECTS = Frame(
    _compile(r' \{ "data" : \{ "values" : \['), _compile(r"\] \} \} \Z"), _compile(r"\} (,) \{")
)
LISTS = Frame(_compile(r' \{ "data" : \['), _compile(r"\] \} \Z"), _compile(r"\] (,) \["))
VALUES = Frame(LISTS.head, LISTS.tail, _compile(r"(,) [^\s\]]"))


# Where the rows of a request begin that names the columns once. Nothing is looked behind: a search
# for a pattern that begins with a plain text is many times as fast.
_DATA = _compile('"data" : \\[')


def choose_frame(interface: Interface) -> Frame:
    """Choose the frame of the requests that MLEM's client sends."""
    if interface.container == "dataframe":
        return OBJECTS
    return VALUES if interface.flat else LISTS


def find_columns(body: bytes) -> tuple[Any, int] | None:
    """Read what is before the rows of a request that names the columns once.

    Returns:
        The JSON without the rows, and where the first of these begins; None if the columns come
        after them, or the request is another one.
    """
    match = _DATA.search(body)
    if match is None or body[match.start() - 1 : match.start()] == b"\\":
        return None
    try:
        head = json.loads(body[: match.end()] + b"]}")
    except (ValueError, RecursionError):
        return None
    is_complete = isinstance(head, dict) and "columns" in head and head.get("data") == []
    return (head, match.end()) if is_complete else None


def cut_rows(body: bytes, frame: Frame, begin: int | None = None) -> Iterator[bytes] | None:
    """Cut the rows of a request into lists, each of which is valid JSON if the request is.

    They have to be read as lists: within an object the text `]}, "data": [` would begin the rows
    anew, and drop those before.

    Args:
        body: the request.
        frame: of its form.
        begin: of the first row, if it is known.

    Returns:
        The lists; None if the request is small, or is not written in that form.
    """
    if begin is None:
        head = frame.head.match(body)
        begin = len(body) if head is None else head.end()
    tail = frame.tail.search(body, max(begin, len(body) - _TAIL_BYTES))
    if tail is None or tail.start() - begin <= PIECE_BYTES:
        return None
    return _cut(body, frame.between, begin, tail.start())


def _cut(body: bytes, between: re.Pattern[bytes], begin: int, end: int) -> Iterator[bytes]:
    while begin < end:
        comma = between.search(body, min(begin + PIECE_BYTES, end), end)
        stop, following = comma.span(1) if comma else (end, end)
        yield b"".join((b"[", memoryview(body)[begin:stop], b"]"))
        begin = following
