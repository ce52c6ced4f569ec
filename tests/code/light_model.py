"""A saved model that is served as any other, without scikit-learn and without training.

Most of the time that a server of the default model takes to start is the import of scikit-learn
and pandas, which tells nothing about platforms. This model needs NumPy, and pandas only if it takes
tables; its code travels with it.
"""

from __future__ import annotations

import base64
import bisect
import hashlib
import json
import pickle
import platform
import sys
import types
import zlib
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any

import yaml

from tasks.core.settings import CHECKOUT
from tests.code.cutoffs import CUTOFFS

_CODE = Path(__file__).with_name("cutoffs.py")
_MODULE = "cutoffs"
_COLUMNS = {"alcohol": "float64", "proline": "float64"}
_ROWS = 24


def write_light_model(
    folder: Path,
    name: str,
    *,
    arrays: bool = False,
    cuts: tuple[float, float] = CUTOFFS,
) -> None:
    """Write what MLEM and the pipeline's last stage write of a model: four files.

    Args:
        folder: Where.
        name: Of the model.
        arrays: Whether it takes NumPy arrays instead of tables.
        cuts: The numbers at which its answer changes.
    """
    folder.mkdir(parents=True)
    source = _CODE.read_text().replace(f"CUTOFFS = {CUTOFFS}", f"CUTOFFS = {cuts}")
    model = _pickled(source)
    digest = {
        "size": len(model),
        "md5": hashlib.md5(model, usedforsecurity=False).hexdigest(),
        "sha256": hashlib.sha256(model).hexdigest(),
    }
    rows = [[11.0 + row / 8, 500.0 + row] for row in range(_ROWS)]
    inputs = rows if arrays else [dict(zip(_COLUMNS, row, strict=True)) for row in rows]
    classes = [bisect.bisect_right(cuts, row[0]) for row in rows]
    golden = {
        "format": 1,
        "inputs": inputs,
        "outputs": {
            "predict": classes,
            "predict_proba": [[float(label == other) for other in range(3)] for label in classes],
        },
    }
    runtime = {
        "format": 1,
        "name": name,
        "task": "classification",
        "classes": [0, 1, 2],
        **({} if arrays else {"columns": dict.fromkeys(_COLUMNS, "number")}),
        "nullable": [],
        "python": platform.python_version(),
        "artifacts": {f"model/{name}": digest},
        "packages": _installed_versions("numpy", *([] if arrays else ["pandas"])),
    }
    (folder / name).write_bytes(model)
    (folder / f"{name}.mlem").write_text(
        yaml.safe_dump(_metadata(name, source, digest, arrays=arrays))
    )
    (folder / f"{name}.golden.json").write_text(json.dumps(golden))
    (folder / f"{name}.runtime.json").write_text(json.dumps(runtime))


def _pickled(source: str) -> bytes:
    module = types.ModuleType(_MODULE)
    exec(compile(source, _CODE, "exec"), module.__dict__)
    sys.modules[_MODULE] = module  # where pickle looks for the class
    try:
        return pickle.dumps(module.Cutoffs())
    finally:
        del sys.modules[_MODULE]


def _metadata(name: str, source: str, digest: dict[str, Any], *, arrays: bool) -> dict[str, Any]:
    frame = {
        "type": "dataframe",
        "columns": list(_COLUMNS),
        "dtypes": list(_COLUMNS.values()),
        "index_cols": [],
    }

    def array(dtype: str, *columns: int) -> dict[str, Any]:
        return {"type": "ndarray", "dtype": dtype, "shape": [None, *columns]}

    def method(name: str, returns: dict[str, Any]) -> dict[str, Any]:
        argument = {"name": "X", "type_": array("float64", 2) if arrays else frame}
        return {"name": name, "args": [argument], "returns": returns}

    methods = {
        "predict": method("predict", array("int64")),
        "predict_proba": method("predict_proba", array("float64", 3)),
    }
    code = base64.b64encode(zlib.compress(source.encode())).decode()
    return {
        "object_type": "model",
        "artifacts": {"data": {"hash": digest["md5"], "size": digest["size"], "uri": name}},
        "call_orders": {method: [["model", method]] for method in methods},
        "processors": {"model": {"type": "sklearn", "methods": methods}},
        "requirements": [
            {"type": "custom", "name": _MODULE, "module": _MODULE, "source64zip": code}
        ],
    }


def _installed_versions(*packages: str) -> dict[str, str]:
    (site_packages,) = (CHECKOUT / "model" / ".venv").glob("lib/*/site-packages")
    return {
        package: next(Distribution.discover(name=package, path=[str(site_packages)])).version
        for package in packages
    }
