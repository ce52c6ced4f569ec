"""Run in the model environment: try each edit of params.yaml, print what the check says as JSON."""

import contextlib
import io
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, os.getcwd())  # noqa: PTH109 (as `python -m` does)

from model import fetch, params

good = Path("params.yaml").read_text()
answers = []
for old, new in json.loads(Path(sys.argv[1]).read_text()):
    assert old in good, old
    Path("params.yaml").write_text(good.replace(old, new))
    output = io.StringIO()
    try:
        with contextlib.redirect_stderr(output):
            params.run(fetch.main)
    except SystemExit as end:
        answers.append([end.code, output.getvalue()])
Path("params.yaml").write_text(good)
print(json.dumps(answers))
