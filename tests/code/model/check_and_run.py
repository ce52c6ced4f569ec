"""Run in the model environment: check each folder named on the command line, then run its stages.

`outcome.json` in the folder says what the check refused, and its warnings; a folder with a file
`check-only` is not trained.
"""

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, os.getcwd())  # noqa: PTH109 (as `python -m` does)

from model import check, evaluate, fetch, findings, params, process, save, train

for name in sys.argv[1:]:
    os.chdir(name)
    outcome = {"refused": "", "warnings": [], "columns": []}
    try:
        given = params.load()
        table = check.check_data(given)
        outcome["warnings"] = findings.find_warnings(table, given)
        outcome["columns"] = findings.describe_columns(table, given)
    except params.ConfigError as error:
        outcome["refused"] = str(error)
    Path("outcome.json").write_text(json.dumps(outcome))
    if not outcome["refused"] and not Path("check-only").exists():
        for stage in (fetch, process, train, save, evaluate):
            stage.main(given)
