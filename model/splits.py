"""Split rows into those to train on and those to test on, and divide the former into folds.

Both follow `data.split`. What has to stay together, such as the rows of one customer, is neither
in both splits nor in both halves of a fold.
"""

import csv
from collections.abc import Sequence
from hashlib import blake2b
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.model_selection import (
    GroupKFold,
    GroupShuffleSplit,
    KFold,
    StratifiedGroupKFold,
    StratifiedKFold,
    TimeSeriesSplit,
    train_test_split,
)

from model.dates import parse_dates
from model.files import Rows
from model.params import ConfigError, Params
from model.tables import hash_rows, list_rows, list_words, to_numbers

MARK = "\x1f"  # between the cells of a key: in no table that people write
# StratifiedGroupKFold takes 0.1 ms a group; of so many groups, folds drawn at random are alike.
MOST_STRATIFIED = 10_000


class Folds(NamedTuple):
    """Divisions of the rows to train on, for cross-validation.

    Attributes:
        pairs: positions of the rows to fit on and of those to score on, by fold.
        groups: number of the group of each row, if calibration has to keep groups together.
    """

    pairs: "list[tuple[np.ndarray, np.ndarray]]"
    groups: "np.ndarray | None"


def split(
    frame: "pd.DataFrame", params: Params, path: Path, first_test_row: int
) -> "tuple[pd.DataFrame, pd.DataFrame]":
    """Split rows into those to train on and those to test on.

    Args:
        frame: rows of `select_rows`, whose index is their position in the file.
        params: `data` and `seed`.
        path: the file that they were read from.
        first_test_row: position of the first row that is from a file of test rows.

    Returns:
        The two, each with the columns of the rule that are not learnt from, as text.

    Raises:
        ConfigError: a split has no rows, or no rows of a class to train on; or the columns of the
            rule do not fit.
    """
    rule, size = params.data.split, params.data.test_size
    names = [name for name in rule.columns if name not in frame]
    keys = _read_keys(path, rule.columns, frame.index)
    frame = frame.assign(**{name: keys[name] for name in names})
    if rule.kind == "random":
        classes = frame[params.data.target] if params.data.task == "classification" else None
        train, test = train_test_split(
            frame, test_size=size, random_state=params.seed, stratify=classes
        )
        _check_sides(train, test, params)
        return train, test
    if rule.kind == "stable":
        used = {params.data.target, params.data.weights}
        content = rule.columns or [name for name in frame if name not in used]
        is_test = _hash_cells(path, content, params.seed)[frame.index] < size * 2**64
    elif rule.kind == "group":
        is_test = _draw_groups(keys, size, params.seed)
    elif rule.kind == "time":
        times = _read_times(keys[rule.columns[0]], params)
        order = np.argsort(times, kind="stable")
        frame, times = frame.iloc[order], times[order]
        is_test = _find_latest(times, size)
    else:
        is_test = np.asarray(frame.index) >= first_test_row
    train, test = frame[~is_test], frame[is_test]
    _check_sides(train, test, params)
    return train, test


def make_folds(rows: Rows, params: Params) -> Folds:
    """Divide the rows to train on into folds, by the rule of the split.

    Args:
        rows: of data/train.csv.
        params: `data`, `seed` and `train.cv`.

    Raises:
        ConfigError: there are fewer moments or groups than folds.
    """
    cv, rule = params.train.cv, params.data.split
    is_class = params.data.task == "classification"
    shuffled = {"n_splits": cv, "shuffle": True, "random_state": params.seed}
    if rule.kind == "time":
        return Folds(_divide_by_time(rows, cv), None)
    groups = _find_groups(rows, params)
    if groups is None:
        folds = StratifiedKFold(**shuffled) if is_class else KFold(**shuffled)
        return Folds(list(folds.split(rows.features, rows.target)), None)
    count = int(groups.max()) + 1
    if count < cv:
        raise ConfigError("train.cv", f"{cv} folds of {count} groups: use fewer folds")
    stratified = is_class and count <= MOST_STRATIFIED
    by_group = StratifiedGroupKFold(**shuffled) if stratified else GroupKFold(**shuffled)
    pairs = list(by_group.split(rows.features, rows.target, groups))
    # A few equal rows do not mislead a calibration, the rows of one customer do.
    return Folds(pairs, groups if rule.columns else None)


def _find_groups(rows: Rows, params: Params) -> "np.ndarray | None":
    """Find the group of each row, as a number; None if no two rows have to stay together."""
    rule = params.data.split
    if rule.kind not in ("stable", "group"):
        return None
    if rule.columns:
        groups = rows.keys.groupby(list(rule.columns), dropna=False, sort=False).ngroup()
        groups = groups.to_numpy()
    else:
        groups, _ = pd.factorize(hash_rows(rows.features))
    return groups if int(groups.max()) + 1 < len(groups) else None


