"""Write columns as lines of CSV."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from serving.errors import to_json

_SPECIAL = (",", '"', "\n", "\r")


def write_lines(path: Path, columns: Mapping[str, Any]) -> None:
    """Write columns as a file.

    Args:
        path: The file.
        columns: Arrays or lists, of which one at least; a text stands in all rows.
    """
    values = list(columns.values())
    first = next(at for at, value in enumerate(values) if not isinstance(value, str))
    last = next(at for at in reversed(range(len(values))) if not isinstance(values[at], str))
    head = "".join(f"{_quote(text)}," for text in values[:first])
    tail = "".join(f",{_quote(text)}" for text in values[last + 1 :])
    rows = len(values[first])
    middle = (
        [_quote(value)] * rows if isinstance(value, str) else make_texts(value)
        for value in values[first : last + 1]
    )
    header = ",".join(map(_quote, columns))
    between = f"{tail}\n{head}"
    lines = between.join(map(",".join, zip(*middle, strict=True)))
    content = f"{header}\n{head}{lines}{tail}\n" if rows else f"{header}\n"
    path.write_text(content, encoding="utf-8", newline="")


def make_texts(values: Any) -> Iterable[str]:
    """Return the cells of a column; numbers are written as in answers to requests."""
    cells = list_cells(values)
    if isinstance(values, np.ndarray) and values.dtype.kind in "iuf":
        texts = to_json(cells).decode()[1:-1].replace("null", "").split(",")
        return texts if cells else []
    texts = ["" if cell is None or cell != cell else str(cell) for cell in cells]  # noqa: PLR0124 (NaN is unequal to itself)
    together = "".join(texts)
    return map(_quote, texts) if any(special in together for special in _SPECIAL) else texts


def list_cells(values: Any) -> list[Any]:
    """Return the cells of a column; a number that is not finite is missing, as in answers."""
    if isinstance(values, list):
        return values
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        return [value if np.isfinite(value) else None for value in values.tolist()]
    return list(values.tolist())


def _quote(text: str) -> str:
    if any(special in text for special in _SPECIAL):
        return '"' + text.replace('"', '""') + '"'
    return text
