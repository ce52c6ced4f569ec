"""Find the categories of a request that the model was not trained on."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from serving.inputs import Columns
from serving.interface import Interface

ATTRIBUTE = "seen_categories_"  # of a model: `model/categories.py` records them
UNSEEN = "Slipway-Unseen-Categories"
MOST_BYTES = 4096  # clients and proxies refuse headers of more than 8 kB


def read_categories(model: Any, interface: Interface) -> dict[str, frozenset[str | None]]:
    """Read the texts that the model was trained on, and the words for missing ones, by column.

    Args:
        model: the fitted estimator.
        interface: what it takes.

    Returns:
        The columns of which it is recorded.
    """
    recorded = getattr(model, ATTRIBUTE, None)
    if not isinstance(recorded, Mapping) or interface.container != "dataframe":
        return {}
    return {
        column.name: frozenset({None, *column.missing_words, *recorded[column.name]})
        for column in interface.columns
        if column.name in recorded
    }


def count_unseen_categories(
    categories: Mapping[str, frozenset[str | None]], rows: Sequence[Mapping[str, Any]] | Columns
) -> dict[str, int]:
    """Count the rows with a category that the model was not trained on, by column.

    Args:
        categories: from `read_categories`.
        rows: validated rows.
    """
    counts = {}
    for name, known in categories.items():
        values: Iterable[Any]
        values = rows.values[name] if isinstance(rows, Columns) else (row[name] for row in rows)
        counts[name] = sum(value not in known for value in values)
    return {name: count for name, count in counts.items() if count}


def make_unseen_header(unseen_categories: Mapping[str, int]) -> dict[str, str]:
    """Make the header of an answer: `{"island": 2}`, a JSON object in ASCII.

    Columns beyond 4 kB are left out; `/metrics` counts them all.

    Args:
        unseen_categories: column -> rows with a category that the model was not trained on.

    Returns:
        One header, or none.
    """
    fitting: dict[str, int] = {}
    size = 2
    for column, rows in unseen_categories.items():
        size += len(json.dumps({column: rows}))
        if size > MOST_BYTES:
            break
        fitting[column] = rows
    # JSON leaves DEL as it is, which no header may have.
    return {UNSEEN: json.dumps(fitting).replace("\x7f", "\\u007f")} if fitting else {}