def make_inner_folds(params: Params, *, grouped: bool) -> Any:
    """Make the folds in which a classifier is calibrated, or its threshold is tuned.

    They are part of the model that is saved, so they are scikit-learn's own.
    """
    cv = params.train.cv
    if grouped:
        return StratifiedGroupKFold(n_splits=cv)
    if params.data.split.kind == "time":
        return StratifiedKFold(n_splits=cv)  # in order: each fold is a period
    return StratifiedKFold(n_splits=cv, shuffle=True, random_state=params.seed)


def _read_keys(path: Path, names: Sequence[str], index: "pd.Index") -> "pd.DataFrame":
    """Read the columns of a rule as text, as they stand in the file."""
    if not names:
        return pd.DataFrame(index=index)
    cells = pd.read_csv(path, usecols=list(names), dtype="str", na_filter=False)
    keys = cells[list(names)].loc[index]
    for name, column in keys.items():
        if (empty := column == "").any():
            problem = f"column '{name}' is empty in {list_rows(empty)}"
            hint = "fill these cells, leave the rows out, or use another rule"
            raise ConfigError("data.split", f"{problem}, so that they cannot be split; {hint}")
    return keys


def _hash_cells(path: Path, names: Sequence[str], seed: int) -> "np.ndarray":
    """Hash some cells of each row of a file, as text: types may change when a table grows."""
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        header = next(reader)
        at = [header.index(str(name)) for name in names]
        # The first cell twice, since of one alone there would be no tuple.
        pick, join, salt = itemgetter(*at, at[0]), MARK.join, f"{seed}{MARK}"
        digests = b"".join(
            [blake2b((salt + join(pick(row))).encode(), digest_size=8).digest() for row in reader]
        )
    return np.frombuffer(digests, dtype=">u8")


def _draw_groups(keys: "pd.DataFrame", size: float, seed: int) -> "np.ndarray":
    groups = keys.groupby(list(keys.columns), sort=True).ngroup().to_numpy()
    if int(groups.max()) == 0:
        problem = f"column '{keys.columns[0]}' has one group only: name another column"
        raise ConfigError("data.split", problem)
    draw = GroupShuffleSplit(n_splits=1, test_size=size, random_state=seed)
    _, test = next(draw.split(keys, groups=groups))
    is_test = np.zeros(len(keys), dtype=bool)
    is_test[test] = True
    return is_test


def _read_times(cells: "pd.Series", params: Params) -> "np.ndarray":
    """Read cells as numbers or dates, whichever all of them are."""
    schema = params.data.columns.get(str(cells.name))
    numbers = to_numbers(cells, params.data.decimal, params.data.thousands)
    if numbers.notna().all() and not (schema and schema.type == "date"):
        return np.asarray(numbers)
    times = parse_dates(cells, schema.format if schema else None)
    if times.isna().any():
        wrong = times.isna()
        words = list_words(cells[wrong].unique(), is_private=cells.name in params.data.private)
        problem = f"column '{cells.name}': {words} ({list_rows(wrong)})"
        raise ConfigError(
            "data.split",
            f"{problem} is no time; write numbers, dates as in 2026-01-31, or set "
            f"data.schema.{cells.name}",
        )
    return np.asarray(times.astype("int64"))


def _find_latest(times: "np.ndarray", size: float) -> "np.ndarray":
    """Find the latest rows, at least a share of them; those of one moment stay together."""
    boundary = times[len(times) - max(1, int(np.ceil(len(times) * size)))]
    is_test = times >= boundary
    return times > boundary if is_test.all() else is_test


def _divide_by_time(rows: Rows, cv: int) -> "list[tuple[np.ndarray, np.ndarray]]":
    """Divide rows in order of time: fit on what came before, score on what came next."""
    moments = rows.keys.iloc[:, 0]
    numbers = (moments != moments.shift()).cumsum().to_numpy() - 1
    count = int(numbers[-1]) + 1
    if count <= cv:
        problem = f"{cv} folds need more than {cv} moments to train on, and there are {count}"
        raise ConfigError("train.cv", f"{problem}: use fewer folds")
    pairs = TimeSeriesSplit(n_splits=cv).split(np.arange(count))
    return [
        (np.flatnonzero(numbers <= train[-1]), np.flatnonzero(np.isin(numbers, test)))
        for train, test in pairs
    ]


def _check_sides(train: "pd.DataFrame", test: "pd.DataFrame", params: Params) -> None:
    rows = len(train) + len(test)
    for name, part in (("test", test), ("train", train)):
        if part.empty:
            problem = f"'{params.data.split.kind}' leaves no row of {rows} to {name} on"
            hint = "change data.test_size, or use `split: random`"
            raise ConfigError("data.split", f"{problem}: {hint}")
    if params.data.task == "regression" and len(test) == 1:
        problem = f"'{params.data.split.kind}' leaves 1 row of {rows} to test on, and r2 needs 2"
        raise ConfigError("data.split", f"{problem}: raise data.test_size, or add rows")
    if params.data.task == "classification":
        target = params.data.target
        if missing := sorted(set(test[target]) - set(train[target]), key=str):
            problem = f"{list_words(missing)} of '{target}' is in test rows only"
            hint = "leave it out by data.drop_classes, or use `split: random`"
            raise ConfigError("data.split", f"{problem}: {hint}")
