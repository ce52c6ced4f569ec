"""Cut the JSON of a large request between its rows, so that it can be read in steps.

A parser of JSON lets no other thread run until it is done. A cut at a wrong place, such as within a
text, never passes unnoticed: the piece before it is not valid JSON.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

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


def cut_rows(body: bytes, frame: Frame) -> Iterator[bytes]:
    """Cut a request into smaller ones of the same form, which have its rows in their order.

    Args:
        body: the request.
        frame: of its form.

    Returns:
        The requests; the body alone if it is written in another way, or is small.
    """
    head = frame.head.match(body)
    tail_begin = max(0, len(body) - _TAIL_BYTES)
    tail = frame.tail.search(body, tail_begin)
    if head is None or tail is None or tail.start() - head.end() <= PIECE_BYTES:
        yield body
        return
    before, begin, after, end = head[0], head.end(), tail[0], tail.start()
    while begin < end:
        comma = frame.between.search(body, min(begin + PIECE_BYTES, end), end)
        stop, following = comma.span(1) if comma else (end, end)
        yield b"".join((before, memoryview(body)[begin:stop], after))
        begin = following
