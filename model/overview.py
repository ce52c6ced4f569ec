"""Print the columns of the data and what is likely a mistake in them, as JSON; write nothing."""

import json

from model.check import check_data
from model.findings import describe_columns, find_warnings
from model.params import Params, run


def main(params: Params) -> None:
    """Print an object with `source`, `rows`, `columns` and `warnings`.

    Args:
        params: all of params.yaml.

    Raises:
        ConfigError: a stage would raise it.
    """
    table = check_data(params)
    overview = {
        "source": params.data.source,
        "rows": len(table.frame),
        "columns": describe_columns(table, params),
        "warnings": find_warnings(table, params),
    }
    print(json.dumps(overview, ensure_ascii=False))


if __name__ == "__main__":
    run(main)
