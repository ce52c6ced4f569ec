"""Check params.yaml against itself and all of the data, as far as stages would; write nothing.

It prints what is allowed, but is often a mistake, as warnings on stderr, each with the key that
mends it.
"""

import sys
import tempfile
from pathlib import Path

from model import findings, process, splits, train
from model.estimators import Traits, build
from model.fetch import write_table
from model.files import NUMBERS, make_rows
from model.params import Params, run
from model.tables import Table, read_table


def main(params: Params) -> None:
    """Refuse what `fetch`, `process` and `train` would refuse; print warnings.

    Args:
        params: all of params.yaml.

    Raises:
        ConfigError: a stage would raise it.
    """
    for warning in findings.find_warnings(check_data(params), params):
        print(warning, file=sys.stderr)


def check_data(params: Params) -> Table:
    """Check params.yaml and the data, and return the data; errors are those of `main`."""
    build(params, Traits())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "raw.csv")
        counts = write_table(params, path)
        table = read_table(path, params.data)
        frame = process.select_rows(table.frame, params)
        rows, _ = splits.split(frame, params, path, counts.rows)
    features = process.get_features(frame, params)
    traits = Traits(
        text=any(str(column.dtype) not in NUMBERS for _, column in features.items()),
        missing=any(process.count_missing(process.get_features(table.frame, params)).values()),
    )
    data = params.data
    keys = list(data.split.columns)
    split = make_rows(rows, list(features), data.target, data.weights, keys)
    train.plan(params, split, traits)
    return table


if __name__ == "__main__":
    run(main)
