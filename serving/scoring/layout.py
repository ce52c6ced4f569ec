"""Find rows and cells in blocks of CSV, without a look at each cell in Python."""

import csv
import io
from collections.abc import Iterator
from typing import Any

import numpy as np

from serving.scoring.job import Reading

_NEWLINE, _RETURN = b"\n\r"
# Pandas, which reads most blocks, has no limit; a quote that is not closed would fill the memory.
_MOST_CHARACTERS = 1 << 24  # of a cell


def count_rows(block: bytes, reading: Reading) -> int:
    """Count the rows of a block that begins and ends with whole rows.

    Returns:
        0 if only Python's module for CSV can tell: a line is blank, or a quote stands elsewhere
        than around a cell.
    """
    content, marks = _find_quotes(block, reading)
    if marks is not None and not _enclose_cells(content, np.flatnonzero(marks), reading):
        return 0
    ends = _find_ends(content, _find_quoted(marks))
    lengths = np.diff(ends, prepend=-1) - 1
    first = content[np.minimum(ends - lengths, len(content) - 1)]
    is_blank = (lengths == 0) | ((lengths == 1) & (first == _RETURN))
    return 0 if is_blank.any() else len(ends)


def is_even(text: bytes, width: int, reading: Reading) -> bool:
    """Check that each row of a text, whose rows can be counted, has as many cells as columns."""
    content, marks = _find_quotes(text, reading)
    quoted = _find_quoted(marks)
    separators = _find_outside(content, ord(reading.separator), quoted)
    cells = np.diff(np.searchsorted(separators, _find_ends(content, quoted)), prepend=0)
    return bool((cells == width - 1).all())


def _find_quotes(block: bytes, reading: Reading) -> tuple[Any, Any]:
    """Return a block as an array, and the mask of its quotes; None if it has none."""
    content = np.frombuffer(block, dtype=np.uint8)
    has_quote = bool(reading.quote) and reading.quote.encode() in block
    return content, content == ord(reading.quote) if has_quote else None


def _enclose_cells(content: Any, places: Any, reading: Reading) -> bool:
    """Check that quotes stand around cells only, or double within them, and that all are closed."""
    around = np.concatenate([[_NEWLINE], content, [_NEWLINE]])
    outside = [ord(reading.separator), _NEWLINE, ord(reading.quote)]
    opens = np.isin(around[places[0::2]], outside)
    closes = np.isin(around[places[1::2] + 2], [*outside, _RETURN])
    return len(places) % 2 == 0 and bool(opens.all() and closes.all())


def _find_quoted(marks: Any) -> Any:
    """Return the mask of what is between quotes; None without quotes."""
    return None if marks is None else np.logical_xor.accumulate(marks)


def _find_ends(content: Any, quoted: Any) -> Any:
    """Return the places where rows end; the last one may end without a line break."""
    ends = _find_outside(content, _NEWLINE, quoted)
    return ends if bytes(content[-1:]) == b"\n" else np.append(ends, len(content))


def _find_outside(content: Any, byte: int, quoted: Any) -> Any:
    """Return the places of a byte that are not between quotes."""
    places = np.flatnonzero(content == byte)
    return places if quoted is None else places[~quoted[places]]


def read_records(lines: Iterator[str], reading: Reading) -> Iterator[list[str]]:
    """Read rows with Python's module for CSV, without blank lines."""
    csv.field_size_limit(_MOST_CHARACTERS)
    for row in csv.reader(lines, strict=True, **make_options(reading)):
        if row:
            yield row


def write_records(records: Iterator[list[str]], reading: Reading) -> tuple[bytes, int]:
    """Write rows anew, in a way in which they can be counted; return their number, too."""
    text = io.StringIO()
    # With this end of lines, cells with one of its two characters get quotes.
    writer = csv.writer(text, lineterminator="\r\n", **make_options(reading))
    rows = 0
    for row in records:
        writer.writerow(row)
        rows += 1
    return text.getvalue().encode(), rows


def set_aside_uneven(
    text: bytes, width: int, reading: Reading
) -> tuple[bytes, dict[int, list[str]]]:
    """Return a text without the rows of more or fewer cells than columns; those by position."""
    uneven: dict[int, list[str]] = {}

    def read_even() -> Iterator[list[str]]:
        lines = (line.decode() for line in io.BytesIO(text))
        for position, row in enumerate(read_records(lines, reading)):
            if len(row) == width:
                yield row
            else:
                uneven[position] = row

    return write_records(read_even(), reading)[0], uneven


def make_options(reading: Reading) -> dict[str, Any]:
    """Make the options of Python's module for CSV, which pandas has, too."""
    return {
        "delimiter": reading.separator,
        "quotechar": reading.quote or None,
        "quoting": csv.QUOTE_MINIMAL if reading.quote else csv.QUOTE_NONE,
    }
