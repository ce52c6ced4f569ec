"""Check params.yaml against itself and all of the data, as far as stages would; write nothing.

It prints what is allowed, but is often a mistake, as warnings on stderr, each with the key that
mends it.
"""

import sys
import tempfile
from pathlib import Path

from model import findings, process, train
from model.estimators import build
from model.fetch import write_table
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
    build(params)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "raw.csv")
        write_table(params, path)
        table = read_table(path, params.data)
    frame = process.select_rows(table.frame, params)
    rows, _ = process.split(frame, params)
    features = frame.drop(columns=params.data.target)
    text = any(column.dtype == "object" for _, column in features.items())
    missing = process.count_missing(table.frame.drop(columns=params.data.target))
    search = build(params, text=text, missing=any(missing.values()))
    train.check(params, search, rows[params.data.target])
    return table


if __name__ == "__main__":
    run(main)
