"""Run in a model server's environment: read rows as the server does, before the model gets them.

Each line of standard input has rows, and what a model's files say of its columns.
"""

import json
import sys
from pathlib import Path

from pydantic import ValidationError

from serving.bundle import Bundle
from serving.errors import explain
from serving.inputs import make_frame_builder
from serving.interface import read_interface
from serving.requests import make_request_adapter


def as_mlem_writes(name: str) -> int | str:
    """Return a number for a name that Python reads as one."""
    try:
        return int(name)
    except ValueError:
        return name


for line in sys.stdin:
    table = json.loads(line)
    names = [as_mlem_writes(name) for name in table["runtime"]["columns"]]
    given = {"type": "dataframe", "columns": names, "dtypes": table["dtypes"], "index_cols": []}
    returns = {"type": "ndarray", "dtype": "int64", "shape": [None]}
    method = {"name": "predict", "args": [{"name": "X", "type_": given}], "returns": returns}
    model = {"type": "sklearn", "methods": {"predict": method}}
    mlem = {"processors": {"model": model}, "call_orders": {"predict": [["model", "predict"]]}}
    interface = read_interface(Bundle(Path("none"), "m", mlem, table["runtime"], {}, {}))
    adapter = make_request_adapter(interface, 1000)
    try:
        body = json.dumps(interface.wrap(table["rows"])).encode()
        rows = interface.unwrap(adapter.validate_json(body))
    except ValidationError as error:
        print(json.dumps(str(explain(error, interface, 1000))), flush=True)
        continue
    frame = make_frame_builder(interface)(rows)
    values = frame.astype(object).where(frame.notna(), None).to_numpy().tolist()
    answer = {
        "names": list(frame.columns),
        "dtypes": [str(dtype) for dtype in frame.dtypes],
        "rows": values,
    }
    print(json.dumps(answer, default=str), flush=True)
