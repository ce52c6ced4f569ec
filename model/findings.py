"""Find likely mistakes in data that the stages accept, and describe each column."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from pandas.api import types

from model import dates
from model.files import TYPES
from model.params import FILE, Params, suggest_nearest
from model.split_rule import SplitRule
from model.tables import Table, hash_rows, list_rows, list_words, to_numbers

ID_SHARE, ID_ROWS = 0.9, 30  # a text column with more distinct values than that is an id
NUMBER_SHARE, ODD_WORDS = 0.8, 3  # text that is numbers, but for so few words
FEW_ROWS = 10  # of a class
MOST_CLASSES = 50  # in a proposal
EXAMPLES = 3
GROUPED = re.compile(r"[+-]?\d{1,3}(?P<mark>[,.' \u00a0\u202f])\d{3}((?P=mark)\d{3})*")
DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
# A letter right before a number is more likely part of a name, such as C-17.
UNIT = re.compile(
    r"(?P<before>[^\w\s.,+-]{1,3}|[A-Za-z]{2,3}(?= ))? ?"
    r"[+-]?\d[\d.,]* ?(?P<after>[^\d\s.,]{1,4})?"
)
DATE = re.compile(r"(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4})([ T].*)?")


def find_warnings(table: Table, params: Params) -> list[str]:
    """Find likely mistakes in data that the stages accept.

    Args:
        table: all rows, from `read_table`.
        params: `data`.

    Returns:
        One line each: the file, the key that mends it, the column and rows.
    """
    return [f"{FILE}: {key}: {text}" for key, text in _find(table, params)]


def describe_columns(table: Table, params: Params) -> list[dict[str, Any]]:
    """Describe each column for people.

    Returns:
        Dicts with `name`, `type` as `data.schema` names it, `distinct`, `missing`, `words`,
        `examples`, `preparation`, and `schema`, a proposal for `data.schema`.
    """
    return [
        {
            "name": str(name),
            "type": _name_type(column),
            "distinct": int(column.nunique()),
            "missing": int(column.isna().sum()),
            "words": table.words.get(str(name), {}),
            "examples": []
            if name in params.data.private
            else [str(value) for value in column.dropna().unique()[:EXAMPLES]],
            "preparation": _describe_preparation(column, params),
            "schema": _propose_schema(column, params),
        }
        for name, column in table.frame.items()
    ]


def _name_type(column: "pd.Series") -> str:
    """Name the type of a column as `data.schema` does."""
    return "date" if str(column.dtype) == dates.DTYPE else TYPES[str(column.dtype)]


def _propose_schema(column: "pd.Series", params: Params) -> dict[str, Any]:
    """Propose what `data.schema` may say of a column, so that other data are refused later.

    What it says already comes first. Ranges and categories are for people to name: new data may
    exceed them and be right. Only classes are known for good.
    """
    data, name = params.data, str(column.name)
    schema: dict[str, Any] = {"type": _name_type(column)}
    is_class = name == data.target and data.task == "classification"
    if column.dtype == object and not is_class and name not in data.private:
        values = column.dropna().drop_duplicates()
        odd = values[to_numbers(values, data.decimal, data.thousands).isna()]
        if _has_few_odd_words(column, odd):
            kind = "text" if _are_codes(values.drop(odd.index)) else "number"
            schema = {"type": kind, "missing": odd.tolist()}
        elif (
            len(values) and values.str.match(DATE).all() and dates.parse_dates(values).notna().all()
        ):
            schema = {"type": "date"}
    if is_class and column.nunique() <= MOST_CLASSES:
        schema["categories"] = sorted(map(str, column.dropna().unique()))
    known = data.columns[name].dict(exclude_unset=True) if name in data.columns else {}
    return schema | known


def _has_few_odd_words(column: "pd.Series", odd: "pd.Series") -> bool:
    """Tell whether a column of text is numbers, but for so few words."""
    count, filled = int(column.isin(odd).sum()), int(column.notna().sum())
    return 0 < len(odd) <= ODD_WORDS and count <= (1 - NUMBER_SHARE) * filled


def _describe_preparation(column: "pd.Series", params: Params) -> str:
    if column.name == params.data.target:
        return "to predict"
    missing = bool(column.isna().any())
    if str(column.dtype) == dates.DTYPE:
        return f"{', '.join(dates.PARTS.values())}; {'median where missing, ' * missing}scaled"
    if column.dtype != object:
        return ("median where missing, " if missing else "") + "scaled"
    limit = min(int(column.nunique()) + int(missing), params.train.max_categories)
    return f"{limit} columns of 0 and 1" + (", missing is a category" if missing else "")


def _find(table: Table, params: Params) -> Iterator[tuple[str, str]]:
    target = params.data.target
    known = {*map(str, table.frame), *params.data.drop}
    for name in params.data.columns:
        if name not in known:
            problem = f"the data have no column '{name}'{suggest_nearest(name, known)}"
            yield f"data.schema.{name}", problem
    for name, column in table.frame.items():
        distinct, filled = column.nunique(), int(column.notna().sum())
        label = f"column '{name}'"
        if name == "Unnamed: 0":
            yield "data.drop", f"{label} is an index that was written with the data: drop it"
        elif str(name).startswith("Unnamed: "):
            yield "data.source", f"{label} has no name in the file"
        if str(name) != str(name).strip():
            yield "data.source", f"{label}: its name begins or ends with a space"
        if counts := table.words.get(str(name)):
            words = ", ".join(f"'{word}' in {rows} rows" for word, rows in counts.items())
            yield f"data.schema.{name}.missing", f"{label}: {words} is read as missing"
        if filled and distinct == 1 and name != target:
            filling = "" if filled == len(column) else f", in {filled} of {len(column)} rows"
            yield "data.drop", f"{label} has one value only{filling}"
        if column.dtype == object and filled:
            yield from _find_in_text(column, distinct, filled, params)
    yield from _find_in_target(table.frame, params)
    duplicates = int(hash_rows(table.frame).duplicated().sum())
    rule = params.data.split
    if duplicates and rule.kind == "random":
        problem = f"{duplicates} rows repeat others, so some may be trained and tested on"
        yield "data.split", f"{problem}: set it to stable"
    elif 2 * duplicates > len(table.frame) and rule == SplitRule("stable"):
        problem = f"{duplicates} rows repeat others and stay with them, so the shares are rough"
        yield "data.split", f"{problem}: name a key, as in `split: {{stable: [id]}}`, or use random"


def _find_in_text(
    column: "pd.Series", distinct: int, filled: int, params: Params
) -> Iterator[tuple[str, str]]:
    data, name = params.data, str(column.name)
    label = f"column '{name}'"
    cells = column.dropna()
    values = cells.drop_duplicates()
    yield from _find_variants(values, params)
    if name in data.columns and data.columns[name].type == "text":
        return
    odd = values[to_numbers(values, data.decimal, data.thousands).isna()]
    is_odd = column.isin(odd)
    if _are_codes(values.drop(odd.index)) and (len(odd) == 0 or _has_few_odd_words(column, odd)):
        yield f"data.schema.{name}.type", f"{label} has leading zeros and stays text"
    if len(odd) == 0:
        return
    examples = list_words(odd.head(EXAMPLES), is_private=name in data.private)
    marks = {match["mark"] for cell in odd.head(1000) if (match := GROUPED.fullmatch(cell))}
    if data.thousands is None and len(marks) == 1 and odd.str.fullmatch(GROUPED.pattern).all():
        mark = marks.pop()
        problem = f"{label} is text: {examples} have thousands separators"
        yield "data.thousands", f"{problem}; set it to '{mark}' to read numbers"
    elif data.decimal == "." and odd.str.fullmatch(DECIMAL_COMMA.pattern).all():
        problem = f"{label} is text: {examples} have a decimal comma"
        yield "data.decimal", f"{problem}; set it to ',' to read numbers"
    elif _has_few_odd_words(column, odd):
        problem = f"{label} is text, as {examples} ({list_rows(is_odd)}) is no number"
        yield f"data.schema.{name}.missing", f"{problem}; if it means missing, name it there"
    elif unit := _find_unit(odd):
        problem = f"{label} is text: {examples} have '{unit}' beside the number"
        hint = "write numbers alone, or convert them by a transformer in train.transformers"
        yield "data.source", f"{problem}; {hint}"
    elif values.str.fullmatch(DATE.pattern).all():
        problem = f"{label} has dates, which are read as text: set it to date, or drop the column"
        yield f"data.schema.{name}.type", problem
    elif filled >= ID_ROWS and distinct > ID_SHARE * filled and name != data.target:
        problem = f"{name}: {distinct:,} of {filled:,} distinct, which looks like an id"
        yield "data.drop", f"{problem}: drop it, since it says nothing of new rows"
    if (cells.str[:1] == " ").mean() > 0.5:
        yield "data.separator", f"{label}: values begin with a space, which is part of them"


def _find_variants(values: "pd.Series", params: Params) -> Iterator[tuple[str, str]]:
    """Find values of a text column that differ by spaces around them or by capitals alone."""
    name = str(values.name)
    if len(values) > params.train.max_categories or name in params.data.private:
        return
    for _, same in values.groupby(values.str.strip().str.casefold(), sort=False):
        if len(same) > 1:
            problem = f"column '{name}': {list_words(same)} differ by spaces or capitals alone"
            key = "data.merge_classes" if name == params.data.target else "data.source"
            yield key, f"{problem}, and are different values"


def _find_unit(cells: "pd.Series") -> str:
    """Find what all cells have before or behind a number, such as `%`; empty if nothing."""
    matches = [UNIT.fullmatch(cell.strip()) for cell in cells.head(1000)]
    units = {(match["before"] or "", match["after"] or "") for match in matches if match}
    return " ".join(units.pop()).strip() if all(matches) and len(units) == 1 else ""


def _are_codes(values: "pd.Series") -> bool:
    """Tell whether values are digits, some with leading zeros."""
    digits = bool(len(values)) and bool(values.str.fullmatch(r"\d+").all())
    return digits and bool(values.str.match(r"0\d").any())


def _find_in_target(frame: "pd.DataFrame", params: Params) -> Iterator[tuple[str, str]]:
    target = frame[params.data.target]
    missing = target.isna()
    if missing.any():
        problem = f"column '{target.name}' is missing in {list_rows(missing)}"
        yield "data.target", f"{problem}: {int(missing.sum())} rows are left out"
    if params.data.task == "classification":
        counts = target.value_counts()
        for label, rows in counts[counts < FEW_ROWS].items():
            if str(label) not in params.data.drop_classes:
                yield "data.drop_classes", f"class '{label}' has {rows} rows only"
    for name in frame.columns.drop(target.name):
        if _gives_away(frame[name], target):
            problem = f"column '{name}' gives '{target.name}' away"
            yield "data.drop", f"{problem}: drop it, unless it is known before"


def _gives_away(column: "pd.Series", target: "pd.Series") -> bool:
    """Tell whether each value of a column goes with one value of the target, in several rows."""
    pairs = pd.DataFrame({"value": column, "target": target}).dropna()
    distinct = pairs["value"].nunique()
    if len(pairs) < ID_ROWS or distinct < 2:
        return False
    numeric = [types.is_numeric_dtype(pairs[key].dtype) for key in pairs]
    if all(numeric) and pairs["target"].nunique() > FEW_ROWS:
        return bool(abs(np.corrcoef(pairs.astype("float64").to_numpy().T)[0, 1]) > 1 - 1e-9)
    if distinct > len(pairs) / 4:
        return False
    return bool(len(pairs.drop_duplicates()) == distinct and pairs["target"].nunique() > 1)
