"""Run in the model environment: read tables as training does.

Each line of standard input has the content of a table; each line of output its rows to train on,
and what the model server is told of its columns.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, os.getcwd())  # noqa: PTH109 (as `python -m` does)

from model import fetch, files, params, process, save

os.chdir(tempfile.mkdtemp())
Path("data/source").mkdir(parents=True)
for line in sys.stdin:
    Path("data/source/table.csv").write_bytes(json.loads(line).encode())
    try:
        given = params.Params.parse_obj(json.loads(sys.argv[1]))
        fetch.main(given)
        process.main(given)
    except params.ConfigError as error:
        print(json.dumps({"refused": str(error)}), flush=True)
        continue
    features = files.read_split(files.TRAIN, given.data.target).features
    runtime = save.describe_inputs(files.read_data()["columns"])
    dtypes = [str(dtype) for dtype in features.dtypes]
    rows = features.astype(object).where(features.notna(), None).to_numpy().tolist()
    answer = {"runtime": runtime, "dtypes": dtypes, "rows": rows}
    print(json.dumps(answer, default=str), flush=True)
