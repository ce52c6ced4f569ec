"""Files that stages pass to one another; tables are read back with the same types."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from model import dates

RAW = Path("data/raw.csv")
RAW_ROWS = Path("data/raw.json")
TRAIN = Path("data/train.csv")
TEST = Path("data/test.csv")
PROFILE = Path("data/profile.json")
ESTIMATOR = Path("model/estimator.pkl")
DATA = Path("reports/data.json")
CV = Path("reports/cv.json")
METRICS = Path("reports/metrics.json")
EVALUATION = Path("reports/evaluation.json")
PREDICTIONS = Path("data/predictions.csv")
FORMER_PREDICTIONS = Path("reports/predictions.csv")  # in Git, as earlier versions wrote them
# The types of columns, by dtype of pandas: see model/tables.py.
TYPES = {
    "int64": "integer",
    "float64": "number",
    "bool": "boolean",
    "boolean": "boolean",
    "object": "text",
    dates.DTYPE: "datetime",
}
NUMBERS = frozenset({"int64", "float64", "bool", "boolean"})


class Counts(NamedTuple):
    """Numbers of rows in data/raw.csv: of the data, and after them of a test file of one's own."""

    rows: int
    test_rows: int


class Rows(NamedTuple):
    """The rows of a split, each with one entry in all four.

    Attributes:
        features: what is learnt from.
        target: what is to be predicted.
        weights: how much each row counts in training; None if all count alike.
        keys: the columns of the rule of the split.
    """

    features: "pd.DataFrame"
    target: "pd.Series"
    weights: "pd.Series | None"
    keys: "pd.DataFrame"


def get_model_path(name: str, suffix: str = "") -> Path:
    """Return the path of the model `name`, or of a file beside it, e.g. with suffix `.mlem`."""
    return Path("model", name + suffix)


def remove_former_models(name: str) -> None:
    """Remove what was saved under other names: a change of `name` leaves it behind."""
    for runtime in Path("model").glob("*.runtime.json"):
        former = runtime.name.removesuffix(".runtime.json")
        if former != name:
            for suffix in (
                "",
                ".mlem",
                ".golden.json",
                ".runtime.json",
                ".sig",
                ".provenance.json",
            ):
                get_model_path(former, suffix).unlink(missing_ok=True)


def read_counts() -> Counts:
    """Read data/raw.json, from the fetch stage."""
    return Counts(**json.loads(RAW_ROWS.read_text(encoding="utf-8")))


def read_data() -> dict[str, Any]:
    """Read reports/data.json: rows, target and columns, from the process stage."""
    return dict(json.loads(DATA.read_text(encoding="utf-8")))


def read_split(path: Path, target: str) -> Rows:
    """Read data/train.csv or data/test.csv with the types that the whole data has.

    The types of one split, guessed from it alone, may differ: no value missing, all digits.
    Text is of dtype object, not pandas' `str`, which MLEM's server cannot handle.
    """
    data = read_data()
    columns, keys, weights = data["columns"], data["split"]["columns"], data["weights"]
    dtypes = dict.fromkeys(keys, "str")
    dtypes |= {name: column["dtype"] for name, column in columns.items()}
    dtypes[target] = data["target"]["dtype"]
    moments = [name for name, dtype in dtypes.items() if dtype == dates.DTYPE]
    dtypes |= dict.fromkeys(moments, "str")
    # Only the empty cell is missing: what else stood for a missing value is gone by now.
    frame = pd.read_csv(path, dtype=dtypes, keep_default_na=False, na_values=[""])
    frame = frame.assign(**{name: dates.parse_dates(frame[name]) for name in moments})
    return make_rows(frame, list(columns), target, weights, keys)


def make_rows(
    frame: "pd.DataFrame", columns: list[str], target: str, weights: str | None, keys: list[str]
) -> Rows:
    """Divide the columns of a split: features, target, weights, and keys of the split."""
    return Rows(frame[columns], frame[target], frame[weights] if weights else None, frame[keys])


def read_target(path: Path, target: str) -> "pd.Series":
    """Read the target alone of data/train.csv or data/test.csv, as `read_split` has it."""
    dtypes = {target: read_data()["target"]["dtype"]}
    options: dict[str, Any] = {"keep_default_na": False, "na_values": [""], "usecols": [target]}
    return pd.read_csv(path, dtype=dtypes, **options)[target]


def write_json(path: Path, value: Any) -> None:
    """Write a report: stable, readable in a diff, without what JSON cannot express (NaN).

    Args:
        path: the file; its folder is created.
        value: of dict, list, str, int, float, bool, None.

    Raises:
        ValueError: the value has a NaN or an infinity in it.
    """
    path.parent.mkdir(exist_ok=True)
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")
